"""What was mined: the records against naive loops, the counts of each example, the page."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Train
from test_training import only_run
from wandb_server import WandbServer

import report as entry
from minesweep.dashboard.mined import PAGE, Seen, data_address, read_seen, write_mined
from minesweep.datasets.base import Batch, Split
from minesweep.datasets.show import shown
from minesweep.errors import UserError
from minesweep.objectives.mined import hardest, hardest_negatives
from minesweep.tracking.journal import read_rows

NOISY = ["dataset.label_noise=0.1", "logger.histogram_every=10"]
TRIPLET = ["miner=closest_negative", "model=mlp", "objective.positive=hardest", "miner.per_class=8"]


def records(folder: Path) -> list[dict[str, Any]]:
    return read_rows(folder / "mined.jsonl")


def test_the_hardest_examples_in_order() -> None:
    scores = torch.tensor([0.5, 2.0, 1.0, 2.0])
    batch = Batch(None, torch.tensor([7, 8, 9, 6]), torch.tensor([40, 10, 30, 20]))
    details = {
        "prediction": torch.tensor([1, 2, 3, 4]),
        "row/negative": torch.tensor([5, -1, 6, 7]),
        "outputs": torch.zeros(4, 10),
    }
    found = hardest(batch, scores, torch.tensor([0.0, 1.0, 0.0, 1.0]), details, 3).record(12)
    assert found == {
        "step": 12,
        "scored": 4,
        "rows": {"query": [10, 20, 30], "negative": [-1, 7, 6]},
        "values": {
            "score": [2.0, 2.0, 1.0],
            "rank": [0, 1, 2],
            "selected": [True, True, False],
            "label": [8, 6, 9],
            "prediction": [2, 4, 3],
        },
        "parts": {},
    }


def test_what_is_not_finite_is_null() -> None:
    batch = Batch(None, torch.zeros(2, 2), torch.tensor([[0, 1], [2, 3]]))
    scores = torch.tensor([1.0, torch.nan])
    found = hardest(batch, scores, torch.ones(2), {"distance": torch.tensor([torch.inf, 1.0])}, 5)
    record = found.record(1)
    assert record["values"]["score"] == [None, 1.0]
    assert record["values"]["distance"] == [1.0, None]
    assert record["rows"] == {"first": [2, 0], "second": [3, 1]}
    json.dumps(record, allow_nan=False)


def test_the_hardest_negatives_against_a_loop() -> None:
    draws = torch.Generator().manual_seed(3)
    for _ in range(20):
        scores = torch.rand(9, 7, generator=draws)
        scores[torch.rand(9, 7, generator=draws) < 0.2] = -torch.inf
        positive = torch.rand(9, generator=draws)
        positive[torch.rand(9, generator=draws) < 0.2] = torch.nan
        weights = torch.rand(9, 7, generator=draws) * (scores > -torch.inf)
        weights[torch.rand(9, generator=draws) < 0.3] = 0
        expected = []
        for anchor in range(9):
            row = scores[anchor].tolist()
            chosen = weights[anchor].max() > 0
            column = int((weights if chosen else scores)[anchor].argmax())
            margin = row[column] - positive[anchor].item()
            if math.isfinite(margin):
                closer = sum(score > row[column] for score in row)
                expected.append((margin, anchor, column, closer, bool(chosen)))
        expected.sort(key=lambda item: -item[0])
        anchors, columns, values = hardest_negatives(scores, positive, weights, 4)
        found = zip(
            values["score"].tolist(),
            anchors.tolist(),
            columns.tolist(),
            values["rank"].tolist(),
            values["selected"].tolist(),
            strict=True,
        )
        for one, other in zip(found, expected[:4], strict=True):
            assert one == pytest.approx(other, abs=1e-6)


def test_a_run_keeps_what_it_mined(train: Train, runs_dir: Path) -> None:
    train(*NOISY, "miner.k=16", "logger.mined=5")
    kept = records(only_run(runs_dir))
    assert [record["step"] for record in kept] == [1, 10, 20, 30]
    for record in kept:
        assert record["scored"] == 64
        assert record["values"]["rank"] == [0, 1, 2, 3, 4]
        assert record["values"]["selected"] == [True] * 5
        assert record["values"]["score"] == sorted(record["values"]["score"], reverse=True)
        assert record["values"].keys() == {"score", "rank", "selected", "label", "prediction"}


def test_how_much_is_kept_changes_nothing_else(train: Train, runs_dir: Path) -> None:
    train(*NOISY, "logger.mined=0", "study=none")
    train(*NOISY, "study=some")
    none, some = only_run(runs_dir, "none"), only_run(runs_dir, "some")
    assert none.name == some.name
    assert records(none) == []
    assert (none / "journal.jsonl").read_bytes() == (some / "journal.jsonl").read_bytes()


def test_the_counts_of_each_example(
    train: Train, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minesweep.training.diagnostics import Diagnostics

    seen: dict[int, list[tuple[float, bool]]] = {}
    update = Diagnostics.update

    def count(self: Diagnostics, outcome: Any, batch: Batch) -> None:
        for place, row in enumerate(batch.rows.tolist()):
            item = (outcome.scores[place].item(), bool(outcome.weights[place] > 0))
            seen.setdefault(row, []).append(item)
        update(self, outcome, batch)

    monkeypatch.setattr(Diagnostics, "update", count)
    train(*NOISY, "miner.k=16")
    folder = only_run(runs_dir)
    state = torch.load(folder / "checkpoints" / "step-00000030.pt")
    for row, (scored, selected, loss) in enumerate(state["diagnostics"]["examples"].tolist()):
        items = seen.get(row, [])
        assert (scored, selected) == (len(items), sum(chosen for _, chosen in items))
        assert loss == pytest.approx(sum(score for score, _ in items), rel=1e-5)


def test_suspicion() -> None:
    scored, loss = np.array([1, 2, 0, 3, 1]), np.array([0.5, 3.0, np.nan, 0.1, 2.0])
    flipped = np.array([False, True, True, False, False])
    seen = Seen(scored, scored, loss, flipped)
    assert seen.hardest().tolist() == [1, 4, 0, 3]
    assert seen.suspicion() == (2, 1)
    assert Seen(scored, scored, loss, None).suspicion() == (0, 0)


def test_the_page_of_examples(train: Train, runs_dir: Path) -> None:
    train(*NOISY, "trainer.max_steps=60")
    folder = only_run(runs_dir)
    page = write_mined(folder).read_text()
    assert page.count('<section class="step"') == 7
    assert page.count('<section class="step" data-step="60">') == 1, "the last is shown"
    pictures = re.findall(r'src="data:image/png;base64,', page)
    assert len(pictures) == 7 * 16 + 48
    from minesweep.config.compose import compose
    from minesweep.training.run import load_data

    cfg = compose(["dataset=digits", "dataset.label_noise=0.1"])
    from minesweep.config.build import build

    data = load_data(cfg, build(cfg, "dataset"), torch.device("cpu"))
    seen = read_seen(folder, data.train)
    assert seen is not None
    count, hits = seen.suspicion()
    assert f"Of the {count:,} examples" in page
    assert f"{hits:,} have a flipped label" in page
    assert hits / count > 0.5, "by chance it would be 0.1"
    for text in ("http:", "https:", "<script src"):
        assert text not in page


def test_the_page_of_triples_and_of_pairs(train: Train, runs_dir: Path) -> None:
    train(*TRIPLET, "logger.histogram_every=10", "study=triples")
    page = write_mined(only_run(runs_dir, "triples")).read_text()
    for role in ("anchor", "positive", "negative"):
        assert re.search(rf">{role}: \d<", page)
    assert "similarity of the negative minus the positive" in page
    train("miner=knn", "logger.histogram_every=10", "study=pairs")
    page = write_mined(only_run(runs_dir, "pairs")).read_text()
    assert re.search(r">first: \d<", page)
    assert "distance" in page


def test_hostile_lines_are_skipped_with_a_count(train: Train, runs_dir: Path) -> None:
    train(*NOISY)
    folder = only_run(runs_dir)
    hostile = {
        "step": 31,
        "scored": 4,
        "rows": {"<script>alert(1)</script>": [-1, 10**9], "negative": [0, 1]},
        "values": {"score": ["<b>x", None], "selected": [1, 0], "<i>": [1, "</script>"]},
        "parts": {"negative": [7, -7]},
    }
    broken = [
        {**hostile, "parts": {"negative": [1]}},
        {**hostile, "rows": {"a": ["../../etc/passwd", 1]}},
        {**hostile, "rows": {}},
        {**hostile, "values": 3},
        {"step": 3},
    ]
    with (folder / "mined.jsonl").open("a") as file:
        file.write("".join(json.dumps(line) + "\n" for line in [hostile, *broken]))
        file.write('{"step": 40, "rows"')
    page = write_mined(folder).read_text()
    assert "6 damaged lines were skipped" in page
    assert "&lt;script&gt;alert(1)" in page
    assert page.count("<script>") == 1
    assert "<b>x" not in page
    assert "<i>" not in page


@pytest.mark.parametrize(
    ("inputs", "texts"),
    [
        (torch.zeros(3, 1, 4, 4), False),
        (torch.zeros(3, 3, 4, 4), False),
        (torch.arange(6.0).view(3, 2), ["0, 1", "2, 3", "4, 5"]),
        (torch.zeros(3, 20), ["0, 0, 0, 0, 0, 0, 0, 0, ... (20 numbers)"] * 3),
    ],
)
def test_examples_as_people_see_them(inputs: torch.Tensor, texts: Any) -> None:
    found = shown(Split(inputs, torch.zeros(3, dtype=torch.long)), torch.arange(3))
    if texts:
        assert [text for (text,) in found] == texts
        return
    for (picture,) in found:
        assert isinstance(picture, np.ndarray)
        assert picture.dtype == np.uint8
        assert data_address(picture).startswith("data:image/png;base64,")


def test_the_command(train: Train, runs_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(*NOISY)
    folder = only_run(runs_dir)
    assert entry.main([str(folder)]) == 0
    assert capsys.readouterr().out.strip() == str(folder / PAGE)
    assert entry.main([str(folder), "--metric", "test/loss"]) == 1
    assert "--metric is for a study" in capsys.readouterr().err
    (folder / "mined.jsonl").unlink()
    assert entry.main([str(folder)]) == 1
    assert "mined.jsonl is missing" in capsys.readouterr().err
    (folder / "mined.jsonl").write_text("")
    with pytest.raises(UserError, match="holds nothing that was mined"):
        write_mined(folder)


def test_wandb_gets_the_same_as_a_table(
    train: Train, runs_dir: Path, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in wandb_server.env().items():
        monkeypatch.setenv(name, value)
    train(*NOISY, "logger=wandb", "logger.mined=3")
    (run,) = wandb_server.runs
    (name,) = (name for name in run.files if name.startswith("media/table/mined"))
    table = json.loads(run.files[name])
    assert table["columns"][:3] == ["step", "example", "example row"]
    kept = [record for record in records(only_run(runs_dir)) for _ in range(3)]
    assert [row[0] for row in table["data"]] == [record["step"] for record in kept]
    assert [row[2] for row in table["data"]] == [
        row for record in kept[::3] for row in record["rows"]["example"]
    ]
    # The pictures themselves go into an artifact, which this server does not take.
    assert {row[1] for row in table["data"]} == {"Image"}
    assert set(wandb_server.unanswered) == {"ArtifactType", "CreateArtifact"}
