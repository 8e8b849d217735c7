"""Services that people start as they are, each a page long, each on the public API only; and how others add theirs.

The map::

    Service, Listener     the contract: what a service tells of itself, where it serves    contract.py
    find_services         wireway's own, and those of other packages                       finding.py
    echo, web, chat       wireway's own
"""

from wireway.services.contract import Listener, NoOptions, Service
from wireway.services.finding import BrokenServiceError, FoundService, find_service, find_services

__all__ = ["BrokenServiceError", "FoundService", "Listener", "NoOptions", "Service", "find_service", "find_services"]
