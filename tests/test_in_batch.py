"""The miners of negatives in the batch, against naive loops."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_triplet import ready, similarity, triplet
from torch import Tensor, nn

from minesweep.config.compose import compose
from minesweep.config.identity import identity
from minesweep.datasets.base import Batch
from minesweep.miners.band import Band
from minesweep.miners.base import Miner
from minesweep.miners.closest_negative import ClosestNegative
from minesweep.miners.distance_weighted import DistanceWeighted, log_density
from minesweep.miners.smooth import Smooth
from minesweep.objectives.terms import Hinge, Similarities

Case = tuple[Tensor, Tensor, Tensor]


def chosen(miner: Miner, case: Case, step: int = 3, dim: int = 8) -> list[int | None]:
    """The one hard negative of each anchor, None where it has none; all weights checked."""
    scores, valid, positive = case
    weights = miner.select(scores, step=step, valid=valid, positive=positive, dim=dim)["hard"]  # type: ignore[index]
    assert set(weights.unique().tolist()) <= {0.0, 1.0}
    assert weights.sum(1).max() <= 1
    assert weights[~valid].sum() == 0
    return [row.argmax().item() if row.any() else None for row in weights]


def band_of(
    case: Case, row: int, low: int, high: int | None, rel: float | None, ab: float | None
) -> list[float]:
    """Scores of the negatives that a band holds, by plain words."""
    scores, valid, positive = case
    left = []
    for j in range(scores.shape[1]):
        score, limit = scores[row, j], positive[row]
        close = (rel is not None and score > limit - rel * abs(limit)) or (
            ab is not None and score > limit - ab
        )
        if valid[row, j] and not close:
            left.append(score.item())
    return sorted(left, reverse=True)[low:high]


bound = st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.5]))


@settings(deadline=None, max_examples=80)
@given(similarity(), st.integers(0, 3), st.one_of(st.none(), st.integers(1, 4)), bound, bound)
def test_band_is_the_naive_loop(
    case: Case, low: int, width: int | None, rel: float | None, ab: float | None
) -> None:
    high = None if width is None else low + width
    found = chosen(ready(Band(low, high, rel, ab)), case)
    for row, place in enumerate(found):
        inside = band_of(case, row, low, high, rel, ab)
        if inside:
            assert place is not None
            assert case[0][row, place].item() in inside
        else:
            assert place is None


def test_band_draws_evenly_and_anew_at_each_step() -> None:
    case = torch.arange(12.0).flip(0)[None] / 12, torch.ones(1, 12).bool(), torch.ones(1)
    miner = ready(Band(2, 6))
    drawn = Counter(chosen(miner, case, step)[0] for step in range(600))
    assert set(drawn) == {2, 3, 4, 5}
    assert all(abs(count - 150) < 60 for count in drawn.values())
    assert chosen(miner, case, 7) == chosen(miner, case, 7)


def test_a_band_of_the_closest_alone_is_the_closest_negative() -> None:
    scores = torch.randn(32, 32, generator=torch.Generator().manual_seed(0))
    case = scores, ~torch.eye(32, dtype=torch.bool), scores.diagonal()
    assert chosen(ready(Band(0, 1)), case) == chosen(ready(ClosestNegative("none")), case)
    masked = Band(0, 1, absolute_margin=0.0)
    assert chosen(ready(masked), case) == chosen(ready(ClosestNegative()), case)


# --- semi-hard and hardest ----------------------------------------------------------------------


def test_semi_hard_and_hardest_are_masks_of_the_closest_negative() -> None:
    """One code path, and one run: the identities are equal."""
    for name, mask in [("semi_hard", "semi_hard"), ("hardest", "none")]:
        same = compose(["miner=closest_negative", f"miner.mask={mask}"])
        assert identity(compose([f"miner={name}"])) == identity(same)


@settings(deadline=None, max_examples=80)
@given(similarity(), st.booleans())
def test_the_semi_hard_negative_is_the_closest_that_is_strictly_farther(
    case: Case, ties: bool
) -> None:
    """FaceNet, section 3.2, eq. 4, by a loop."""
    scores, valid, positive = case
    if ties:  # many negatives are exactly as far as the positive
        scores, positive = scores.mul(3).round() / 3, positive.mul(3).round() / 3
    found = chosen(ready(ClosestNegative("semi_hard")), (scores, valid, positive))
    for row, place in enumerate(found):
        farther = [
            j for j in range(scores.shape[1]) if valid[row, j] and scores[row, j] < positive[row]
        ]
        best = max(farther, key=lambda j: (scores[row, j].item(), -j), default=None)
        assert place == best


@settings(deadline=None, max_examples=80)
@given(similarity(), st.sampled_from([0.1, 0.25, 0.7]), st.booleans())
def test_the_hinge_of_the_mask_is_that_of_the_hardest_negative_within_the_margin(
    case: Case, margin: float, semi_hard: bool
) -> None:
    """FaceNet, section 3.2; C3_W4's mask keeps a negative that is as far as the positive, too."""
    scores, valid, positive = (part.double() if part.is_floating_point() else part for part in case)
    miner = ready(ClosestNegative("semi_hard") if semi_hard else ClosestNegative())
    weights = miner.select(scores, step=0, valid=valid, positive=positive)
    hinge = Hinge("hard", margin)(Similarities(scores, positive, valid, weights))  # type: ignore[arg-type]
    for row in range(len(scores)):
        tie = not semi_hard
        losses = [
            margin - positive[row].item() + scores[row, j].item()
            for j in range(scores.shape[1])
            if valid[row, j]
            and positive[row] - margin < scores[row, j]
            and (scores[row, j] < positive[row] or (tie and scores[row, j] == positive[row]))
        ]
        assert hinge[row].item() == pytest.approx(max(losses, default=0.0))


