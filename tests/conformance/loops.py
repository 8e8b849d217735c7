"""Owns the question "which loop does a test get?" and knows nothing of the tests.

CPython's suite makes its loops in three ways, and each must give the loop under test:

* a mixin asks its own `create_event_loop` or `new_loop`, which `catalogue` points at `ACTIVE`;
* `asyncio.new_event_loop()`, `asyncio.run`, `asyncio.Runner()` and `IsolatedAsyncioTestCase` ask the default policy,
  also after a module has called `set_event_loop_policy(None)`. So the default policy's own factory is replaced,
  not merely a policy set, which the first such call would undo;
* `asyncio.EventLoop` (3.13 on), which some modules read while they are imported.

`ACTIVE` is one callable that is put in place once, before the test modules are imported. Which loop it makes is chosen
later, in the process of each test: so one parent can serve every back end.
"""

from __future__ import annotations

import asyncio
import asyncio.unix_events
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

BACKENDS = ("io_uring", "epoll", "poll", "select", "sigio")
STOCK_LOOP: type[asyncio.AbstractEventLoop] = asyncio.SelectorEventLoop


@dataclass(frozen=True, order=True)
class LoopChoice:
    """A loop, and for wireway its back end: one row of the table."""

    loop: str
    backend: str = ""

    def __str__(self) -> str:
        return f"{self.loop} {self.backend}".strip()


class ActiveFactory:
    """A callable that makes the chosen loop.

    An object and not a function, since it is stored as a class attribute and must not become a method there.
    """

    def __init__(self) -> None:
        self._make: Callable[[], asyncio.AbstractEventLoop] = STOCK_LOOP

    def use(self, choice: LoopChoice) -> None:
        self._make = maker(choice)

    def __call__(self, *_selector: object) -> asyncio.AbstractEventLoop:
        return self._make()


ACTIVE = ActiveFactory()


def maker(choice: LoopChoice) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the loop of `choice`.

    Raises:
        ImportError: the package of that loop is not installed in this interpreter.
    """
    if choice.loop == "asyncio":
        return STOCK_LOOP
    module: Any = importlib.import_module(choice.loop)
    if choice.loop == "wireway":
        return partial(module.new_event_loop, backend=choice.backend)
    make: Callable[[], asyncio.AbstractEventLoop] = module.new_event_loop
    return make


def install() -> None:
    """Put `ACTIVE` wherever asyncio keeps its default loop. Call it before any test module is imported."""
    policy: Any = asyncio.unix_events._UnixDefaultEventLoopPolicy
    policy._loop_factory = ACTIVE
    if hasattr(asyncio, "EventLoop"):
        vars(asyncio)["EventLoop"] = ACTIVE


def probe(choice: LoopChoice) -> str | None:
    """Import the loop here, make and close one in a child process; return why that cannot be done, or None.

    A child, since the parent is forked for each test and must never have had a loop.
    """
    try:
        make = maker(choice)
    except ImportError as error:
        return f"{type(error).__name__}: {error}"
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        text = ""
        try:
            make().close()
        except BaseException as error:  # noqa: BLE001 - the child must not return to the parent's stack
            text = f"{type(error).__name__}: {error}"
        finally:
            os.write(writer, text.encode()[:4096])
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        said = stream.read().decode()
    _, status = os.waitpid(pid, 0)
    return said or (f"making a loop ended the process with {os.waitstatus_to_exitcode(status)}" if status else None)
