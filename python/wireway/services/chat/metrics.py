"""What a chat tells of itself to who collects metrics: rooms, people, and what was said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from wireway.services.chat.rooms import Rooms

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

__all__ = ["ChatMetrics"]


class ChatMetrics:
    """A collector of prometheus_client. Belongs to the loop's thread, as the rooms do."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    @property
    def registry(self) -> CollectorRegistry:
        """A registry of it alone."""
        from prometheus_client import CollectorRegistry

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return registry

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client asks for."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        rooms, people, messages = self._rooms.counts
        yield GaugeMetricFamily("wireway_chat_rooms", "Rooms that somebody is in.", value=rooms)
        yield GaugeMetricFamily("wireway_chat_people", "People who are there.", value=people)
        yield CounterMetricFamily("wireway_chat_messages", "Messages that were said in rooms.", value=messages)
