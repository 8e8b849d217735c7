"""What mkdocs calls while it builds the site: the places that the code writes are filled, drawings and charts come in.

`mkdocs.yml` names this file under `hooks`; the modules beside it write a page each. Knows where things are.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File
from pages import DOCS, FILLED
from reports import REPORT
from sources import linked

PICTURE = re.compile(r'<p>\s*<img alt="([^"]*)" src="([^"]*/)?(drawings|report)/([\w-]+\.svg)" ?/?>\s*</p>')

CHART = re.compile(r"\]\(((?:\.\./)*)\.\./benchmarks/report/([\w/-]+\.svg)\)")
SCHEME = re.compile(r"<style>(?:(?!</style>).)*prefers-color-scheme.*?</style>\s*", re.DOTALL)
"""The colours of a picture that stands alone. In a page those of the page count."""

CHINESE = {
    **{f"tutorial/{name}.md": f"zh/{name}.md" for name in ("front-door", "first-server", "chat-server")},
    "explanation/half-packets.md": "zh/half-packets.md",
    **{f"explanation/{name}.md": "zh/problems.md" for name in ("descriptors", "leaked-connections", "slow-handlers")},
    "explanation/back-ends.md": "zh/io-models.md",
}
"""The page in Chinese of a page; the last one that leads to it is what that leads back to."""


def on_files(files: Any, config: Any) -> Any:
    """The charts of the reports belong to the site, though they are not in docs/."""
    for chart in sorted(REPORT.rglob("*.svg")):
        name = chart.relative_to(REPORT).as_posix().replace("/", "-")
        files.append(File.generated(config, f"assets/report/{name}", abs_src_path=str(chart)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill the page, if it is one of those; where the site has them, the charts are beside the other pictures."""
    fill = FILLED.get(page.file.src_uri)
    filled = markdown if fill is None else fill(markdown)
    return CHART.sub(lambda match: f"]({match[1]}assets/report/{match[2].replace('/', '-')})", filled)


def on_page_content(html: str, **_: Any) -> str:
    """Drawings stand in the page itself, so that they follow its light or dark colours. Sources become links."""

    def inside(match: re.Match[str]) -> str:
        said, _, folder, name = match.groups()
        path = (REPORT if folder == "report" else DOCS / "assets" / "drawings") / name
        text = path.read_text() if path.exists() else ""
        if folder == "report" and "currentColor" not in text:  # it has colours of its own
            return match[0]
        svg = SCHEME.sub("", text)
        svg = svg[svg.index("<svg") :]
        if folder == "report":
            svg = svg.replace("<svg ", f'<svg class="chart" role="img" aria-label="{said}" ', 1)
        return f'<div class="drawing-frame">{svg}</div>'

    return linked(PICTURE.sub(inside, html))


def on_page_context(context: Any, page: Any, config: Any, **_: Any) -> Any:
    """The choice of language leads to the same page in the other language, where there is one."""
    here = page.file.src_uri
    english = {chinese: name for name, chinese in CHINESE.items()}.get(here, "index.md")
    chinese = CHINESE.get(here, "zh/index.md")
    for name, page_there in (("English", english), ("中文", chinese)):
        (choice,) = (each for each in config["extra"]["alternate"] if each["name"] == name)
        choice["link"] = page_there.removesuffix(".md") + ".html"
    return context


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Pages in Chinese say so: browsers choose the letters by it."""
    if page.file.src_uri.startswith("zh/"):
        return output.replace('<html lang="en"', '<html lang="zh-Hans"', 1)
    return output


def on_post_build(config: Any) -> None:
    """Nothing on the site may be fetched from elsewhere."""
    # The theme asks the folder of the other language's page for a list of pages, as if it were a site of its own.
    for folder in {Path(name).parent for pair in CHINESE.items() for name in pair}:
        empty = '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"/>\n'
        (Path(config.site_dir) / folder / "sitemap.xml").write_text(empty)
    outside = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//""")
    for page in Path(config.site_dir).rglob("*.html"):
        if found := outside.search(page.read_text()):
            raise SystemExit(f"{page} fetches from elsewhere: {found[0]}")
