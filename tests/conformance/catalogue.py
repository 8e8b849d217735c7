"""Owns the list of CPython's tests that a loop must pass, and builds their classes.

Two groups, counted as the suites of other loops count them:

* `mixins`: the test classes CPython parametrises by loop. Here each is given a loop through its own hook.
  108 tests on 3.11, 111 on 3.12, 114 on 3.13.
* `modules`: whole modules that use whatever loop is the default.

It does not know which loop that is (see `loops`), nor how a test is run (see `isolate`).
"""

from __future__ import annotations

import importlib
import unittest
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from loops import ACTIVE

PACKAGE = "test.test_asyncio"
MODULES = ("test_ssl", "test_streams", "test_subprocess", "test_taskgroups", "test_timeouts", "test_runners")

NO_TEST_PACKAGE = """\
This interpreter has no `test.test_asyncio`: CPython's own test suite is not installed beside it.
  Debian and Ubuntu  apt-get install libpython3-testsuite   (for a given version: libpython3.11-testsuite)
  Fedora             dnf install python3-test
  Alpine             apk add python3-tests
  pyenv, uv, source  the suite is part of the install; a "slim" or embedded build has dropped it: take the full one
Reason given by Python: {error}"""


@dataclass(frozen=True)
class Mixin:
    """One parametrised class of CPython: where it is, and what it needs beside it to be a TestCase.

    A name may be several separated by `|`: the first that this Python has is taken.
    """

    module: str
    name: str
    companion: str = ""
    optional: bool = False


# 3.14 has no child watchers; `UnixEventLoopTestsMixin`, which only attached one, went with them.
UNIX_LOOP = "UnixEventLoopTestsMixin|EventLoopTestsMixin"


# `SubprocessTestsMixin` runs on what the other one's `setUp` makes, so it takes that class with it.
MIXINS = (
    Mixin("test_events", UNIX_LOOP),
    Mixin("test_events", "SubprocessTestsMixin", companion=UNIX_LOOP),
    Mixin("test_sock_lowlevel", "BaseSockTestsMixin"),
    Mixin("test_sendfile", "SendfileTestsBase"),
    Mixin("test_buffered_proto", "BaseTestBufferedProtocol"),
    Mixin("test_server", "BaseStartServer"),
    Mixin("test_server", "TestServer2", optional=True),  # from 3.12
)


@dataclass(frozen=True)
class Case:
    """One test: its stable name, its group, and how to make it."""

    name: str
    group: str
    cls: type[unittest.TestCase]
    method: str

    def build(self) -> unittest.TestCase:
        return self.cls(self.method)


class TestPackageMissingError(Exception):
    """CPython's test package is absent; the text says how to get it."""


def collect() -> list[Case]:
    """Return every test of this interpreter's suite, mixins first, each name once.

    Raises:
        TestPackageMissingError: the interpreter has no `test.test_asyncio`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _tolerate_foreign_loops(_load("utils").TestCase)
        return [*_mixin_cases(), *_module_cases()]


def _load(module: str) -> ModuleType:
    try:
        return importlib.import_module(f"{PACKAGE}.{module}")
    except ModuleNotFoundError as error:
        raise TestPackageMissingError(NO_TEST_PACKAGE.format(error=error)) from error


def _mixin_cases() -> Iterator[Case]:
    base = _load("utils").TestCase
    for spec in MIXINS:
        module = _load(spec.module)
        mixin = _find(module, spec.name)
        if mixin is None:
            if spec.optional:
                continue
            raise LookupError(f"{PACKAGE}.{spec.module} has no {spec.name}: this Python needs a new line in MIXINS")
        cls = _concrete(module, mixin, _find(module, spec.companion), base)
        for method in unittest.defaultTestLoader.getTestCaseNames(_bare(mixin)):
            yield Case(f"{spec.module}.{mixin.__name__}.{method}", "mixins", cls, method)


def _find(module: ModuleType, names: str) -> type | None:
    found: list[type] = [getattr(module, name) for name in names.split("|") if hasattr(module, name)]
    return found[0] if found else None


def _tolerate_foreign_loops(base: Any) -> None:
    """Let the clean-up of CPython's TestCase accept a loop without `_default_executor`.

    Only loops that do not inherit from `BaseEventLoop` (uvloop) lack it; without this each of their tests fails
    in its clean-up, which says nothing of the test. Loops that have it are closed by CPython's own code.
    """
    strict = base.close_loop

    def close_loop(loop: Any) -> None:
        if hasattr(loop, "_default_executor"):
            strict(loop)
            return
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    base.close_loop = staticmethod(close_loop)


def _bare(mixin: type) -> type[unittest.TestCase]:
    """Return a TestCase with the tests of `mixin` alone, to name them."""
    return mixin if issubclass(mixin, unittest.TestCase) else type("Bare", (mixin, unittest.TestCase), {})


def _concrete(module: ModuleType, mixin: type, companion: type | None, base: type) -> type[unittest.TestCase]:
    """Return the class CPython would write for one more selector: mixin, companion, its TestCase, our loop."""
    if issubclass(mixin, unittest.TestCase):
        return mixin
    hooks = {
        "create_event_loop": lambda self: ACTIVE(),
        "new_loop": lambda self: ACTIVE(),
        "__module__": module.__name__,  # setUpModule and tearDownModule are found through it
    }
    functional = hasattr(mixin, "new_loop")
    parents = (mixin, *([companion] if companion else []), unittest.TestCase if functional else base)
    return type(mixin.__name__, parents, hooks)


def _module_cases() -> Iterator[Case]:
    for name in MODULES:
        for test in _flatten(unittest.defaultTestLoader.loadTestsFromModule(_load(name))):
            method = test._testMethodName
            yield Case(f"{name}.{type(test).__qualname__}.{method}", "modules", type(test), method)


def _flatten(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from _flatten(item)
        else:
            yield item
