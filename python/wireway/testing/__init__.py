"""What people import to test their own services. The map::

FaultyLink, Fault, Counts            a proxy with faults of the network           faults.py, relay.py, bridge.py
no_descriptors, no_leaks             descriptors: none to be had, none left open  descriptors.py
"""

from wireway.testing.descriptors import DescriptorTable, LeakError, no_descriptors, no_leaks, open_descriptors
from wireway.testing.faults import Fault, FaultyLink
from wireway.testing.relay import Counts

__all__ = [
    "Counts",
    "DescriptorTable",
    "Fault",
    "FaultyLink",
    "LeakError",
    "no_descriptors",
    "no_leaks",
    "open_descriptors",
]
