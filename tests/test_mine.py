"""``python src/mine.py``: files in, negatives out."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from test_documents import pairs_file

from minesweep.datasets.corpus import Lists
from minesweep.miners.negatives import Rules
from minesweep.miners.offline import FORMATS, mine_negatives

specification = importlib.util.spec_from_file_location("mine", ROOT / "src" / "mine.py")
assert specification is not None
assert specification.loader is not None
entry = importlib.util.module_from_spec(specification)
specification.loader.exec_module(entry)

needs_text = pytest.mark.skipif(
    importlib.util.find_spec("wordllama") is None, reason="needs the extra 'text'"
)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@needs_text
@pytest.mark.parametrize("layout", FORMATS)
def test_each_layout_holds_negatives_that_are_no_positives(
    layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, output = pairs_file(tmp_path / "a.jsonl"), tmp_path / "out" / "mined.jsonl"
    arguments = [str(path), "--output", str(output), "--format", layout, "--num-negatives", "2"]
    assert entry.main(arguments) == 0
    positives: dict[str, set[str]] = {}
    for line in lines(path):
        positives[line["query"]] = set(line["positive"])
    found = lines(output)
    assert {line["query"] for line in found} == set(positives)
    for line in found:
        known = positives[line["query"]]
        if layout == "triplet":
            assert line["positive"] in known
            assert line["negative"] not in known
        elif layout == "n-tuple":
            assert {line["negative_1"], line["negative_2"]}.isdisjoint(known)
        elif layout == "labeled-pair":
            assert (line["document"] in known) == (line["label"] == 1)
        else:
            assert [d in known for d in line["documents"]] == [bool(x) for x in line["labels"]]
    counts = {"triplet": 132, "n-tuple": 66, "labeled-pair": 186, "labeled-list": 60}
    assert len(found) == counts[layout]
    told = capsys.readouterr().out
    assert "known_positive" in told
    assert str(output) in told.replace("\n", "")


@needs_text
def test_a_table_and_margins(tmp_path: Path) -> None:
    path, output = pairs_file(tmp_path / "a.jsonl"), tmp_path / "mined.csv"
    more = tmp_path / "more.txt"
    more.write_text("a cat\na dog\n")
    margins = ["--relative-margin", "0.2", "--sampling-strategy", "random", "--seed", "1"]
    arguments = [str(path), "--corpus", str(more), "--output", str(output), *margins]
    assert entry.main(arguments) == 0
    first = output.read_text()
    assert list(csv.DictReader(first.splitlines()))
    assert entry.main(arguments) == 0
    assert output.read_text() == first


@needs_text
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere.jsonl"], "is not there"),
        (["a.jsonl", "--output", "a.txt"], "must end in .jsonl or .csv"),
        (["a.jsonl", "--format", "labeled-list", "--output", "b.csv"], "not a table"),
        (["a.jsonl", "--model", "nowhere"], "nowhere"),
        (["a.jsonl", "--num-negatives", "0"], "num_negatives=0"),
        (["a.jsonl", "--range-min", "9", "--range-max", "3"], "range_max=3"),
        (["a.jsonl", "--corpus", "nowhere.txt"], "nowhere.txt"),
        (["a.jsonl", "--max-score", "nan"], "max_score=nan"),
    ],
)
def test_wrong_commands_are_one_line(
    arguments: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pairs_file(tmp_path / "a.jsonl")
    monkeypatch.chdir(tmp_path)
    if "--output" not in arguments:
        arguments = [*arguments, "--output", "b.jsonl"]
    assert entry.main(arguments) == 1
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("*.part"))
    assert not (tmp_path / "b.jsonl").exists()


@pytest.mark.parametrize("seed", range(20))
def test_queries_in_blocks_are_mined_like_one_by_one(seed: int, monkeypatch: Any) -> None:
    draws = torch.Generator().manual_seed(seed)
    documents = torch.nn.functional.normalize(torch.randn(90, 6, generator=draws), dim=1)
    queries = torch.nn.functional.normalize(torch.randn(13, 6, generator=draws), dim=1)
    answers = torch.randint(0, 90, (13, 2), generator=draws).tolist()
    known, rules = Lists.of(answers), Rules(num_negatives=3, range_max=20, relative_margin=0.1)
    mined = mine_negatives(queries, documents, known, rules)
    cosines = (queries @ documents.T).double()
    for q in range(13):
        least = min(cosines[q, row].item() for row in answers[q])
        limit = least - abs(least) * 0.1
        # As many are looked at as range_max and the most positives of a query.
        order = sorted(range(90), key=lambda row: -cosines[q, row].item())[: 20 + 2]
        allowed = [r for r in order if r not in answers[q] and cosines[q, r] <= limit + 1e-6][:3]
        assert mined.rows[q].tolist()[: len(allowed)] == allowed[:3]
