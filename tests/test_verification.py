"""Whole runs of the triplet objective on labelled digits: metrics, alarm, own terms, precedence."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Train, on_digits
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score
from test_triplet import ready, triplet
from torch import nn

from minesweep.config.compose import compose
from minesweep.datasets.base import Batch, Data, Split
from minesweep.datasets.digits import Digits
from minesweep.errors import UserError
from minesweep.evaluation.missing import tell
from minesweep.evaluation.sample import FEW, draw_rows
from minesweep.miners.closest_negative import ClosestNegative
from minesweep.objectives.triplet import ALARM, Triplet
from minesweep.objectives.verification import Verification, best_threshold, verification
from minesweep.tracking.journal import frame

CHOSEN = ["miner=closest_negative", *on_digits("closest_negative")]


# --- metrics ----------------------------------------------------------------------


@st.composite
def verified(draw: st.DrawFn) -> Verification:
    size = draw(st.integers(2, 30))
    values = st.integers(-6, 6).map(lambda value: value / 6)
    similarity = np.array(draw(st.lists(values, min_size=size, max_size=size)))
    same = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    same[:2] = [True, False]
    return Verification(similarity, same)


@settings(deadline=None, max_examples=60)
@given(verified(), st.floats(-1, 1))
def test_metrics_are_those_of_scikit_learn(found: Verification, threshold: float) -> None:
    said, same = found.similarity > threshold, found.same
    at = found.at(threshold)
    assert at["accuracy"] == pytest.approx(accuracy_score(same, said))
    assert at["f1"] == pytest.approx(f1_score(same, said, zero_division=0))
    # The area under the curve is the share of pairs of both kinds in the right order.
    right = [
        (a > b) + 0.5 * (a == b) for a in found.similarity[same] for b in found.similarity[~same]
    ]
    assert found.ranking()["roc_auc"] == pytest.approx(np.mean(right))


@settings(deadline=None, max_examples=60)
@given(verified())
def test_no_threshold_has_a_higher_accuracy_than_the_best(found: Verification) -> None:
    best = found.at(best_threshold(found))["accuracy"]
    others = [-1.1, *found.similarity, 1.1]
    assert best == pytest.approx(max(found.at(threshold)["accuracy"] for threshold in others))


def test_all_pairs_of_a_labelled_split_are_verified() -> None:
    inputs = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(12) % 3
    found = verification(nn.Identity(), Split(inputs, labels), 5, most=12)
    similarity = nn.functional.cosine_similarity(inputs[:, None], inputs[None], dim=2)
    pairs = [(i, j) for i in range(12) for j in range(i + 1, 12)]
    assert found.same.tolist() == [bool(labels[i] == labels[j]) for i, j in pairs]
    expected = [similarity[i, j].item() for i, j in pairs]
    assert found.similarity.tolist() == pytest.approx(expected, abs=1e-6)


def by_class(classes: int, size: int = 1200) -> Split:
    """Noisy classes of unequal size, one after the other, as a folder of images is read."""
    draws = torch.Generator().manual_seed(classes)
    labels = (classes * torch.rand(size, generator=draws) ** 1.3).long().sort().values
    centres = torch.randn(classes, 8, generator=draws)
    return Split(centres[labels] + torch.randn(size, 8, generator=draws), labels)


@pytest.mark.parametrize("classes", [2, 20, 101])
def test_some_rows_of_a_split_in_order_tell_what_all_rows_tell(classes: int) -> None:
    split = by_class(classes)
    whole = verification(nn.Identity(), split, 2048, most=len(split))
    some = [verification(nn.Identity(), split, 2048, most=500, seed=seed) for seed in range(4)]
    for name, value in whole.ranking().items():
        drawn = [found.ranking()[name] for found in some]
        assert np.mean(drawn) == pytest.approx(value, rel=0.15), name
        assert len(set(drawn)) == 4  # each seed draws its own
    assert np.mean([found.same.mean() for found in some]) == pytest.approx(
        whole.same.mean(), rel=0.15
    )
    again = verification(nn.Identity(), split, 2048, most=500, seed=2)
    assert again.similarity.tolist() == some[2].similarity.tolist()


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=8), st.integers(1, 300), st.integers(0, 99)
)
def test_each_class_keeps_its_share(sizes: list[int], count: int, seed: int) -> None:
    labels = torch.cat([torch.full((size,), 7 * c) for c, size in enumerate(sizes)])
    rows = draw_rows(labels, count, seed, "test")
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert len(rows) == min(count, len(labels))
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    for order in (torch.arange(len(labels)), shuffled):
        drawn = labels[order][draw_rows(labels[order], count, seed, "test")]
        for c, size in enumerate(sizes):
            share = len(rows) * size / len(labels)
            if share >= FEW:
                assert abs(int((drawn == 7 * c).sum()) - share) < 1


def test_every_row_of_a_small_class_can_be_drawn() -> None:
    labels = torch.arange(300) // 3
    seen = torch.zeros(300)
    for seed in range(200):
        seen[draw_rows(labels, 60, seed, "test")] += 1
    assert seen.min() > 15
    assert seen.max() < 75


@pytest.mark.parametrize("same", [True, False])
def test_a_metric_that_cannot_be_computed_makes_its_companions_missing(same: bool) -> None:
    found = Verification(np.array([0.9, 0.1]), np.array([same, same]))
    assert all(np.isnan(value) for value in (found.ranking() | found.at(0.5)).values())
    labels = torch.zeros(6, dtype=torch.long) if same else torch.arange(6)
    objective = triplet()
    metrics = objective.validate(nn.Identity(), Split(torch.randn(6, 3), labels))
    assert set(metrics) == set(Triplet.evaluates)
    assert all(np.isnan(value) for value in metrics.values())
    assert objective.chosen == objective.threshold  # nothing was chosen


def test_embeddings_that_are_not_finite_are_told_in_one_line() -> None:
    inputs = torch.randn(6, 3)
    inputs[2] = torch.nan
    with pytest.raises(UserError, match="5 of 15 pairs have a similarity that is not finite"):
        verification(nn.Identity(), Split(inputs, torch.arange(6) % 2), 5, most=10)


def test_a_run_that_validates_on_one_class_has_no_metrics_and_one_warning(
    train: Train, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    load = Digits.load

    def one_class(self: Digits, data_dir: Path) -> Data:
        data = load(self, data_dir)
        rows = (data.val.labels == 3).nonzero().squeeze(1)
        return replace(data, val=Split(data.val.inputs[rows], data.val.labels[rows]))

    monkeypatch.setattr(Digits, "load", one_class)
    tell.cache_clear()
    # A dataset of its own: what other tests loaded stays loaded.
    some = ["dataset.split_seed=5", "trainer.eval_every=10", "trainer.max_steps=20"]
    summary = train(*CHOSEN, *some)
    assert not [name for name in summary if name.startswith("val/")]
    assert summary["test/roc_auc"] > 0.5
    told = [r.message for r in caplog.records if r.message.startswith("no verification metrics")]
    assert len(told) == 1


def test_a_run_logs_what_the_objective_says_that_it_evaluates(train: Train) -> None:
    summary = train(*CHOSEN, "trainer.max_steps=100")
    validated = {name.removeprefix("val/") for name in summary if name.startswith("val/")}
    assert validated == {*Triplet.evaluates, "roc_auc_best"}
    assert summary["test/roc_auc"] > 0.9


# --- the alarm ----------------------------------------------------------------------


@pytest.mark.parametrize(("reduction", "plateau"), [("sum", 2 * 0.25 * 8), ("mean", 2 * 0.25)])
@pytest.mark.parametrize("mask", ["none", "harder_than_positive"])
def test_a_collapse_is_told_where_the_loss_is_the_sum_of_the_margins(
    reduction: str, plateau: float, mask: str, caplog: pytest.LogCaptureFixture
) -> None:
    objective, miner = triplet(reduction=reduction), ready(ClosestNegative(mask))
    same = Batch(torch.ones(16, 4), torch.arange(8), torch.arange(8))
    apart = Batch(torch.eye(8).repeat(2, 1), torch.arange(8), torch.arange(8))

    def steps(batch: Batch, count: int) -> int:
        for _ in range(count):
            loss = objective(nn.Identity(), batch, miner, 0).loss.item()
        assert loss == pytest.approx(plateau if batch is same else 0)
        return sum("may have collapsed" in record.message for record in caplog.records)

    with caplog.at_level(logging.WARNING):
        assert steps(same, ALARM - 1) == 0
        assert steps(apart, 1) == 0  # it was no collapse
        assert steps(same, ALARM - 1) == 0
        assert steps(same, 1) == 1
        assert steps(same, 20) == 1  # told once


# --- a user's own ----------------------------------------------------------------------


def test_a_further_loss_term_from_outside(
    train: Train, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "own"))
    third = "+objective.terms.third={_target_: own.Pull, weight: 0.5}"
    train(*CHOSEN, third, "logger.every=1", "trainer.max_steps=5", "study=three")
    (status,) = (runs_dir / "three").glob("*/status.json")
    table = frame(status.parent)
    parts = table["train/loss_mean"] + table["train/loss_hard"] + 0.5 * table["train/loss_third"]
    assert table["train/loss_batch"].tolist() == pytest.approx(parts.tolist())
    assert (table["train/loss_third"] > 0).all()


def test_a_term_can_be_switched_off_and_a_wrong_negative_is_told(train: Train) -> None:
    assert compose([*CHOSEN, "objective.terms.mean.margin=0.5"]).objective.terms.hard.margin == 0.5
    summary = train(*CHOSEN, "objective.terms.mean=null", "trainer.max_steps=2")
    assert "train/loss_mean" not in summary
    assert summary["train/loss_batch"] == pytest.approx(summary["train/loss_hard"])
    with pytest.raises(UserError, match="no 'hards' negative, but mean, hard; did you mean 'hard'"):
        train(*CHOSEN, "objective.terms.hard.negative=hards")


def test_given_positives_need_pairs(train: Train) -> None:
    with pytest.raises(UserError, match=r"objective\.positive=given needs a dataset of pairs"):
        train(*CHOSEN, "objective.positive=given")


@pytest.mark.parametrize("first", [True, False])
def test_the_command_line_wins_over_what_the_miner_brings(first: bool) -> None:
    named = ["dataset=digits", "model=mlp", "optimizer=sgd", "scheduler=cosine"]
    named += ["trainer.batch_size=32"]
    miner = ["miner=band"]
    cfg = compose(miner + named if first else named + miner)
    brought = compose(miner)
    assert cfg.dataset._target_ == "minesweep.datasets.digits.Digits"
    assert cfg.model._target_ == "minesweep.models.mlp.MLP"
    assert cfg.optimizer._target_ == "torch.optim.SGD"
    assert cfg.scheduler._target_.endswith(".cosine")
    assert (cfg.trainer.batch_size, brought.trainer.batch_size) == (32, 256)
    assert cfg.objective == brought.objective
    assert brought.dataset._target_ == "minesweep.datasets.quora.Quora"
