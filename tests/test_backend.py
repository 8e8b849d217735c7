"""Which back end runs: what is asked for, what the environment says, what the kernel allows, and the reason given."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

import wireway
from support.forbid import forbid_io_uring
from wireway import backend as module
from wireway._native import BACKENDS, probe
from wireway.backend import AUTO, Choice, choose


@pytest.fixture(autouse=True)
def no_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WIREWAY_BACKEND", raising=False)


def refuse(monkeypatch: pytest.MonkeyPatch, *names: str, number: int = errno.EPERM) -> None:
    """Let the kernel seem to forbid some back ends. The real thing is tested in a child, below."""
    answer = OSError(number, "Operation not permitted")
    monkeypatch.setattr(module, "probe", lambda name: answer if name in names else None)


def test_there_are_five() -> None:
    assert set(BACKENDS) == {"io_uring", "epoll", "poll", "select", "sigio"}


def test_the_one_asked_for(backend: str) -> None:
    assert choose(backend) == Choice(backend, "asked for")
    loop = wireway.new_event_loop(backend)
    try:
        assert (loop.backend, loop.backend_reason) == (backend, "asked for")
        assert f"backend={backend} " in repr(loop)
    finally:
        loop.close()


def test_the_environment_decides_for_auto(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIREWAY_BACKEND", backend)
    assert choose() == choose("auto") == Choice(backend, "WIREWAY_BACKEND asks for it")


def test_an_argument_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIREWAY_BACKEND", "poll")
    assert choose("select") == Choice("select", "asked for")


@pytest.mark.parametrize("wish", ["", "auto"])
def test_an_environment_without_a_wish_leaves_it_to_auto(monkeypatch: pytest.MonkeyPatch, wish: str) -> None:
    monkeypatch.setenv("WIREWAY_BACKEND", wish)
    assert choose().backend == AUTO[0]


def test_auto_takes_the_first_that_the_kernel_allows_and_never_sigio(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose() == Choice(AUTO[0], "auto: the fastest that this kernel has")
    refuse(monkeypatch, AUTO[0])
    assert choose() == Choice(AUTO[1], f"auto: {AUTO[0]} is not allowed here (Operation not permitted)")
    refuse(monkeypatch, *AUTO)
    assert choose() == Choice("poll", f"auto: {AUTO[1]} is not allowed here (Operation not permitted)")


def test_auto_leaves_an_old_io_uring_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_up_to_date", lambda name: name != "io_uring")
    assert choose() == Choice("epoll", "auto: the io_uring of this kernel is too old to be the faster one")
    assert choose("io_uring") == Choice("io_uring", "asked for")


@pytest.mark.parametrize("name", ["kqueue", "", "EPOLL", "auto "])
def test_an_unknown_name_is_answered_with_those_there_are(name: str) -> None:
    with pytest.raises(wireway.UnknownBackendError) as caught:
        wireway.new_event_loop(name)
    assert str(caught.value) == f"unknown back end {name!r}; there are: auto, {', '.join(BACKENDS)}"


def test_an_unknown_name_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIREWAY_BACKEND", "iocp")
    with pytest.raises(wireway.UnknownBackendError, match="'iocp'"):
        choose()


def test_a_refusal_says_what_the_kernel_said_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "io_uring")
    with pytest.raises(wireway.BackendUnavailableError, match=r"seccomp.*use backend='auto' or 'epoll'") as caught:
        choose("io_uring")
    assert caught.value.errno == errno.EPERM
    refuse(monkeypatch, "epoll", number=errno.EMFILE)
    with pytest.raises(wireway.BackendUnavailableError, match="refuses the epoll back end") as caught:
        choose("epoll")
    assert (caught.value.errno, "seccomp" in str(caught.value)) == (errno.EMFILE, False)


def test_a_probe_leaves_nothing_open_and_knows_its_names(backend: str) -> None:
    assert probe(backend) is None
    with pytest.raises(ValueError, match="kqueue"):
        probe("kqueue")


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS])
def test_a_container_that_forbids_io_uring_gets_another(number: int) -> None:
    code = (
        "import wireway; c = wireway.new_event_loop(); print(c.backend); c.close(); wireway.new_event_loop('io_uring')"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        preexec_fn=lambda: forbid_io_uring(number),
    )
    assert done.stdout == "epoll\n"
    assert f"BackendUnavailableError: [Errno {number}] the kernel refuses the io_uring back end" in done.stderr
