"""TOML with places: the line and the column of each key and value, in every form; and what is no TOML."""

from __future__ import annotations

from pathlib import Path

import pytest

from wireway.configuration.document import Document, Steps
from wireway.configuration.mistakes import ConfigurationError

TEXT = """\
a = 1
b.c = 2
# a comment, and an empty line

[t.u]
"quoted key" = { in = 1, line = [1,
  { deep = true } ] }
"é" = 'x'
[[many]]
x = \"\"\"
several
lines\"\"\"
y = 1
[[many]]
[many.inner]
z = 1
[t]
late = 1
"""

PLACES: dict[Steps, tuple[int, int]] = {
    ("a",): (1, 1),
    ("b", "c"): (2, 3),
    ("t", "u", "quoted key"): (6, 1),
    ("t", "u", "quoted key", "in"): (6, 18),
    ("t", "u", "quoted key", "line"): (6, 26),
    ("t", "u", "quoted key", "line", 1, "deep"): (7, 5),
    ("t", "u", "é"): (8, 1),
    ("many", 0, "y"): (13, 1),
    ("many", 1, "inner", "z"): (16, 1),
    ("t", "late"): (18, 1),
}


def document(text: str) -> Document:
    return Document.of(text.encode(), "x.toml", Path())


def mistakes(text: str | bytes) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        Document.of(text if isinstance(text, bytes) else text.encode(), "x.toml", Path())
    return [str(each) for each in caught.value.mistakes]


@pytest.mark.parametrize("ends", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize(("steps", "place"), PLACES.items(), ids=str)
def test_keys_have_places(steps: Steps, place: tuple[int, int], ends: str) -> None:
    found = document(TEXT.replace("\n", ends)).mistake(steps, "wrong", at_key=True)
    assert (found.line, found.column) == place


def test_values_have_places_and_what_is_not_there_has_that_of_what_is_above() -> None:
    found = document(TEXT)
    assert str(found.mistake(("a",), "wrong")) == "x.toml:1:5: wrong"
    assert str(found.mistake(("t", "u", "quoted key", "line", 0), "wrong")) == "x.toml:6:34: wrong"
    assert str(found.mistake(("many", 1, "inner", "none"), "wrong")) == "x.toml:15:1: wrong"
    assert str(found.mistake(("none",), "wrong")) == "x.toml:1:1: wrong"


def test_a_column_counts_characters_not_bytes() -> None:
    assert str(document('"é" = { "ß" = 1 }').mistake(("é", "ß"), "x", at_key=True)) == "x.toml:1:9: x"


def test_each_line_that_is_no_toml_is_told_once() -> None:
    found = mistakes('a = = 1\nb = 2\nc = "x\nd = 1\nd = 2\n')
    assert [each.split(": ")[0] for each in found] == ["x.toml:1:5", "x.toml:3:7", "x.toml:5:1"]
    assert "duplicate key" in found[-1]


@pytest.mark.parametrize(
    ("data", "place"),
    [(b"a = 1\nb = '\xff'\n", "x.toml:2:6"), (b"[a\n", "x.toml:1:3"), (b"a = { b = 1,\n c = 2 }\n", "x.toml:1:")],
    ids=["utf-8", "end", "toml 1.1"],
)
def test_what_can_not_be_read_has_a_place(data: bytes, place: str) -> None:
    found = mistakes(data)
    assert len(found) == 1
    assert found[0].startswith(place)


def test_a_byte_order_mark_is_no_mistake() -> None:
    assert document("\ufeffa = 1").values == {"a": 1}
