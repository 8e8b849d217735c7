"""`Framing`: any of the framings, as a type and for `isinstance`."""

from __future__ import annotations

from wireway.framing.custom import CustomFraming
from wireway.framing.lengths import LengthPrefix, Varint
from wireway.framing.plain import Delimiter, FixedLength, Lines, Raw
from wireway.framing.protocols import Mbap, Tpkt

__all__ = ["Framing"]

Framing = Raw | Lines | Delimiter | FixedLength | LengthPrefix | Varint | Tpkt | Mbap | CustomFraming