# --- distance-weighted --------------------------------------------------------------------------


def test_the_density_is_that_of_points_spread_evenly_on_a_sphere() -> None:
    points = torch.randn(3000, 6, generator=torch.Generator().manual_seed(0))
    points = nn.functional.normalize(points.double(), dim=1)
    distances = torch.pdist(points)
    edges = torch.linspace(0, 2, 21, dtype=torch.double)
    share = torch.histogram(distances, edges).hist / len(distances)
    fine = torch.linspace(0, 2, 20_001, dtype=torch.double)
    middles = (fine[1:] + fine[:-1]) / 2
    density = log_density(middles, 6).exp().view(20, -1).sum(1)
    assert (share - density / density.sum()).abs().max() < 0.01


def weighted_chances(case: Case, row: int, miner: DistanceWeighted, dim: int) -> dict[int, float]:
    """The paper's chances of one anchor, by plain words."""
    scores, valid, _ = case
    chances = {}
    for j in range(scores.shape[1]):
        distance = math.sqrt(2 - 2 * scores[row, j].item())
        if not valid[row, j] or distance >= miner.nonzero_loss_cutoff:
            continue
        d = max(distance, miner.cutoff)
        chances[j] = 1 / (d ** (dim - 2) * (1 - d * d / 4) ** ((dim - 3) / 2))
    total = sum(chances.values())
    return {j: chance / total for j, chance in chances.items()}


@settings(deadline=None, max_examples=20)
@given(similarity(), st.integers(3, 24))
def test_distance_weighted_draws_with_the_papers_chances(case: Case, dim: int) -> None:
    miner = ready(DistanceWeighted())
    assert isinstance(miner, DistanceWeighted)
    many, row = 400, 0
    repeated = tuple(part[:1].repeat(many, *[1] * (part.dim() - 1)) for part in case)
    drawn = Counter(chosen(miner, repeated, 5, dim))  # type: ignore[arg-type]
    expected = weighted_chances(case, row, miner, dim)
    if not expected:
        assert drawn == {None: many}
        return
    assert set(drawn) <= set(expected)
    for j, chance in expected.items():
        # Six standard deviations.
        assert abs(drawn[j] - many * chance) <= 6 * math.sqrt(many * chance * (1 - chance)) + 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_weights_have_the_type_of_the_scores(dtype: torch.dtype) -> None:
    scores = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)).tanh().to(dtype)
    case = scores, ~torch.eye(64, dtype=torch.bool), scores.diagonal()
    for miner in (Band(1, 5), DistanceWeighted(), ClosestNegative("annealed"), Smooth()):
        weights = ready(miner).select(scores, step=3, valid=case[1], positive=case[2], dim=128)
        assert {part.dtype for part in weights.values()} == {dtype}  # type: ignore[union-attr]
        assert weights["hard"].isfinite().all()  # type: ignore[index]


# --- the positive of an anchor -------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=8), st.booleans())
def test_hardest_and_drawn_positives_are_the_naive_loop(labels: list[int], pairs: bool) -> None:
    n = len(labels)
    draws = torch.Generator().manual_seed(n)
    inputs = torch.randn(2 * n if pairs else n, 3, generator=draws, dtype=torch.double)
    unit = nn.functional.normalize(inputs, dim=1)
    anchors, others = (unit[:n], unit[n:]) if pairs else (unit, unit)
    batch = Batch(inputs, torch.tensor(labels), torch.arange(n))
    possible = [
        [
            (anchors[i] @ others[j]).item()
            for j in range(n)
            if labels[i] == labels[j] and (pairs or i != j)
        ]
        for i in range(n)
    ]
    seen: dict[str, float] = {}
    for how in ("hardest", "drawn"):
        objective = triplet(positive=how)
        outcome = objective(nn.Identity(), batch, ready(ClosestNegative()), 0)
        seen[how] = outcome.metrics["train/positive_similarity"].item()
        assert outcome.loss.isfinite()
    lowest = [min(row) for row in possible if row]
    highest = [max(row) for row in possible if row]
    anchored = max(1, len(lowest))
    assert seen["hardest"] == pytest.approx(sum(lowest) / anchored)
    assert seen["drawn"] >= sum(lowest) / anchored - 1e-9
    assert seen["drawn"] <= sum(highest) / anchored + 1e-9


def test_every_positive_is_drawn_in_the_end() -> None:
    inputs = torch.eye(4, dtype=torch.double) + 0.1 * torch.arange(16).view(4, 4) % 0.7
    batch = Batch(inputs, torch.tensor([0, 0, 0, 1]), torch.arange(4))
    objective, miner = triplet(positive="drawn"), ready(ClosestNegative())
    seen = set()
    for step in range(100):
        metrics = objective(nn.Identity(), batch, miner, step).metrics
        seen.add(round(metrics["train/positive_similarity"].item(), 9))
    # Three anchors, two positives each; two of the 8 draws have the same three pairs.
    assert len(seen) == 7
