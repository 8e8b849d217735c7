"""What people import to test their own services. The map::

    memory_pair, handle                  a connected pair without sockets             pair.py, memory.py
    served, connect_to                   a real server on a free port, and clients    serving.py
    FakeClock                            the time of a loop, moved by hand            clock.py
    FaultyLink, Fault, Counts            a proxy with faults of the network           faults.py, relay.py, bridge.py
    no_descriptors, no_leaks             descriptors: none to be had, none left open  descriptors.py
    check_framing, check_service         what must hold of all of them                contracts.py

The fixtures of pytest are in `wireway.testing.plugin`.
"""

from wireway.testing.clock import FakeClock
from wireway.testing.contracts import check_framing, check_service
from wireway.testing.descriptors import DescriptorTable, LeakError, no_descriptors, no_leaks, open_descriptors
from wireway.testing.faults import Fault, FaultyLink
from wireway.testing.memory import MemoryConnection
from wireway.testing.pair import handle, memory_pair
from wireway.testing.relay import Counts
from wireway.testing.serving import Served, connect_to, served

__all__ = [
    "Counts",
    "DescriptorTable",
    "FakeClock",
    "Fault",
    "FaultyLink",
    "LeakError",
    "MemoryConnection",
    "Served",
    "check_framing",
    "check_service",
    "connect_to",
    "handle",
    "memory_pair",
    "no_descriptors",
    "no_leaks",
    "open_descriptors",
    "served",
]
