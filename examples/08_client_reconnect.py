"""A client that stays connected: it finds its server again, logs in again, and loses little.

Shows reconnecting with a growing delay, a greeting after each reconnect, states, and messages that wait meanwhile.
Try it: python examples/08_client_reconnect.py, and python examples/01_echo.py in another shell. Stop that one,
and start it again.
"""

from __future__ import annotations

import asyncio

import wireway

ADDRESS = "tcp://127.0.0.1:9000"


async def log_in(client: wireway.Client) -> None:
    """Runs after each reconnect. What it sends goes before what waits."""
    await client.send(b"it is me again")


def told(_client: wireway.Client, state: wireway.ClientState, reason: wireway.CloseReason | None) -> None:
    """Each change of state, with the reason where a connection was lost."""
    print(f"{state}" + (f": {reason}" if reason else ""))


async def main(address: str = ADDRESS, *, pause: float = 1.0, count: int = 1_000_000) -> list[bytes]:
    """Count aloud, and return what came back."""
    heard = []
    reconnect = wireway.Reconnect(first=0.1, most=10.0, jitter=0.5, at_start=True)
    async with wireway.connect(
        address, framing=wireway.Lines(), reconnect=reconnect, on_reconnect=log_in, on_state=told
    ) as client:
        for number in range(count):
            await client.send(b"%d" % number)  # without a connection it waits in the outgoing queue
            heard.append(await client.receive())
            print(heard[-1].decode())
            await asyncio.sleep(pause)
    return heard


if __name__ == "__main__":
    wireway.run(main())
