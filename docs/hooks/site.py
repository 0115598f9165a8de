"""MkDocs' hook: pages, tables and figures that code makes while the site is built.

Three things are written in a page and filled in here, and the pictures of benchmarks are added:

- ``--8<-- "results/nk.md"`` is replaced by that file of the repository;
- ``<!-- figure nk -->`` is replaced by the figure of a stored study;
- the pages of ``GENERATED`` do not exist as files: they are made from ``conf/`` and the parsers.
"""

from __future__ import annotations

import re
from pathlib import Path

import choices
import commands
import figures
import found
import keys
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
GENERATED = {
    "reference/miners.md": lambda: choices.page("miner"),
    "reference/objectives.md": lambda: choices.page("objective"),
    "reference/datasets.md": lambda: choices.page("dataset"),
    "reference/models.md": lambda: choices.page("model"),
    "reference/keys.md": keys.page,
    "reference/commands.md": commands.page,
}
PICTURES = (ROOT / "results" / "growth.png",)
"""What benchmarks have drawn."""
_INCLUDE = re.compile(r'^--8<-- "([^"]+)"$', re.MULTILINE)
_FIGURE = re.compile(r"<!-- figure (\w+) -->")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages."""
    for name, make in GENERATED.items():
        files.append(File.generated(config, name, content=make()))
    for path in PICTURES:
        files.append(File.generated(config, path.name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Fills in files of the repository; their links to ``docs/`` become links of the site."""

    def include(match: re.Match[str]) -> str:
        path = ROOT / match[1]
        if not path.is_file():
            raise PluginError(f"{page.file.src_uri} includes {match[1]}, which does not exist")
        here = "../" * page.file.src_uri.count("/")
        text = path.read_text().replace("](docs/", f"]({here}").strip()
        # The tables of studies hold numbers, which must not be broken into lines.
        result = path.with_name(f"{path.stem}_runs.csv").exists()
        return f'<div class="result" markdown>\n\n{text}\n\n</div>' if result else text

    for path in PICTURES:  # in the site they lie beside the pages, in the checkout in results/
        markdown = markdown.replace(f"](../results/{path.name})", f"]({path.name})")
    return _INCLUDE.sub(include, markdown)


def on_page_content(html: str, page: Page, **_: object) -> str:
    """Draws the figures that a page names."""
    return _FIGURE.sub(lambda match: draw(match[1]), html)


def draw(name: str) -> str:
    """The figure of a stored study, or ``found``: what all of them found."""
    if name == "found":
        label = "Each study's difference to its control, with its 95 % interval"
        return figures.as_html(found.picture(ROOT / "results"), label)
    return figures.figure(ROOT / "results", name)
