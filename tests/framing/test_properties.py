"""What holds for every framing: what is sent comes back however it is cut, and no bytes do any harm."""

from __future__ import annotations

import contextlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.framings import CASES, EXAMPLES, LIMIT, ids
from wireway._native import FrameSplitter
from wireway.framing import CustomFraming, FrameError, Framing, Tpkt, explain

every_case = pytest.mark.parametrize(("framing", "messages"), CASES, ids=ids)
every_framing = pytest.mark.parametrize("framing", [framing for framing, _ in CASES], ids=ids)


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in pairwise(places)]


def outcome(framing: Framing, parts: list[bytes]) -> tuple[list[bytes], str | None, int]:
    """The messages, the error's text, and the bytes that are kept."""
    splitter = FrameSplitter(framing._native())
    messages: list[bytes] = []
    for part in parts:
        try:
            messages += splitter.feed(part)
        except FrameError as error:
            return messages + error.messages, str(error), 0
    return messages, None, splitter.pending


@every_case
@EXAMPLES
@given(data=st.data())
def test_what_is_sent_comes_back_however_it_is_cut(
    framing: Framing, messages: st.SearchStrategy[bytes], data: st.DataObject
) -> None:
    sent = data.draw(st.lists(messages, max_size=5))
    cuts = data.draw(st.lists(st.integers(0, 1 << 20), max_size=6))
    splitter = FrameSplitter(framing._native())
    stream = b"".join(splitter.encode(message) for message in sent)
    assert outcome(framing, pieces(stream, cuts)) == (sent, None, 0)
    assert outcome(framing, [stream[i : i + 1] for i in range(len(stream))]) == (sent, None, 0)


@every_case
@EXAMPLES
@given(data=st.data())
def test_half_a_frame_is_kept_whole(framing: Framing, messages: st.SearchStrategy[bytes], data: st.DataObject) -> None:
    """Cut off anywhere, what follows the last whole frame is what a switch of the framing gives back."""
    splitter = FrameSplitter(framing._native())
    stream = b"".join(splitter.encode(message) for message in data.draw(st.lists(messages, min_size=1, max_size=3)))
    stream = stream[: data.draw(st.integers(0, len(stream)))]
    for part in pieces(stream, data.draw(st.lists(st.integers(0, 1 << 20), max_size=3))):
        splitter.feed(part)
    explained = explain(framing, stream)
    assert splitter.pending == len(explained.rest)
    splitter.switch(("raw",))
    assert b"".join(splitter.feed(b"!")) == explained.rest + b"!"


garbage = st.binary(max_size=600) | st.lists(
    st.sampled_from([b"\0", b"\x01", b"\x03\0\0", b"\xff", b"*", b":", b"\r", b"\n", b"\0\0\0\x02ab"]), max_size=200
).map(b"".join)


@every_framing
@EXAMPLES
@given(stream=garbage, cuts=st.lists(st.integers(0, 1 << 20), max_size=6))
def test_garbage_means_the_same_however_it_is_cut(framing: Framing, stream: bytes, cuts: list[int]) -> None:
    messages, error, pending = outcome(framing, [stream])
    parts = pieces(stream, cuts)
    single = [stream[i : i + 1] for i in range(len(stream))]
    for again in (outcome(framing, parts), outcome(framing, single)):
        if isinstance(framing, CustomFraming):
            # The text may name what the function was shown.
            assert (again[0], again[1] is None, again[2]) == (messages, error is None, pending)
        else:
            assert again == (messages, error, pending)
    explained = explain(framing, stream)
    assert [frame.message for frame in explained.frames] == messages
    assert explained.failed == (error is not None)
    assert str(explained)


@every_framing
@EXAMPLES
@given(stream=garbage)
def test_what_is_kept_never_outgrows_the_limit(framing: Framing, stream: bytes) -> None:
    """The limit, and the longest header: for a delimiter the delimiter, as it may be there but for a byte."""
    splitter = FrameSplitter(framing._native())
    for start in range(0, len(stream), 3):
        try:
            assert all(len(message) <= LIMIT + 16 for message in splitter.feed(stream[start : start + 3]))
        except FrameError:
            return
        assert splitter.pending <= LIMIT + 34


@every_framing
@EXAMPLES
@given(message=garbage)
def test_a_message_arrives_as_it_is_or_is_refused(framing: Framing, message: bytes) -> None:
    splitter = FrameSplitter(framing._native())
    with contextlib.suppress(FrameError):
        assert outcome(framing, [splitter.encode(message)]) == ([message], None, 0)


@every_framing
def test_any_bytes_like_object_will_do(framing: Framing) -> None:
    splitter = FrameSplitter(framing._native())
    for data in (b"", bytearray(), memoryview(b"")):
        assert splitter.feed(data) == []
    for wrong in ("text", 1, None):
        with pytest.raises(TypeError, match="bytes-like"):
            splitter.feed(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="bytes-like"):
            splitter.encode(wrong)  # type: ignore[arg-type]


def test_the_largest_tpdu() -> None:
    message = bytes(65531)
    splitter = FrameSplitter(Tpkt()._native())
    assert splitter.feed(splitter.encode(message)) == [message]
