"""The chat service: rooms over raw TCP lines, length-prefixed JSON and WebSocket, all the same rooms.

The map::

    Chat, ChatLimits     the service, its bounds                      service.py, rooms.py
    Rooms                who is where and what was said; no I/O       rooms.py
    wire                 events and commands as lines and as JSON     wire.py
    page.html            the page for browsers
"""

from wireway.services.chat.rooms import ChatLimits
from wireway.services.chat.service import Chat

__all__ = ["Chat", "ChatLimits"]
