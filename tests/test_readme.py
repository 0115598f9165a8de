"""README and documentation: short, in plain English, with numbers from the stored results."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from statistics import median
from types import ModuleType

import pytest
from conftest import ROOT
from documented import LONGEST, PAGES, length, sentences

README = (ROOT / "README.md").read_text()


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``docs/hooks/found.py``."""
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "hooks"))
    for name in ("found", "figures", "pictures"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import found

    return found


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 200


def test_the_tables_are_those_of_the_stored_results(found: ModuleType) -> None:
    same = found.fill(README, ROOT) == README  # pytest would take minutes to show the difference
    assert same, "run: make found"
    blocks = re.findall(r"<!-- begin (\S+) -->", README)
    assert blocks == ["results/demo.md", "results/found.md"]


def test_what_was_found_is_made_from_the_stored_results(found: ModuleType) -> None:
    table = (ROOT / "results" / "found.md").read_text()
    assert found.table(ROOT / "results") == table, "run: make found"
    assert len(table.splitlines()) == 2 + len(found.FOUND)
    for study in re.findall(r"\]\((docs/studies/\w+\.md)\)", table):
        assert (ROOT / study).exists()


def test_the_picture_shows_the_same_comparisons(found: ModuleType) -> None:
    assert "](docs/found.svg)" in README
    kept = (ROOT / "docs" / "found.svg").read_text()
    drawn = found.as_file(found.picture(ROOT / "results"))
    # Where a dot lies is left to Matplotlib; what is drawn, and in which colour, is not.
    assert re.findall(r">([^<>\s][^<>]*)</text>", kept) == re.findall(
        r">([^<>\s][^<>]*)</text>", drawn
    )
    assert re.findall(r"#[0-9a-f]{6}", kept) == re.findall(r"#[0-9a-f]{6}", drawn)
    assert "currentColor" in kept


def test_a_control_that_is_better_counts_against_the_miner(found: ModuleType) -> None:
    row = found.FOUND["nk_controlled"].compared[1]
    stored = next(
        line
        for line in (ROOT / "results" / "nk_controlled_differences.csv").read_text().splitlines()
        if line.startswith(f"test/accuracy,{row.arm},")
    ).split(",")
    assert row.find(ROOT / "results").difference == -float(stored[4])


def test_the_pictures_are_drawn_from_stored_results(found: ModuleType, tmp_path: Path) -> None:
    import pictures  # beside found.py

    studies = "".join(p.read_text() for p in (ROOT / "docs" / "studies").glob("*.md"))
    assert set(re.findall(r"\]\(\.\./(\w+)\.png\)", studies)) == set(pictures.PICTURES)
    for path in pictures.draw_all(ROOT / "results", tmp_path):
        kept = (ROOT / "docs" / path.name).read_bytes()
        assert kept.startswith(b"\x89PNG")
        assert len(kept) < 100_000
        assert path.stat().st_size > 10_000


def test_every_miner_and_objective_is_named() -> None:
    for path in (ROOT / "conf" / "miner").glob("*.yaml"):
        assert f"| `{path.stem}` |" in README
    for path in (ROOT / "conf" / "objective").glob("*.yaml"):
        assert f"`{path.stem}`" in README


def test_what_the_readme_links_to_exists() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
            generated = page.parent / target
            if "reference" not in generated.resolve().parts:
                assert generated.resolve().exists(), f"{page.name} links to {target}"


def test_the_make_targets_exist() -> None:
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for page in PAGES:
        for target in re.findall(r"`make ([a-z-]+)", page.read_text()):
            assert target in targets


def test_sentences_are_short() -> None:
    found = {s: length(s) for page in PAGES for s in sentences(page.read_text())}
    assert len(found) > 300
    assert [s for s, words in found.items() if words > LONGEST] == []
    assert median(found.values()) <= 15


def test_long_sentences_are_seen() -> None:
    words = " ".join(["word"] * 26)
    text = f"Short. {words.capitalize()}.\n\n- {words} and\n  more.\n\n```bash\n{words}\n```\n"
    assert [length(s) for s in sentences(text)] == [1, 26, 28]
