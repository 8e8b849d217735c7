"""Publish and subscribe: topics are groups.

Shows join and leave, a broadcast that leaves its sender out, counts, and what happens to a subscriber that does not
read: it loses the oldest messages, and nobody waits for it. The message is framed once for all subscribers.
Try it: python examples/07_broadcast_groups.py, then twice: nc 127.0.0.1 9000. Type `+news` in one, `news it rains` in
the other; `?` lists the topics.
"""

from __future__ import annotations

import wireway

server = wireway.Server(
    "tcp://127.0.0.1:9000",
    framing=wireway.Lines(),
    buffers=wireway.Buffers(when_slow="drop-oldest", droppable=100),
)


@server.on_message
def command(conn: wireway.Connection, line: bytes) -> None:
    """`+topic` subscribes, `-topic` ends it, `?` lists, anything else publishes its rest to the topic before it."""
    topic, _, text = line.decode(errors="replace").partition(" ")
    if line == b"?":
        topics = (f"{name} ({count})" for name, count in sorted(server.groups.items()))
        conn.send_nowait(", ".join(topics).encode() or b"no topics")
    elif topic.startswith("+"):
        conn.join(topic[1:])
    elif topic.startswith("-"):
        conn.leave(topic[1:])
    else:
        reached = server.broadcast(f"{topic}: {text}".encode(), topic, exclude=[conn])
        conn.send_nowait(f"sent to {reached}".encode())


if __name__ == "__main__":
    server.run()
