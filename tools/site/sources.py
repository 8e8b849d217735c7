"""Sources become links: `RFC 9293 section 3.5.2` leads there, `epoll(7)` to the manual. Knows no page."""

from __future__ import annotations

import re

__all__ = ["linked"]

TAG = re.compile(r"(<[^>]+>)")
QUIET = re.compile(r"<(/?)(a|code|pre|h[1-6]|svg|title)\b")
"""Where a text is no prose, or is a link already."""
RFC = re.compile(r"RFC (\d{3,4})(?:,? section (\d+(?:\.\d+)*))?")
MANUAL = re.compile(r"(?<![\w.])([a-z][a-z0-9_.-]+)\(([1-8])\)")


def linked(html: str) -> str:
    """The page, with its sources as links."""
    depth, parts = 0, []
    for part in TAG.split(html):
        if part.startswith("<"):
            if found := QUIET.match(part):
                depth += -1 if found[1] else 0 if part.endswith("/>") else 1
        elif not depth:
            part = MANUAL.sub(_manual, RFC.sub(_rfc, part))
        parts.append(part)
    return "".join(parts)


def _rfc(found: re.Match[str]) -> str:
    section = f"#section-{found[2]}" if found[2] else ""
    return f'<a href="https://www.rfc-editor.org/rfc/rfc{found[1]}{section}">{found[0]}</a>'


def _manual(found: re.Match[str]) -> str:
    name, section = found.groups()
    return f'<a href="https://man7.org/linux/man-pages/man{section}/{name}.{section}.html">{found[0]}</a>'
