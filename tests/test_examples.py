"""The examples run, and two libraries' loops learn the same from the same batches."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

SAVED = re.compile(r"learning from the hardest (\d+) of (\d+) saves -?\d+% of the time")


@functools.cache
def printed(example: str, steps: int) -> str:
    """What an example says, in a process of its own: its packages warn as they are imported."""
    command = [sys.executable, str(ROOT / "examples" / f"{example}.py"), "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def needs(*packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


@pytest.mark.parametrize(
    ("example", "packages"),
    [
        ("lightning_digits", ["lightning"]),
        ("accelerate_digits", ["accelerate"]),
        ("huggingface_quora", ["transformers", "accelerate"]),
    ],
)
def test_each_example_runs_and_says_what_it_saves(example: str, packages: list[str]) -> None:
    needs(*packages)
    if "quora" in example:
        data = Path(os.environ.get("MINESWEEP_DATA", "data"))
        if not (data / "quora" / "pairs.tsv.gz").exists():
            pytest.skip("no Quora pairs here: set MINESWEEP_DATA to a folder that has them")
    text = printed(example, 4)
    assert SAVED.search(text), text
    all_rows, hard = (re.search(rf"^{name} .*", text, re.M) for name in ("all", "hard"))
    assert all_rows is not None
    assert hard is not None
    k, n = SAVED.search(text).groups()  # type: ignore[union-attr]
    assert f"'samples/n': {n}, 'samples/k': {n}," in all_rows[0]
    assert f"'samples/n': {n}, 'samples/k': {k}," in hard[0]


def test_negatives_are_mined_anew_in_the_trainer_of_sentence_transformers() -> None:
    needs("sentence_transformers", "datasets", "accelerate", "wordllama")
    data = Path(os.environ.get("MINESWEEP_DATA", "data"))
    if not (data / "quora" / "pairs.tsv.gz").exists():
        pytest.skip("no Quora pairs here: set MINESWEEP_DATA to a folder that has them")
    text = printed("sentence_transformers_quora", 24)
    found = re.search(r"mined (\d+) times .* cosine of the negatives (\S+), then (\S+)", text)
    assert found, text
    assert found[1] == "3"  # before the first step, after 10 and 20
    assert float(found[3]) < float(found[2])  # what is learned from moves away


def test_lightning_and_accelerate_learn_the_same() -> None:
    needs("lightning", "accelerate")
    numbers = [
        re.findall(r"accuracy.*", printed(example, 4))
        for example in ("lightning_digits", "accelerate_digits")
    ]
    assert len(numbers[0]) == 2
    assert numbers[0] == numbers[1]


def test_the_mixins_are_short() -> None:
    for name in ("lightning", "huggingface"):
        lines = (ROOT / "src" / "minesweep" / "loops" / f"{name}.py").read_text().splitlines()
        assert len(lines) <= 60
