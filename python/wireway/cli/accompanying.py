"""What runs beside the servers of a command: the control socket, and metrics if they are asked for.

Owns when each begins and ends, and what is said of it. Knows no service.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import wireway
from wireway.observe.control import Control
from wireway.serve.lasting import keep, taken

if TYPE_CHECKING:
    from wireway.observe.endpoint import Metrics

__all__ = ["Company"]

_TRIES, _PAUSE = 120, 0.5
"""How often, and after how many seconds, a path is asked for that another worker still has while it drains."""
_PORT = re.compile(r"[0-9]{1,5}")
_BARE = re.compile(r"(\[[0-9a-fA-F:.%]+\]|[\w.*-]+):[0-9]{1,5}")


class Company:
    """Of one process. `open` comes before anything is served, `run` goes on as long as the loop does.

    :param what: what the process is, in a few words.
    :param metrics: where metrics and health are told: an address, ``host:port``, or a port of loopback. None: nowhere.
    :param registry: metrics of the service, which are told too.
    :param is_worker: it is one of several processes, whose supervisor has the sockets.
    :param is_whole: it has every server of the program. One that lacks some answers nobody: it would tell less.
    :param control: where the control socket is, if not where they usually are; False: there is none.
    """

    def __init__(
        self,
        what: str,
        metrics: str | None,
        *,
        registry: Any = None,
        is_worker: bool = False,
        is_whole: bool = True,
        control: Path | Literal[False] | None = None,
    ) -> None:
        self._what, self._is_worker, self._is_whole = what, is_worker, is_whole
        self._control: Path | Literal[False] | None = control
        self._address, self._registry = metrics, registry
        self._metrics: Metrics | None = None

    def open(self) -> None:
        """Listen for who collects metrics, or take over the sockets of the process before.

        :raises ConfigError: the address is wrong.
        :raises OSError: it is taken, or not permitted.
        """
        sockets = taken()
        if self._address is None or not self._is_whole:
            for sock in sockets:
                sock.close()
            return
        from wireway.observe.endpoint import Metrics

        metrics = Metrics(address=address_of(self._address), registry=self._registry)
        if sockets:
            metrics.inherit(sockets)
        elif self._is_worker:
            logging.getLogger("wireway.metrics").warning("no metrics: stop the server and start it again to have them")
            return
        else:
            sockets = metrics.listen()
        keep(sockets)
        self._metrics = metrics

    def close(self) -> None:
        """Let go of what `open` took."""
        if self._metrics is not None:
            self._metrics.close()

    @property
    def lines(self) -> dict[str, str]:
        """What is said of it at the start."""
        found = {} if self._control is False else {"control": str(self._control or Control.usual_path())}
        if self._metrics is not None:
            where = self._metrics.addresses[0].replace("tcp://", "http://", 1)
            found["metrics"] = f"{where}/metrics, health on /livez and /readyz"
        return found

    async def run(self, servers: Sequence[wireway.Server]) -> None:
        """Tell of these servers until the loop ends and cancels it."""
        async with contextlib.AsyncExitStack() as company:
            if self._address is not None:
                for server in servers:
                    server.time_handlers()  # also where another process tells of it
            if self._metrics is not None:
                self._metrics.watch(servers)
                await company.enter_async_context(self._metrics)
            if self._control is not False:
                await self._listen(servers, self._control, company)
            await asyncio.Event().wait()

    async def _listen(
        self, servers: Sequence[wireway.Server], path: Path | None, company: contextlib.AsyncExitStack
    ) -> None:
        """Have a control socket. A worker that takes another's place waits until that one has let go of the path."""
        left = _TRIES if self._is_worker and path is not None else 1
        while left:
            left -= 1
            try:
                await company.enter_async_context(Control(servers, self._what, path))
                return
            except (wireway.WirewayError, OSError) as error:
                if not left or not isinstance(error, wireway.AddressInUseError):
                    logging.getLogger("wireway.control").warning("no control socket: %s", error)
                    return
            await asyncio.sleep(_PAUSE)


def address_of(text: str) -> str:
    """The address that is meant: ``9100``, ``127.0.0.1:9100`` and ``http://127.0.0.1:9100`` are ``tcp://`` ones."""
    if _PORT.fullmatch(text):
        return f"tcp://127.0.0.1:{text}"
    if _BARE.fullmatch(text):
        return f"tcp://{text}"
    return re.sub("^http://", "tcp://", text)
