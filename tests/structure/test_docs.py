"""README and docs: links lead somewhere, commands exist, and each Python block runs as it stands."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from typer.main import get_command

import wireway
from support.tree import ROOT, markdown_files
from wireway.cli.command import app
from wireway.cli.failing import Exit
from wireway.configuration import entries

PAGES = [page for page in markdown_files() if page.parts[0] in ("docs", "requirements") or len(page.parts) == 1]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
OUR_PATH = re.compile(r"(?<![\w/.~-])((?:tests|tools|benchmarks|docs|crates|python|fuzz)/[\w./*{},-]*)")
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


def prose(page: Path) -> str:
    return COMMENT.sub("", FENCE.sub("", (ROOT / page).read_text()))


def blocks(page: Path, *languages: str) -> list[str]:
    return [body for language, body in FENCE.findall((ROOT / page).read_text()) if language in languages]


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings get: small letters, words joined by hyphens."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()).strip() for heading in headings)
    return {re.sub(r"[\s]+", "-", heading) for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_inside_the_project_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (ROOT / page.parent / path).resolve() if path else ROOT / page
        assert there.exists(), f"{page} links to {target}, which is not there"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there.relative_to(ROOT)), f"{page} links to {target}: no such heading"


def commands(page: Path) -> Iterator[str]:
    for block in blocks(page, "sh", "bash", "console"):
        for line in block.splitlines():
            yield line.strip().removeprefix("$ ").partition("  #")[0].strip()
    yield from re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose(page))


def what_is_unknown(words: list[str]) -> str | None:
    """The first word that names no command, or no option of it. Values are not looked at."""
    command: Any = get_command(app)
    path = "wireway"
    while words and (below := getattr(command, "commands", None)) is not None and not words[0].startswith("-"):
        name, *words = words
        path = f"{path} {name}"
        if name.isupper():  # wireway serve NAME
            return None
        if name not in below:
            return path
        command = below[name]
    names = {name for each in command.params for name in (*each.opts, *each.secondary_opts)} | {"--help", "-h"}
    options = (word.partition("=")[0] for word in words if re.fullmatch(r"--?[a-z][a-z-]*(=.*)?", word))
    return next((f"{path} {option}" for option in options if option not in names), None)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_exist(page: Path) -> None:
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in commands(page):
        if match := re.match(r"make ([a-z-]+)", command):
            assert match[1] in verbs, f"{page}: `{command}`: the Makefile has no such verb"
        for words in re.findall(r"(?:^|[|;&(] *|-m )wireway ([a-z][^|;&)<>…]*)", command):
            unknown = what_is_unknown(words.split())
            assert unknown is None, f"{page}: `{command}`: there is no {unknown}"
        for path in OUR_PATH.findall(command):
            if not re.search(r"[*{<…]", path):
                assert (ROOT / path.rstrip(".,")).exists(), f"{page}: `{command}`: {path} is not there"


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=str)
def test_python_blocks_run(page: Path) -> None:
    """The blocks of a page run one after the other, in one namespace. A server that they leave must serve."""
    names: dict[str, Any] = {"__name__": "example"}
    for body in blocks(page, "python"):
        before = names.get("server")
        exec(compile(re.sub(r"(tcp://127\.0\.0\.1):\d+", r"\1:0", body), str(page), "exec", dont_inherit=True), names)
        server = names.get("server")
        if isinstance(server, wireway.Server) and server is not before:
            wireway.run(echoes(server))


async def echoes(server: wireway.Server) -> None:
    """Say hello to a server that answers with the same word, and a length of four bytes before it."""
    async with server:
        host, _, port = server.addresses[0].removeprefix("tcp://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"\0\0\0\5hello")
        answer = await asyncio.wait_for(reader.readexactly(9), 10)
        assert answer.lower() == b"\0\0\0\5hello"
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("README.md", "README.zh-CN.md"),
        ("docs/tutorial/first-server.md", "docs/zh/first-server.md"),
        ("docs/tutorial/chat-server.md", "docs/zh/chat-server.md"),
        ("docs/tutorial/front-door.md", "docs/zh/front-door.md"),
        ("docs/explanation/half-packets.md", "docs/zh/half-packets.md"),
    ],
)
def test_the_chinese_page_has_the_same_code(english: str, chinese: str) -> None:
    """What is said may differ; what is to be typed may not."""
    fence = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
    assert fence.findall((ROOT / chinese).read_text()) == fence.findall((ROOT / english).read_text())


CHINESE = {
    "docs/explanation/back-ends.md": "docs/zh/io-models.md",
    "docs/explanation/half-packets.md": "docs/zh/half-packets.md",
    **{f"docs/tutorial/{name}.md": f"docs/zh/{name}.md" for name in ("front-door", "first-server", "chat-server")},
    "README.zh-CN.md": "README.md",
}
"""Pages that the README in Chinese may name in the place of those in English."""


def test_the_readme_in_chinese_says_what_the_other_says() -> None:
    """The same headings, tables as long, pictures and links: what one of them gets, the other gets too."""
    texts = [(ROOT / name).read_text() for name in ("README.md", "README.zh-CN.md")]
    plain = [COMMENT.sub("", FENCE.sub("", text)) for text in texts]
    english, chinese = ([len(level) for level in re.findall(r"^(#+) ", text, re.MULTILINE)] for text in plain)
    assert english == chinese, "one of them has another section"
    english, chinese = (len(re.findall(r"^\|", text, re.MULTILINE)) for text in plain)
    assert english == chinese, "a table of one of them has another row"
    there = set(LINK.findall(plain[1]))
    missing = {link for link in LINK.findall(plain[0]) if link not in there and CHINESE.get(link) not in there}
    assert not missing, "README.zh-CN.md does not link to these"
    pictures = [re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text) for text in plain]
    assert pictures[0] == pictures[1]
    figures = [re.findall(r"<!-- bench:start -->.*?<!-- bench:end -->", text, re.DOTALL) for text in texts]
    assert figures[0] == figures[1] != []


@pytest.fixture(scope="module")
def written() -> Iterator[ModuleType]:
    """`tools/site/pages.py`: the pages that the code writes."""
    sys.path.insert(0, str(ROOT / "tools" / "site"))
    yield importlib.import_module("pages")
    sys.path.remove(str(ROOT / "tools" / "site"))


def test_what_the_code_writes_into_pages_is_there(written: ModuleType) -> None:
    stale = [str(path.relative_to(ROOT)) for path in written.stale()]
    assert not stale, f"{', '.join(stale)}: the code says something else by now; `make docs` writes it anew"


def test_a_place_for_a_command_that_is_gone_is_an_error(written: ModuleType) -> None:
    with pytest.raises(ValueError, match="no such command"):
        written.FILLED["reference/command.md"]("<!-- command: serve gopher -->\n<!-- end -->\n")


def test_every_command_and_option_has_a_row(written: ModuleType) -> None:
    """Asked of the page as it would be written, also from nothing: what is added to the command is never left out."""
    page = written.FILLED["reference/command.md"]("# The command\n\n<!-- exit statuses -->\n<!-- end -->\n")
    sections = dict(re.findall(r"^## (wireway[^\n]*)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    commands = [("wireway", get_command(app))]
    while commands:
        path, command = commands.pop()
        below = {name: child for name, child in getattr(command, "commands", {}).items() if not child.hidden}
        commands += [(f"{path} {name}", child) for name, child in below.items()]
        for name in below:
            assert f"| [`{path} {name}`](#" in sections[path], name
        for parameter in command.params:
            if not getattr(parameter, "hidden", False):
                assert parameter.help, f"{path} {parameter.opts} says nothing of itself"
                names = parameter.opts if parameter.opts[0].startswith("-") else [parameter.metavar or parameter.name]
                for name in names:
                    row = rf"^\| [^|]*`{re.escape(name)}[ `][^\n]*\| [^|\n]+ \|$"
                    assert re.search(row, sections[path], re.MULTILINE), f"{path} {name}"
    for status in Exit:
        assert re.search(rf"^\| {status.value} \| [A-Z].+ \|$", page, re.MULTILINE), status


def test_every_key_of_a_configuration_file_has_a_row() -> None:
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    parts = dict(re.findall(r"^### ([^\n]+)\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL))
    for entry in entries():
        table, _, name = entry.key.rpartition(".")
        plain = f"`[[{table.replace('[]', '')}]]`" if table.endswith("[]") else f"`[{table.replace('[]', '')}]`"
        heading = plain if table else "At the top of the file"
        if entry.service or entry.framing:
            heading = f"Service `{entry.service}`" if entry.service else f"Framing `{entry.framing}`"
        assert f"| `{name.removesuffix('[]')}` | " in parts[heading], entry.key


def test_what_was_measured_is_on_the_page_of_the_benchmarks() -> None:
    """Each workload of each report has its table, and each figure that was missed is named."""
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    short = page.partition("## What fell short")[2].partition("\n## ")[0]
    for name in ("report", "web/report"):
        report = json.loads((ROOT / "benchmarks" / "report" / f"{name}.json").read_text())
        for workload in report["workloads"]:
            assert f"### {workload['title']}\n" in page
        told = (ROOT / "benchmarks" / "report" / f"{name}.md").read_text()
        missed = re.findall(r"^\| (\S+) \|.*\*\*missed\*\*", told, re.MULTILINE)
        for workload in missed:
            assert f"\n| {workload} | " in short


def test_sources_become_links(written: ModuleType) -> None:
    linked = importlib.import_module("sources").linked
    told = linked("<p>see epoll(7), RFC 9293 section 3.5.2, <code>close(2)</code> and <a>RFC 1122</a></p>")
    assert re.findall(r'href="([^"]+)">([^<]+)<', told) == [
        ("https://man7.org/linux/man-pages/man7/epoll.7.html", "epoll(7)"),
        ("https://www.rfc-editor.org/rfc/rfc9293#section-3.5.2", "RFC 9293 section 3.5.2"),
    ]
    assert (
        re.sub(r"</?a[^>]*>", "", told)
        == "<p>see epoll(7), RFC 9293 section 3.5.2, <code>close(2)</code> and RFC 1122</p>"
    )


@pytest.mark.parametrize("tag", ['<script src="https://a.example/x.js">', '<img alt="" src="//a.example/x.png">'])
def test_a_site_that_fetches_from_elsewhere_is_not_built(written: ModuleType, tmp_path: Path, tag: str) -> None:
    """`mkdocs build` ends so, in `make check` and `make docs`."""
    hooks = importlib.import_module("hooks")
    for folder in ("zh", "tutorial", "explanation"):
        (tmp_path / folder).mkdir()
    (tmp_path / "index.html").write_text('<a href="https://a.example/">a link is none</a><img src="here.png">')
    hooks.on_post_build(SimpleNamespace(site_dir=str(tmp_path)))
    (tmp_path / "page.html").write_text(tag)
    with pytest.raises(SystemExit, match="from elsewhere"):
        hooks.on_post_build(SimpleNamespace(site_dir=str(tmp_path)))


@pytest.mark.parametrize("picture", sorted((ROOT / "docs" / "assets").rglob("*.svg")), ids=lambda path: path.name)
def test_a_picture_needs_nothing_from_elsewhere(picture: Path) -> None:
    text = re.sub(r'xmlns(:\w+)?="[^"]*"', "", picture.read_text())
    assert not re.search(r"""(?:href|src)=["']?(?:https?:)?//|url\(["']?(?:https?:)?//|@import""", text)
    if picture.parent.name == "drawings":
        assert 'class="drawing" role="img" aria-label="' in text
        assert "prefers-color-scheme:dark" in text


def test_each_drawing_is_on_a_page() -> None:
    pages = "".join((ROOT / page).read_text() for page in markdown_files("docs"))
    for drawing in (ROOT / "docs" / "assets" / "drawings").iterdir():
        assert f"assets/drawings/{drawing.name})" in pages, drawing.name
