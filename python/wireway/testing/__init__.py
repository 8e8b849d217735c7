"""What people import to test their own services. The map::

    memory_pair, handle                  a connected pair without sockets             pair.py
    FakeClock                            the time of a loop, moved by hand            clock.py
    FaultyLink, Fault, Counts            a proxy with faults of the network           faults.py, relay.py, bridge.py
    no_descriptors, no_leaks             descriptors: none to be had, none left open  descriptors.py

The fixtures of pytest are in `wireway.testing.plugin`.
"""

from wireway.testing.clock import FakeClock
from wireway.testing.descriptors import DescriptorTable, LeakError, no_descriptors, no_leaks, open_descriptors
from wireway.testing.faults import Fault, FaultyLink
from wireway.testing.pair import MemoryConnection, handle, memory_pair
from wireway.testing.relay import Counts

__all__ = [
    "Counts",
    "DescriptorTable",
    "FakeClock",
    "Fault",
    "FaultyLink",
    "LeakError",
    "MemoryConnection",
    "handle",
    "memory_pair",
    "no_descriptors",
    "no_leaks",
    "open_descriptors",
]
