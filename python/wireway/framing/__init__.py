"""How a stream of bytes is cut into messages. What a user names; the cutting itself is native.

A framing is a value: frozen, comparable, checked when it is made. Knows no socket. The map::

    Raw, Lines, Delimiter, FixedLength   no length on the wire            plain.py
    LengthPrefix, Varint                 a length before each message     lengths.py
    Tpkt, Mbap                           the headers of two protocols     protocols.py
    CustomFraming, Need, Frame           a function of yours              custom.py
    Framing                              any of them                      kinds.py
    FrameError                           what is no frame                 failure.py
    explain, Explanation                 how bytes are cut, for people    explaining.py, hints.py
    framing_of, framing_name             names for options and files      names.py, escapes.py
"""

from wireway.framing.custom import CustomFraming, Frame, Need
from wireway.framing.explaining import ExplainedFrame, Explanation, explain
from wireway.framing.failure import FrameError
from wireway.framing.kinds import Framing
from wireway.framing.lengths import LengthPrefix, Varint
from wireway.framing.plain import Delimiter, FixedLength, Lines, Raw
from wireway.framing.protocols import Mbap, Tpkt

__all__ = [
    "CustomFraming",
    "Delimiter",
    "ExplainedFrame",
    "Explanation",
    "FixedLength",
    "Frame",
    "FrameError",
    "Framing",
    "LengthPrefix",
    "Lines",
    "Mbap",
    "Need",
    "Raw",
    "Tpkt",
    "Varint",
    "explain",
]
