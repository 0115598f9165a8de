"""The contrastive loss against hand-computed values, its margins, alarms and pre-flight."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from conftest import Train
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from minesweep.datasets.base import Batch, Split
from minesweep.errors import UserError
from minesweep.miners.base import Pool
from minesweep.miners.pairs import Random
from minesweep.objectives.contrastive import LONG, Contrastive
from minesweep.objectives.margins import Margin, largest_feasible, to_euclidean
from minesweep.objectives.preflight import preflight
from minesweep.tracking.journal import read_rows

# Two pairs at Euclidean distance 5, one of them of one class; a negative pair at distance 0.6.
OUTPUTS = torch.tensor([[0.0, 0.0], [3.0, 4.0], [1.0, 1.0], [4.0, 5.0], [0.0, 0.0], [0.6, 0.0]])
LABELS = torch.tensor([[7, 7], [1, 2], [1, 2]])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # Hadsell: d^2, max(0, m - d)^2.
        ({"margin": 1.0}, [25.0, 0.0, 0.16]),
        ({"margin": 6.0}, [25.0, 1.0, 5.4**2]),
        # As it was: d^4, (50 - d^2)^2; a margin of 50 is on the SQUARED distance.
        (
            {"margin": 50.0, "distance": "squared_euclidean"},
            [625.0, 625.0, (50 - 0.36) ** 2],
        ),
        ({"margin": 6.0, "power": 1.0}, [5.0, 1.0, 5.4]),
        ({"margin": 6.0, "power": 1.0, "positive_margin": 2.0}, [3.0, 1.0, 5.4]),
        ({"margin": 6.0, "power": 1.0, "positive_margin": 9.0}, [0.0, 1.0, 5.4]),
    ],
)
def test_losses_are_those_computed_by_hand(options: dict[str, Any], expected: list[float]) -> None:
    found = Contrastive(**options).losses(OUTPUTS, LABELS)
    torch.testing.assert_close(found, torch.tensor(expected))


def test_cosine_and_normalised_distances_by_hand() -> None:
    outputs = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0], [1.0, 1.0]])
    labels = torch.tensor([[0, 0], [0, 1]])
    cos = 1 / math.sqrt(2)
    found = Contrastive(margin=0.5, distance="cosine", power=1.0).losses(outputs, labels)
    torch.testing.assert_close(found, torch.tensor([1.0, 0.5 - (1 - cos)]))
    found = Contrastive(margin=1.0, normalize=True, power=1.0).losses(outputs, labels)
    torch.testing.assert_close(found, torch.tensor([math.sqrt(2), 1 - math.sqrt(2 - 2 * cos)]))


@given(seed=st.integers(0, 99), pairs=st.integers(1, 20))
def test_losses_are_row_wise_and_of_no_larger_shape(seed: int, pairs: int) -> None:
    """The original broadcast [N, 1] with [N] to an N x N matrix of losses."""
    draws = torch.Generator().manual_seed(seed)
    outputs = torch.randn(2 * pairs, 3, generator=draws)
    labels = torch.randint(3, (pairs, 2), generator=draws)
    objective = Contrastive(margin=2.0)
    losses = objective.losses(outputs, labels)
    assert losses.shape == (pairs,)
    one_by_one = [
        objective.losses(outputs[2 * i : 2 * i + 2], labels[i : i + 1]) for i in range(pairs)
    ]
    torch.testing.assert_close(losses, torch.cat(one_by_one))


@pytest.mark.parametrize("distance", ["euclidean", "squared_euclidean", "cosine"])
@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("same", [True, False])
def test_the_gradient_of_a_pair_that_coincides_is_finite(
    distance: str, power: float, same: bool
) -> None:
    outputs = torch.tensor([[0.6, 0.8], [0.6, 0.8]], requires_grad=True)
    labels = torch.tensor([[0, 0 if same else 1]])
    loss = Contrastive(margin=0.5, distance=distance, power=power).losses(outputs, labels).sum()
    loss.backward()
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()
    if distance != "cosine":
        assert outputs.grad.abs().max() == 0


@pytest.mark.parametrize("distance", ["euclidean", "squared_euclidean", "cosine"])
def test_gradients_are_those_of_finite_differences(distance: str) -> None:
    draws = torch.Generator().manual_seed(1)
    outputs = torch.randn(8, 3, generator=draws, dtype=torch.double, requires_grad=True)
    labels = torch.tensor([[0, 0], [0, 1], [1, 1], [1, 0]])

    class Double(Contrastive):
        def vectors(self, outputs: Tensor) -> Tensor:
            return nn.functional.normalize(outputs, dim=1) if self.normalize else outputs

    objective = Double(margin=1.5, distance=distance, power=2.0)
    assert torch.autograd.gradcheck(lambda x: objective.losses(x, labels), outputs)


def test_what_cannot_be_is_told() -> None:
    for options, message in [
        ({"distance": "euklidean"}, "did you mean 'euclidean'"),
        ({"margin": 0.0}, "objective.margin=0.0 must be a number above 0"),
        ({"power": 0.5}, "objective.power=0.5 must be at least 1"),
        ({"positive_margin": -1.0}, "positive_margin=-1.0 must be at least 0"),
        ({"margin_policy": "relatve"}, "did you mean 'relative'"),
        ({"margin_policy": "scheduled"}, "give both"),
        ({"margin_policy": "relative", "margin_quantile": 2.0}, "must be in"),
    ]:
        with pytest.raises(UserError, match=message):
            Contrastive(**options)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="scores pairs of single examples, and got 8 outputs"):
        Contrastive().losses(torch.zeros(8, 2), torch.zeros(2, 2))


def test_pairs_of_sentences_are_refused_with_a_line() -> None:
    """A dataset whose examples are pairs gives two vectors for each example."""
    pool = Pool(9, torch.arange(9) % 2, 4, 0, 9, lambda rows: torch.zeros(2 * len(rows), 3))
    with pytest.raises(UserError, match="got 2 outputs for one example"):
        Contrastive().setup(nn.Identity(), pool, None)  # type: ignore[arg-type]

    class Two(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs.repeat(2, 1)

    batch = Batch(torch.zeros(8, 2), torch.zeros(4, 2), torch.zeros(4, 2, dtype=torch.long))
    with pytest.raises(UserError, match="objective=triplet"):
        Contrastive()(Two(), batch, Random(), 0)


# --- margins -------------------------------------------------------------------------------------

NAN = torch.tensor(torch.nan)
NEGATIVES = torch.tensor([1.0, 2.0, 3.0, 4.0])


def test_margin_policies() -> None:
    assert Margin(0.5)(7, 64, NEGATIVES, NAN) == 0.5
    assert Margin(0.5, "sqrt_dim")(7, 64, NEGATIVES, NAN) == 4.0
    assert Margin(0.5, "sqrt_dim", squared=True)(7, 64, NEGATIVES, NAN) == 32.0
    scheduled = Margin(1.0, "scheduled", end=3.0, steps=10)
    assert [scheduled(step, 1, NEGATIVES, NAN).item() for step in (0, 5, 10, 99)] == [1, 2, 3, 3]


def test_a_relative_margin_follows_the_negatives_of_the_step_before() -> None:
    margin = Margin(2.0, "relative", quantile=0.5)
    assert margin(0, 3, NEGATIVES, NAN) == 5.0
    following = margin.following(NEGATIVES, torch.tensor(9.0))
    assert following == 5.0
    assert margin(1, 3, 100 * NEGATIVES, following) == 5.0
    # Without negatives it stays; it never goes to nothing with distances that collapse.
    assert margin.following(NEGATIVES[:0], following) == 5.0
    assert margin.following(0 * NEGATIVES, following) == pytest.approx(1e-3)


def test_the_margin_of_a_run_follows_its_policy(train: Train, runs_dir: Path) -> None:
    train("miner=random", "objective.margin_policy=scheduled", "objective.margin_end=2",
          "objective.margin_steps=20", "logger.every=1")  # fmt: skip
    (path,) = (runs_dir / "single").glob("*/journal.jsonl")
    margins = [row["train/margin"] for row in read_rows(path)]
    assert margins == pytest.approx([min(2.0, 1 + step / 20) for step in range(30)])


def test_the_largest_feasible_margin_is_that_of_a_simplex() -> None:
    assert largest_feasible(2, "euclidean") == 2.0  # antipodes
    for classes in (3, 4, 10):
        # The simplex itself: unit vectors around the centre of the standard basis.
        corners = torch.eye(classes, dtype=torch.double) - 1 / classes
        corners = nn.functional.normalize(corners, dim=1)
        apart = torch.cdist(corners, corners)[0, 1].item()
        assert largest_feasible(classes, "euclidean") == pytest.approx(apart)
        assert largest_feasible(classes, "squared_euclidean") == pytest.approx(apart**2)
        cosine = 1 - (corners[0] @ corners[1]).item()
        assert largest_feasible(classes, "cosine") == pytest.approx(cosine)
        assert to_euclidean(cosine, "cosine") == pytest.approx(apart)
    assert to_euclidean(50.0, "squared_euclidean") == pytest.approx(math.sqrt(50))


# --- alarms --------------------------------------------------------------------------------------


class Told(NamedTuple):
    lines: list[str]
    early: int  # how many of them before the alarms' patience was over
    metrics: dict[str, float]


def told_by(
    caplog: pytest.LogCaptureFixture, objective: Contrastive, outputs: Tensor, labels: Tensor
) -> Told:
    """What is said over many steps of one batch."""

    class Same(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return outputs

    batch = Batch(outputs, labels, torch.arange(labels.numel()).view(-1, 2))
    miner = Random()
    with caplog.at_level("WARNING"):
        for step in range(2 * LONG):
            outcome = objective(Same(), batch, miner, step)
            if step == LONG - 2:
                early = len(caplog.records)
    lines = [record.getMessage() for record in caplog.records]
    return Told(lines, early, {key: value.item() for key, value in outcome.metrics.items()})


PAIRS = torch.tensor([[0, 0], [0, 1], [1, 1], [1, 2], [2, 2], [2, 3], [3, 3], [3, 0]])


def test_a_collapse_is_told_once_with_the_plateau(caplog: pytest.LogCaptureFixture) -> None:
    outputs = 1e-4 * torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    objective = Contrastive(margin=50.0, distance="squared_euclidean")
    told = told_by(caplog, objective, outputs, PAIRS)
    (line,) = told.lines
    assert "the loss has stayed at 1250 for 50 steps" in line  # P(neg) * m^2
    assert "objective.margin_policy=relative" in line
    assert told.metrics["train/plateau_ratio"] == pytest.approx(1)
    assert told.early == 0


def test_nothing_left_to_learn_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    outputs = 10.0 * PAIRS.flatten()[:, None].float()  # each class one point, far from the others
    told = told_by(caplog, Contrastive(margin=1.0), outputs, PAIRS)
    (line,) = told.lines
    assert "no pair has had a loss above 0 for 50 steps (margin 1)" in line
    assert told.metrics["train/active_share"] == 0
    assert told.metrics["mining/negatives_inside_margin"] == 0


def test_positives_alone_with_negatives_inside_the_margin_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outputs = 0.5 * PAIRS[:, :1].repeat(1, 2).flatten()[:, None].float()
    outputs[1::2] += 0.01
    labels = PAIRS[:, :1].repeat(1, 2)
    told = told_by(caplog, Contrastive(margin=0.8), outputs, labels)
    (line,) = told.lines
    assert "75 % of the negatives are inside the margin of 0.8" in line
    # The first of each pair and the second of the next: 0-1, 1-2, 2-3 are 0.5 apart, 3-0 are 1.5.
    assert told.metrics["mining/negatives_inside_margin"] == 0.75


def test_a_margin_that_cannot_be_met_is_told_at_once(caplog: pytest.LogCaptureFixture) -> None:
    outputs = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    told = told_by(caplog, Contrastive(margin=1.7, normalize=True), outputs, PAIRS)
    (line,) = told.lines
    assert "a margin of 1.7 cannot be met" in line
    assert "at most 1.633 apart" in line  # sqrt(2 * 4 / 3)
    assert told.early == 1
    caplog.clear()
    assert not told_by(caplog, Contrastive(margin=1.6, normalize=True), outputs, PAIRS).lines
    assert not told_by(caplog, Contrastive(margin=2.5), outputs, PAIRS).lines  # nothing bounds it


def test_an_alarm_that_was_told_is_not_told_again_after_a_resume(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outputs = torch.zeros(16, 3)
    first, second = Contrastive(), Contrastive()
    assert len(told_by(caplog, first, outputs, PAIRS).lines) == 1
    second.load_state_dict(first.state_dict())
    caplog.clear()
    assert not told_by(caplog, second, outputs, PAIRS).lines


# --- before training -----------------------------------------------------------------------------


def test_the_pre_flight_by_hand() -> None:
    places = torch.tensor([0.0, 1.0, 10.0, 12.0])
    apart = (places[:, None] - places).abs()
    found = preflight(apart, torch.tensor([0, 0, 1, 1]), margin=10.5, high=None)
    assert found is not None
    assert found.positives[1] == pytest.approx(1.5)
    assert found.negatives[1] == pytest.approx((10 + 12 + 9 + 11) / 4)
    assert found.active == 0.5
    assert found.low == pytest.approx(9.03)
    assert found.warning is None
    low = preflight(apart, torch.tensor([0, 0, 1, 1]), margin=1.0, high=None)
    assert low is not None
    assert "objective.margin=1 is below the distance of all but 0.0%" in str(low.warning)
    assert preflight(apart, torch.tensor([0, 0, 0, 0]), margin=1.0, high=None) is None


def test_the_pre_flight_is_shown_and_changes_nothing(
    train: Train, runs_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ["miner=random", "objective.distance=cosine", "objective.margin=0.4"]
    train(*chosen, "study=quiet")
    assert "Before training" not in capsys.readouterr().out
    train(*chosen, "study=shown", "trainer.progress=true")
    shown = capsys.readouterr().out
    assert "Before training (cosine)" in shown
    assert "to 1.111" in shown  # C / (C - 1)
    journals = [
        next((runs_dir / study).glob("*/journal.jsonl")).read_bytes()
        for study in ("quiet", "shown")
    ]
    assert journals[0] == journals[1]


# --- evaluation ----------------------------------------------------------------------------------


def test_evaluation_has_all_that_it_says_and_violations_in_the_units_of_the_margin() -> None:
    draws = torch.Generator().manual_seed(0)
    split = Split(torch.randn(60, 4, generator=draws), torch.arange(60) % 3)
    apart = torch.cdist(split.inputs, split.inputs)
    other = split.labels[:, None] != split.labels
    for distance, margin, share in [
        ("euclidean", 2.0, (apart[other] < 2).double().mean()),
        ("squared_euclidean", 4.0, (apart[other] < 2).double().mean()),
        ("euclidean", 1e9, 1.0),
    ]:
        metrics = Contrastive(margin=margin, distance=distance).evaluate(nn.Identity(), split)
        assert set(metrics) == set(Contrastive.evaluates)
        assert metrics["violated_share"] == pytest.approx(float(share))
        assert metrics["inter/min"] == pytest.approx(apart[other].min().item(), rel=1e-4)
    cosine = Contrastive(margin=0.3, distance="cosine")
    unit = nn.functional.normalize(split.inputs, dim=1)
    violated = ((1 - unit @ unit.T)[other] < 0.3).double().mean().item()
    assert cosine.evaluate(nn.Identity(), split)["violated_share"] == pytest.approx(violated)
