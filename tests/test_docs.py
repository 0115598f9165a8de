"""The documentation builds strictly, loads nothing from elsewhere, and names what exists."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from conftest import ROOT
from filelock import FileLock

PAGES = sorted((ROOT / "docs").rglob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The site, built as `make docs` builds it; once for all processes of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "site"
    with FileLock(f"{folder}.lock"):
        if not (folder / "index.html").exists():
            build(folder)
    return folder


def build(folder: Path) -> None:
    words = ["-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


class Loaded(HTMLParser):
    """What a page makes the browser load."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = dict(attrs)
        if tag == "link" and held.get("rel") not in ("canonical", "prev", "next"):
            self.urls.append(held.get("href") or "")
        elif tag != "a":
            self.urls += [held[name] or "" for name in ("src", "srcset", "poster") if name in held]


def test_a_page_loads_only_files_of_the_site(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text())
        assert loaded.urls
        for url in loaded.urls:
            if url.startswith("data:"):
                continue
            where = site if url.startswith("/") else page.parent
            path = where / unquote(url.split("?")[0].split("#")[0]).lstrip("/")
            assert path.is_file(), f"{page.relative_to(site)} loads {url}"


def test_styles_and_scripts_load_nothing_from_another_host(site: Path) -> None:
    for path in site.rglob("*.css"):
        outside = re.findall(r"(?:url\(|@import)\s*[\"']?https?://[^)\"']+", path.read_text())
        assert not outside, f"{path.relative_to(site)}: {outside}"
    for page in site.rglob("*.html"):
        assert "unpkg.com" not in page.read_text()


def test_generated_pages_are_whole(site: Path) -> None:
    from minesweep.config.schema import reference

    text = (site / "reference" / "keys.html").read_text()
    for _, _, _, keys in reference():
        for key in keys:
            assert key.is_group or f"{key.path}</code>" in text, key.path
    for group in ("miner", "objective", "dataset", "model"):
        page = (site / "reference" / f"{group}s.html").read_text()
        for path in (ROOT / "conf" / group).glob("*.yaml"):
            assert f"<code>{path.stem}</code>" in page


def test_each_stored_study_has_a_page(site: Path) -> None:
    shown = "".join(page.read_text() for page in PAGES)
    for path in (ROOT / "results").glob("*_runs.csv"):
        study = path.name.removesuffix("_runs.csv")
        assert f'--8<-- "results/{study}.md"' in shown, study
        assert f"<!-- figure {study} -->" in shown, study
    for page in (ROOT / "docs" / "studies").glob("[!i]*.md"):
        for part in ("**Question.**", "**Set-up.**", "**Cost.**", "does not show", "claims"):
            assert part in page.read_text(), f"{page.name} lacks {part}"
        assert "<svg" in (site / "studies" / f"{page.stem}.html").read_text()


def test_the_growth_of_costs_is_that_of_the_stored_numbers(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import growth

    results = ROOT / "results"
    costs, before = growth.read(results / "growth.json"), growth.read(results / growth.BEFORE)
    assert growth.table(costs, before) == (results / "growth.md").read_text(), growth.__doc__
    assert all(set(growth.TRIALS) == set(row) for row in costs.values())
    page = (site / "benchmarks.html").read_text()
    assert growth.told(costs["resume"][10_000]) in page
    assert (site / "growth.png").read_bytes() == (results / "growth.png").read_bytes()


def names(path: Path) -> set[str]:
    """The classes, functions and methods that a file defines, such as ``Trainer.update``."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
            inner = node.body if isinstance(node, ast.ClassDef) else []
            found |= {f"{node.name}.{n.name}" for n in inner if isinstance(n, ast.FunctionDef)}
    return found


def test_the_walks_name_what_exists() -> None:
    text = (ROOT / "docs" / "contributing" / "walks.md").read_text()
    visits = re.findall(r"^\d+\. `([\w/]+\.py)`, `([\w.]+)`", text, re.MULTILINE)
    assert len(visits) == 19
    for file, name in visits:
        assert name in names(ROOT / file), f"{file} has no {name}"
    assert "dataset.label_noise" in (ROOT / "sweeps" / "nk_noise.yaml").read_text()


def test_the_tree_names_what_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    tree = text.split("```text\n")[1].split("```")[0].splitlines()
    assert len(tree) <= 25
    folders = {path.name for path in (ROOT / "src" / "minesweep").iterdir() if path.is_dir()}
    named = {word.strip("/") for line in tree for word in re.findall(r"\b\w+/", line)}
    assert folders - {"__pycache__"} <= named, folders - named
    places = [ROOT / base for base in ("", "src", "src/minesweep", "conf", "tests")]
    for word in re.findall(r"\b[\w/]+/|\b\w+\.(?:py|yaml)\b", "\n".join(tree)):
        assert any((place / word).exists() for place in places) or word == "base.py", word
