"""`CustomFraming`: honest functions, and functions that raise, answer nonsense, or are called within themselves."""

from __future__ import annotations

import weakref
from typing import Any

import pytest

from support.framings import cut_stars, wrap_stars
from wireway._native import FrameSplitter
from wireway.framing import CustomFraming, Frame, FrameError, Need


def splitter_of(cut: Any, **options: Any) -> FrameSplitter:
    return FrameSplitter(CustomFraming(cut, **options)._native())


def test_it_cuts_and_wraps() -> None:
    splitter = splitter_of(cut_stars, wrap=wrap_stars)
    assert splitter.encode(b"abc") == b"***:abc"
    assert splitter.feed(b"***:abc:*:d**") == [b"abc", b"", b"d"]
    assert splitter.pending == 2
    assert splitter.feed(b":e") == []
    assert splitter.feed(b"f") == [b"ef"]


def test_it_is_shown_little_and_more_when_it_asks() -> None:
    shown: list[int] = []

    def until_end(data: bytes) -> Need | Frame:
        assert type(data) is bytes
        shown.append(len(data))
        end = data.find(b"!")
        return Need() if end < 0 else Frame(end + 1)

    splitter = splitter_of(until_end)
    assert splitter.feed(b"x" * 100_000 + b"!") == [b"x" * 100_000 + b"!"]
    assert shown == [4096, 8192, 16384, 32768, 65536, 100_001]


def test_it_is_asked_again_when_what_it_needs_is_there() -> None:
    shown: list[bytes] = []

    def ten(data: bytes) -> Need | Frame:
        shown.append(data)
        return Need(10 - len(data)) if len(data) < 10 else Frame(10)

    splitter = splitter_of(ten)
    for byte in b"0123456789":
        splitter.feed(bytes([byte]))
    assert shown == [b"0", b"0123456789"]


@pytest.mark.parametrize("error", [FrameError("no magic"), ValueError("no magic")], ids=repr)
def test_a_value_error_is_the_way_to_say_no(error: Exception) -> None:
    def cut(data: bytes) -> Need | Frame:
        raise error

    with pytest.raises(FrameError) as caught:
        splitter_of(cut).feed(b"a")
    assert (str(caught.value), caught.value.code) == ("no magic", "bad-frame")
    assert caught.value.__cause__ is error


def test_any_other_exception_is_named_and_kept() -> None:
    def cut(data: bytes) -> Need | Frame:
        lengths: dict[str, int] = {}
        return Frame(lengths["length"])

    with pytest.raises(FrameError, match=r"^the cut function raised KeyError: 'length'$") as caught:
        splitter_of(cut).feed(b"a")
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (None, "it returned None, a cut function returns wireway.framing.Need or wireway.framing.Frame"),
        (5, "it returned 5, "),
        (b"abc", "it returned b'abc', "),
        (Need(0), "was shown 2 bytes and needs 0 more"),
        (Need(-1), "OverflowError"),
        (Need("1"), "TypeError"),  # type: ignore[arg-type]
        (Frame(0), "a frame of 0 bytes"),
        (Frame(-1), "OverflowError"),
        (Frame(2, strip=3), "a frame of 2 bytes, of which 3 are to be stripped"),
    ],
    ids=repr,
)
def test_nonsense_is_refused(answer: Any, text: str) -> None:
    with pytest.raises(FrameError) as caught:
        splitter_of(lambda data: answer).feed(b"ab")
    assert text in str(caught.value)
    assert caught.value.code == "bad-frame"


@pytest.mark.parametrize("answer", [Need(99), Frame(101), Need(1 << 62), Frame(1 << 62)], ids=repr)
def test_more_than_the_limit_is_refused_at_once(answer: Any) -> None:
    with pytest.raises(FrameError, match="the limit is 100 bytes") as caught:
        splitter_of(lambda data: answer, max_size=100).feed(b"ab")
    assert caught.value.code == "frame-too-large"


def test_a_function_that_changes_its_mind_is_refused() -> None:
    splitter = splitter_of(lambda data: Need(3) if len(data) == 1 else Frame(1))
    splitter.feed(b"a")
    splitter.feed(b"bc")
    with pytest.raises(FrameError, match="asked for 4 bytes in all, and then named a frame of 1"):
        splitter.feed(b"d")


def test_without_wrap_it_can_be_read_only() -> None:
    with pytest.raises(FrameError, match="can be read only: it was given no wrap function"):
        splitter_of(cut_stars).encode(b"a")


def test_what_wrap_raises_reaches_the_sender() -> None:
    def wrap(message: bytes) -> bytes:
        raise LookupError(message)

    with pytest.raises(LookupError):
        splitter_of(cut_stars, wrap=wrap).encode(b"a")
    with pytest.raises(TypeError, match="bytes-like"):
        splitter_of(cut_stars, wrap=lambda message: None).encode(b"a")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_is_no_error_of_the_bytes(error: type[BaseException]) -> None:
    def cut(data: bytes) -> Need | Frame:
        raise error

    with pytest.raises(error):
        splitter_of(cut).feed(b"a")


def test_a_function_that_feeds_its_own_splitter_is_refused() -> None:
    splitters: list[FrameSplitter] = []

    def cut(data: bytes) -> Need | Frame:
        splitters[0].feed(b"b")
        return Frame(1)

    splitters.append(splitter_of(cut))
    with pytest.raises(FrameError, match="RuntimeError"):
        splitters[0].feed(b"a")


def test_the_function_is_let_go_of() -> None:
    def cut(data: bytes) -> Need | Frame:
        return Frame(1)

    splitter = splitter_of(cut)
    splitter.feed(b"a")
    gone = weakref.ref(cut)
    del cut, splitter
    assert gone() is None
