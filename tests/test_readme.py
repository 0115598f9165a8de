"""The README says what the stored results say, and its commands compose."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from conftest import ROOT

from minesweep.config.checks import check
from minesweep.config.compose import compose
from minesweep.reporting.show.keep import fill

README = (ROOT / "README.md").read_text()
COMMANDS = [
    shlex.split(line.split(" #")[0])[2:]
    for line in README.splitlines()
    if line.startswith("python src/train.py")
]


def test_the_tables_are_those_of_the_stored_results() -> None:
    same = fill(README, ROOT) == README  # pytest would take minutes to show the difference
    assert same, "run: python src/report.py runs/<study> --keep results"
    blocks = re.findall(r"<!-- begin (\S+) -->", README)
    assert blocks
    for name in blocks:
        assert (ROOT / name).stat().st_size > 0


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_each_training_command_composes(words: list[str]) -> None:
    overrides = [word for word in words if "=" in word]
    if "--config-dir" in words:
        check(compose(overrides, ROOT / "tests" / "own"))
    elif "-m" not in words:
        check(compose(overrides))


def test_every_miner_is_in_the_table() -> None:
    for path in (ROOT / "conf" / "miner").glob("*.yaml"):
        assert f"| `{path.stem}` |" in README


def test_the_make_targets_exist() -> None:
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in re.findall(r"`?make ([a-z-]+)", README):
        assert target in targets


def test_the_pictures_are_drawn_from_stored_results(tmp_path: Path) -> None:
    from minesweep.reporting.show.pictures import PICTURES, draw_all

    assert re.findall(r"\]\(docs/(\w+)\.png\)", README) == list(PICTURES)
    for path in draw_all(ROOT / "results", tmp_path):
        kept = (ROOT / "docs" / path.name).read_bytes()
        assert kept.startswith(b"\x89PNG")
        assert len(kept) < 100_000
        assert path.stat().st_size > 10_000
