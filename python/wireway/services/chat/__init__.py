"""The chat service: rooms over raw TCP lines, length-prefixed JSON and WebSocket, all the same rooms.

The map::

    Chat, ChatLimits     the service, its bounds                      service.py, limits.py
    Rooms                who is where and what was said; no I/O       rooms.py
    names                what may be a name, and a message            names.py
    wire                 events and commands as lines and as JSON     wire.py
    Browsers, page.html  WebSocket, and the page                      browsers.py
"""

from wireway.services.chat.limits import ChatLimits
from wireway.services.chat.service import Chat

__all__ = ["Chat", "ChatLimits"]
