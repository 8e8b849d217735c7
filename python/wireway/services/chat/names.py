"""What may be a nickname, the name of a room, and what may be said: what would break a line, hide, or pass for
somebody else is refused. Pure functions on Unicode; owns no limit.

Not caught: letters of two alphabets that look alike (a Latin and a Cyrillic a). That needs tables of lookalikes, and
forbids names that people have.
"""

from __future__ import annotations

import unicodedata

__all__ = ["Mistake", "check_name", "check_text", "key_of"]

_SEPARATORS = frozenset("/,: ")
"""They stand between names in commands."""
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and signs that are drawn as nothing."""
_MARKS = 3
"""Accents on one letter: Thai and Hebrew need as many, towers of them need more."""


class Mistake(Exception):  # noqa: N818  (a person's, and told to that person)
    """What somebody asked for can not be. `code` is for programs, the text for people."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def check_name(what: str, given: str, longest: int) -> str:
    """A nickname or the name of a room as it is kept: composed (NFC), so that it compares as it looks.

    :param what: ``nick`` or ``room``.
    :param longest: characters; in UTF-8 each has at most four bytes.
    :raises Mistake: it is none.
    """
    name = unicodedata.normalize("NFC", given[: 4 * longest + 1])
    if not 1 <= len(name) <= longest:
        raise Mistake(f"bad-{what}", f"a {what} is 1 to {longest} characters long")
    marks = 0
    for position, character in enumerate(name):
        is_mark = unicodedata.category(character).startswith("M") and not _is_selector(character)
        marks = marks + 1 if is_mark else 0
        if character in _SEPARATORS or character in _BLANK or not character.isprintable():
            raise Mistake(f"bad-{what}", f"a {what} is without spaces, invisible characters and / , :")
        if marks > _MARKS or (marks and position < marks):
            raise Mistake(f"bad-{what}", f"a {what} begins with a letter, which has at most {_MARKS} accents")
    if not key_of(name):
        raise Mistake(f"bad-{what}", f"a {what} has something to see")
    return name


def key_of(name: str) -> str:
    """What names have in common that are the same for people: Ann, ann, and both in the wide letters of Japanese."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(character for character in folded if not _is_selector(character))


def _is_selector(character: str) -> bool:
    """Whether it only chooses how the character before it is drawn."""
    return "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"


def check_text(given: str, longest: int) -> str:
    """What is said, as it is sent on: one line, with nothing in it that a terminal obeys.

    :raises Mistake: there is nothing in it, it is too long, or has a control character or the end of a line.
    """
    text = given.replace("\t", " ")
    if len(text) > longest:
        raise Mistake("bad-text", f"the message has {len(text)} characters, at most {longest} are taken")
    for character in text:
        if not character.isprintable() and unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
            raise Mistake("bad-text", f"the message has U+{ord(character):04X} in it: it is one line, without controls")
    if not any(character.isprintable() and not character.isspace() for character in text):
        raise Mistake("bad-text", "there is nothing in the message")
    return text
