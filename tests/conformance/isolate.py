"""Owns the running of one test in one process, and of many such processes at a time.

The parent has imported everything and never starts a thread or a loop; each test is a `fork` of it. So a test costs
some milliseconds of start-up and still has its own signals, descriptors, child processes and crash.

    parent ── fork ──▶ child: own process group, own directory, stdout and stderr into a file,
       │                      chooses the loop, runs the test, writes result.json, _exit
       └─ waits on the pidfd of each child until its deadline; then kills the whole group

It knows `Case` and `LoopChoice` and nothing of reports.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import json
import os
import selectors
import shutil
import signal
import sys
import tempfile
import time
import traceback
import unittest
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from catalogue import Case
from loops import ACTIVE, LoopChoice

MAX_OUTPUT = 12_000  # characters of a failing test's output that are kept: its beginning and its end


@dataclass(frozen=True)
class Outcome:
    """How one test ended: `passed`, `failed`, `skipped`, `timeout` or `crash`, with what it printed."""

    case: Case
    choice: LoopChoice
    status: str
    seconds: float
    detail: str = ""

    @property
    def bad(self) -> bool:
        return self.status in ("failed", "timeout", "crash")


@dataclass
class _Child:
    case: Case
    choice: LoopChoice
    pid: int
    pidfd: int
    home: Path
    started: float
    deadline: float


def run_all(work: Iterable[tuple[Case, LoopChoice]], jobs: int, timeout: float) -> Iterator[Outcome]:
    """Run each test in its own process, `jobs` at a time, and yield outcomes as they come."""
    pending = iter(work)
    running: dict[int, _Child] = {}
    root = Path(tempfile.mkdtemp(prefix="conformance-"))
    try:
        with selectors.DefaultSelector() as selector:
            while True:
                while len(running) < jobs and (item := next(pending, None)) is not None:
                    child = _start(*item, root, timeout)
                    running[child.pidfd] = child
                    selector.register(child.pidfd, selectors.EVENT_READ)
                if not running:
                    return
                wait = max(0.0, min(child.deadline for child in running.values()) - time.monotonic())
                ready = {key.fd for key, _ in selector.select(wait)}
                now = time.monotonic()
                for pidfd, child in list(running.items()):
                    if pidfd in ready or now >= child.deadline:
                        selector.unregister(pidfd)
                        del running[pidfd]
                        yield _finish(child, timed_out=pidfd not in ready)
    finally:
        for child in running.values():
            _finish(child, timed_out=True)
        shutil.rmtree(root, ignore_errors=True)


def _start(case: Case, choice: LoopChoice, root: Path, timeout: float) -> _Child:
    home = Path(tempfile.mkdtemp(dir=root))
    sys.stdout.flush()
    sys.stderr.flush()
    faulthandler.cancel_dump_traceback_later()  # pytest's: a child would wait for its thread, which fork does not copy
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _child_main(case, choice, home, timeout)
    return _Child(case, choice, pid, os.pidfd_open(pid), home, started, started + timeout)


def _finish(child: _Child, *, timed_out: bool) -> Outcome:
    """Reap a child, kill what it left behind in its group, and say how it ended."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        if timed_out:  # it had not yet made its group
            os.kill(child.pid, signal.SIGKILL)
    _, status = os.waitpid(child.pid, 0)
    os.close(child.pidfd)
    seconds = time.monotonic() - child.started
    output = _read(child.home / "output")
    result = child.home / "result.json"
    if timed_out:
        verdict, detail = "timeout", f"no end after {seconds:.0f} s\n{output}"
    elif result.exists():
        said = json.loads(result.read_text())
        verdict, detail = said["status"], "\n".join(part for part in (said["detail"], output) if part)
    elif os.WIFSIGNALED(status):
        verdict, detail = "crash", f"killed by {signal.Signals(os.WTERMSIG(status)).name}\n{output}"
    else:
        verdict, detail = "crash", f"left with status {os.waitstatus_to_exitcode(status)}\n{output}"
    shutil.rmtree(child.home, ignore_errors=True)
    return Outcome(child.case, child.choice, verdict, seconds, detail)


def _read(path: Path) -> str:
    text = path.read_text(errors="replace").strip() if path.exists() else ""
    if len(text) > MAX_OUTPUT:
        text = f"{text[: MAX_OUTPUT // 2]}\n[…]\n{text[-MAX_OUTPUT // 2 :]}"
    return text


def _child_main(case: Case, choice: LoopChoice, home: Path, timeout: float) -> None:
    """Everything the child does. Never returns: what is above it on the stack belongs to the parent."""
    code = 1
    try:
        os.setpgid(0, 0)
        (home / "work").mkdir()
        os.chdir(home / "work")  # test.support.os_helper.TESTFN is relative to it
        output = os.open(home / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        os.close(null)
        sys.stdout = os.fdopen(1, "w", 1, closefd=False)  # the parent may have put other objects there
        sys.stderr = os.fdopen(2, "w", 1, closefd=False)
        faulthandler.enable(file=2)
        faulthandler.dump_traceback_later(max(1.0, timeout - 1.0), exit=False, file=2)
        status, detail = _run_case(case, choice)
        (home / "result.tmp").write_text(json.dumps({"status": status, "detail": detail}))
        (home / "result.tmp").rename(home / "result.json")
        code = 0
    except BaseException:  # noqa: BLE001 - the child must not return to the parent's stack
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run_case(case: Case, choice: LoopChoice) -> tuple[str, str]:
    ACTIVE.use(choice)
    asyncio.set_event_loop(None)  # as any earlier test of CPython's own run leaves it; one test on 3.12 counts on it
    result = unittest.TestResult()
    unittest.TestSuite([case.build()]).run(result)
    gc.collect()  # a loop or a transport that was left open complains now, into this test's output
    problems = [text for _, text in [*result.errors, *result.failures]]
    problems += [f"unexpected success: {test}" for test in result.unexpectedSuccesses]
    if problems:
        return "failed", "\n".join(problems)
    if result.skipped:
        return "skipped", "; ".join(reason for _, reason in result.skipped)
    if result.testsRun == 0:
        return "failed", "the test did not run"
    return "passed", ""
