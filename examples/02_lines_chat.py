"""A chat: what one says, all others read; a line can also be for one person, on all their devices.

Shows both sides speaking at any time, one to many (a group), and one to one (a user with several connections).
Try it: python examples/02_lines_chat.py, then in two other shells: nc 127.0.0.1 9000. The first line is your name.
Then `hello` is for everybody, `/to ann hello` for ann.
"""

from __future__ import annotations

import wireway

server = wireway.Server("tcp://127.0.0.1:9000", framing=wireway.Lines(max_size=1000))


@server.on_connect
def welcome(conn: wireway.Connection) -> None:
    """Called before the first line is read."""
    conn.send_nowait(b"* what is your name?")


@server.on_message
def said(conn: wireway.Connection, line: bytes) -> None:
    """The first line is a name; `conn.user` keeps it, and `join` lets the others' lines in."""
    line = line.strip()
    if conn.user is None:
        conn.user = line.decode(errors="replace")
        conn.join("room")
        server.broadcast(b"* %b is here" % line, "room")
    elif line.startswith(b"/to "):
        name, _, text = line[4:].partition(b" ")
        if not server.send_to_user(name.decode(errors="replace"), b"%b to you: %b" % (conn.user.encode(), text)):
            conn.send_nowait(b"* nobody here is called " + name)
    else:
        server.broadcast(b"%b: %b" % (conn.user.encode(), line), "room", exclude=[conn])


@server.on_close
def left(conn: wireway.Connection, reason: wireway.CloseReason) -> None:
    """Called once for each connection, however it ended."""
    if conn.user is not None:
        server.broadcast(b"* %b left (%b)" % (conn.user.encode(), reason.code.encode()), "room", exclude=[conn])


if __name__ == "__main__":
    server.run()
