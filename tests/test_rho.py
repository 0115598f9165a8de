"""RHO-Loss: the loss above a reference's, and what the reference costs."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from conftest import Train, reference
from test_training import only_run
from torch.nn import functional

from minesweep.config.compose import compose
from minesweep.config.identity import identity
from minesweep.datasets.digits import Digits
from minesweep.errors import UserError
from minesweep.miners import Pool
from minesweep.miners.rho import Rho
from minesweep.training.checkpoint import last_good
from minesweep.training.load import load_run

NOISY = "dataset.label_noise=0.2"


def test_the_k_of_highest_reducible_loss_are_selected() -> None:
    draws = torch.Generator().manual_seed(0)
    for seed in range(200):
        known, scores = torch.randn(2, 50, generator=draws).round(decimals=seed % 3 or 6)
        rows = torch.randperm(50, generator=draws)[:20]
        miner = Rho("anywhere", k=7)
        miner.setup(Pool(50, rows, 20, 0, 9, lambda x: x, reference=lambda _, known=known: known))
        above = [float(scores[i] - known[row]) for i, row in enumerate(rows[:20])]
        wanted = sorted(range(20), key=lambda i: -above[i])[:7]
        found = miner.select(scores[:20], rows=rows, step=0)
        assert found.nonzero().flatten().tolist() == sorted(wanted)
        assert miner.selected(20) == 7


def test_the_reference_is_trained_on_held_out_examples_and_asked_for_the_labels_as_they_are(
    train: Train, runs_dir: Path
) -> None:
    (folder,) = (path.parent for path in reference().glob("*/status.json"))
    state = last_good(folder / "checkpoints")
    assert state is not None
    assert len(state["diagnostics"]["examples"]) == 359  # digits' validation split
    summary = train("miner=rho", f"miner.reference={reference()}", NOISY)
    run = last_good(only_run(runs_dir) / "checkpoints")
    assert run is not None
    # The losses, by the model of the best checkpoint, on the labels with their noise.
    noisy = Digits(label_noise=0.2).load(Path()).train
    with torch.no_grad():
        outputs = load_run(folder, "best").model(noisy.inputs)
    wanted = functional.cross_entropy(outputs, noisy.labels, reduction="none")
    torch.testing.assert_close(run["miner"]["reference"], wanted)
    # Its cost: 30 steps of 64, and one look at all training examples.
    assert summary["reference/samples_forward"] == 30 * 64 + 1079
    assert summary["reference/samples_backward"] == 30 * 64
    assert summary["samples/forward"] == 30 * 64 + 30 * 64 + 1079
    assert summary["samples/backward"] == 30 * 64 + 30 * 16
    # The MLP's products: 64 -> 1024 -> 10; backward twice as many, but none for the images.
    ahead = 2 * (64 * 1024 + 1024 * 10)
    back = 2 * (64 * 1024 + 2 * 1024 * 10)
    operations = (30 * 64 + 1079) * ahead + 30 * 64 * back
    assert summary["reference/operations"] == pytest.approx(operations)


def test_wrong_labels_are_selected_less_than_by_ohem(train: Train) -> None:
    long = ["trainer.max_steps=150", "trainer.batch_size=128", NOISY]
    rho = train("miner=rho", f"miner.reference={reference()}", *long)
    ohem = train("miner=ohem", "miner.ratio=0.25", *long)
    assert rho["mining/flipped_share"] < 0.5 * ohem["mining/flipped_share"]
    assert rho["test/accuracy"] > ohem["test/accuracy"]


def test_a_run_is_named_by_what_its_reference_computed_not_by_where_it_lies(tmp_path: Path) -> None:
    (folder,) = (path.parent for path in reference().glob("*/status.json"))
    (tmp_path / "moved").symlink_to(reference())
    same = [identity(compose(["miner=rho", f"miner.reference={path}"])) for path in
            (folder, reference(), tmp_path / "moved")]  # fmt: skip
    assert len(set(same)) == 1
    assert same[0] != identity(compose(["miner=rho"]))


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ([], r"miner=rho needs a reference: train one with trainer\.train_on=val"),
        (["miner.reference=nowhere"], "is not there"),
        (["miner.reference={empty}"], "holds no runs of seed 0"),
        (["miner.reference={known}", "objective=contrastive", "model=embedding_mlp"], "mines"),
        (["miner.reference={known}", "dataset=blobs"], "is of other data than this run"),
        (["trainer.train_on=test"], "must be one of train, val"),
    ],
)
def test_what_does_not_fit_is_told(
    chosen: list[str], told: str, train: Train, tmp_path: Path
) -> None:
    words = [word.format(empty=tmp_path, known=reference()) for word in chosen]
    with pytest.raises(UserError, match=told):
        train("miner=rho", *words)


def test_a_reference_that_saw_the_examples_is_told(
    train: Train, runs_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train("study=seen")
    with caplog.at_level(logging.INFO):
        train("miner=rho", f"miner.reference={runs_dir / 'seen'}")
    assert "was trained on the train split, as this run is" in caplog.text
    assert (
        "the reference cost 2,999 examples forward (1,079 of them its losses here)" in caplog.text
    )
