"""What may be a name and what may be said: nothing that breaks a line, hides, or passes for another name."""

from __future__ import annotations

import pytest

from wireway.services.chat.names import Mistake, check_name, check_text, key_of


@pytest.mark.parametrize(
    "name", ["ann", "Ånn", "Жанна", "王芳", "مريم", "ไม้เอก", "o_o", "<b>", "x" * 24, "\U0001f600", "❤\ufe0f", "a.b-c'd"]
)
def test_names(name: str) -> None:
    assert check_name("nick", name, 24) == name


def test_a_name_is_kept_composed() -> None:
    assert check_name("nick", "A\u030angstro\u0308m", 8) == "\u00c5ngstr\u00f6m"
    assert check_name("nick", "e\u0301" * 24, 24) == "\u00e9" * 24  # counted as it is kept


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a b",
        "a/b",
        "a,b",
        "a:b",
        "a\nb",
        "a\rb",
        "a\0b",
        "a\tb",
        "\x1b[2Ja",
        "a\x9b",
        "a\u00a0b",  # a space that is none
        "a\u2028b",
        "a\u200bb",  # width of zero
        "ann\u200d",
        "\u202enna",  # written backwards
        "a\u2066b",
        "a\ufeff",
        "a\u00ad",  # a hyphen that hides
        "\u3164",  # a letter that is drawn as nothing
        "a\u115f",
        "\u2800",
        "a\u034f",
        "\ufe0f",  # only how to draw what is not there
        "a\ue000",
        "a\ud800",
        "a\U000e0041",
        "\u0301ann",  # an accent on nothing
        "a" + "\u0334\u0335\u0336\u0337",
        "x" * 25,
        "e\u0301" * 25,
        "x" * 100_000,
    ],
)
def test_no_names(name: str) -> None:
    with pytest.raises(Mistake) as mistake:
        check_name("nick", name, 24)
    assert mistake.value.code == "bad-nick"
    assert str(mistake.value).isprintable()


@pytest.mark.parametrize(
    ("one", "other"),
    [("Ann", "aNN"), ("Straße", "STRASSE"), ("\uff21nn", "ann"), ("\u00e9", "E\u0301"), ("❤\ufe0f", "❤"), ("ﬁ", "fi")],
)
def test_names_that_are_the_same(one: str, other: str) -> None:
    assert key_of(one) == key_of(other)


def test_texts() -> None:
    for text in ("hello", " two  spaces ", "👩\u200d🚀", "שלום \u200f!", "e\u0301", "x" * 10):
        assert check_text(text, 20) == text
    assert check_text("a\tb", 20) == "a b"


@pytest.mark.parametrize(
    "text",
    ["", "  ", "\u200b", "a\nb", "a\r\nb", "a\0", "\x1b[31mred", "\x9b31m", "\x07", "\x7f", "a\u2028b", "a\u2029",
     "\x85", "\ud800", "x" * 21],
)  # fmt: skip
def test_no_texts(text: str) -> None:
    with pytest.raises(Mistake) as mistake:
        check_text(text, 20)
    assert mistake.value.code == "bad-text"
    assert str(mistake.value).isprintable()
