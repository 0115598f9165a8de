"""Answers while seeds are added, against SciPy, plain simulations and integrals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from minesweep.statistics.sequential import (
    COSTS,
    HELPS,
    LOOKS,
    SAME,
    UNSURE,
    Rule,
    _exits_above,
    classify,
    decide,
    e_value,
    is_fragile,
    looks_up_to,
    median_unbiased,
    nominal_levels,
    repeated_interval,
    seeds_for,
)

PUBLISHED = {
    (1, 0.5): (0.0149, 0.0149, 0.0149, 0.0149, 0.0149),
    (1, 0.25): (0.0022, 0.0064, 0.0138, 0.0219, 0.0302),
    (1, 0.0): (0.00004, 0.0011, 0.0079, 0.0213, 0.0395),
    (6, 0.5): (0.00215, 0.00215, 0.00215, 0.00215, 0.00215),
    (6, 0.25): (0.00008, 0.0005, 0.0016, 0.0033, 0.0054),
}
"""By comparisons and shape: levels from three million simulated sequences."""


@pytest.mark.parametrize(("comparisons", "shape"), PUBLISHED)
def test_levels_are_those_of_the_long_simulation(comparisons: int, shape: float) -> None:
    levels = nominal_levels(LOOKS, 0.05 / comparisons, shape)
    np.testing.assert_allclose(levels, PUBLISHED[comparisons, shape], rtol=0.025, atol=6e-5)


@pytest.mark.parametrize(("comparisons", "c"), [(1, 2.167), (6, 2.782)])
def test_the_constant_of_the_default_shape(comparisons: int, c: float) -> None:
    last = nominal_levels(LOOKS, 0.05 / comparisons)[-1]
    assert stats.norm.isf(last / 2) == pytest.approx(c, abs=0.006)


@pytest.mark.parametrize(
    ("looks", "alpha", "shape"),
    [(LOOKS, 0.05, 0.25), ((3, 4, 5), 0.05, 0.5), ((4, 20), 0.02, 0.1), ((10,), 0.05, 0.25)],
)
def test_all_looks_together_err_as_often_as_declared(
    looks: tuple[int, ...], alpha: float, shape: float
) -> None:
    rng = np.random.default_rng(7)
    levels = nominal_levels(looks, alpha, shape)
    d = rng.standard_normal((60_000, looks[-1]))
    p = np.stack([stats.ttest_1samp(d[:, :n], 0, axis=1).pvalue for n in looks], axis=1)
    error = (p < levels).any(axis=1).mean()
    assert error == pytest.approx(alpha, abs=4 * np.sqrt(alpha / len(d)))


def test_levels_refuse_what_is_no_plan() -> None:
    for looks, alpha, shape in (((8, 5), 0.05, 0.25), ((1, 5), 0.05, 0.25), ((), 0.05, 0.25)):
        with pytest.raises(ValueError, match="ascend"):
            nominal_levels(looks, alpha, shape)
    with pytest.raises(ValueError, match="alpha=0"):
        nominal_levels(LOOKS, 0)
    with pytest.raises(ValueError, match="too few"):
        looks_up_to(2)
    assert [looks_up_to(n) for n in (3, 10, 20, 30)] == [
        (3,),
        (5, 8, 10),
        LOOKS,
        (*LOOKS, 24, 28, 30),
    ]


def test_the_interval_is_students(rng: np.random.Generator) -> None:
    for n in (2, 5, 20):
        x = rng.normal(0.3, 2.0, n)
        want = stats.ttest_1samp(x, 0).confidence_interval(1 - 0.0138)
        assert repeated_interval(x, 0.0138) == pytest.approx((want.low, want.high))
    assert np.isnan(repeated_interval(np.array([1.0]), 0.05)).all()
    assert np.isnan(repeated_interval(np.full(5, 0.3), 0.05)).all()
    assert repeated_interval(np.zeros(5), 0.05) == (0, 0)


@pytest.mark.parametrize(
    ("low", "high", "care", "answer"),
    [
        (0.1, 2.0, 0.5, HELPS),
        (-2.0, -0.1, 0.5, COSTS),
        (-0.4, 0.4, 0.5, SAME),
        (-0.4, 0.4, None, UNSURE),
        (-0.4, 0.6, 0.5, UNSURE),
        (0.1, 0.4, 0.5, HELPS),
        (np.nan, np.nan, 0.5, UNSURE),
        (0.0, 0.0, 0.5, SAME),
    ],
)
def test_an_interval_gives_one_of_four_answers(
    low: float, high: float, care: float | None, answer: str
) -> None:
    assert classify(low, high, care) == answer


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_comparison_ends_at_the_first_look_that_answers(rng: np.random.Generator) -> None:
    rule = Rule(LOOKS, nominal_levels(LOOKS, 0.025), care=0.5)
    d = rng.normal(1.5, 1.0, 40)
    decision = decide(d, rule)
    looked = [
        classify(*repeated_interval(d[:n], p), 0.5) for n, p in zip(LOOKS, rule.levels, strict=True)
    ]
    first = next(k for k, answer in enumerate(looked) if answer != UNSURE)
    assert first > 0
    assert decision.kind == HELPS
    assert (decision.n, decision.next_look) == (LOOKS[first], None)
    assert (decision.low, decision.high) == repeated_interval(d[: decision.n], rule.levels[first])
    # What was computed beyond that look changes nothing.
    assert decide(d[: decision.n], rule) == decision
    # And before it, the next look is asked for.
    early = decide(d[: LOOKS[first] - 1], rule)
    assert (early.kind, early.next_look) == (UNSURE, LOOKS[first])
    assert decide([], rule).next_look == 5


def test_it_gives_up_at_the_last_look_and_takes_missing_seeds(rng: np.random.Generator) -> None:
    rule = Rule(LOOKS, nominal_levels(LOOKS), care=0.01)
    d = rng.normal(0.0, 1.0, 20)
    assert decide(d, rule).kind == UNSURE
    assert decide(d, rule).next_look is None
    d[[2, 6]] = np.nan
    decision = decide(d, rule)
    assert decision.n == 18
    held = d[np.isfinite(d)]
    assert (decision.low, decision.high) == repeated_interval(held, rule.levels[-1])
    nothing = decide(np.full(20, np.nan), rule)
    assert (nothing.kind, nothing.n, nothing.next_look) == (UNSURE, 0, None)


def test_one_seed_that_makes_the_answer_is_told() -> None:
    steady = np.array([0.9, 1.0, 1.1, 1.0, 0.95, 1.05, 1.0, 0.98])
    assert not is_fragile(steady, 0.0064, 0.5)
    # Alike but for one: without it no difference of 0.5 is left.
    collapsed = np.array([0.01, -0.01, 0.02, 0.0, -0.02, 0.01, 0.0, -0.7])
    assert classify(*repeated_interval(collapsed, 0.05), 0.5) == SAME
    mixed = np.array([0.3, 0.35, 0.3, 0.28, 0.33, 0.3, 0.31, -0.02])
    assert classify(*repeated_interval(mixed, 0.004), 0.5) == HELPS
    assert not is_fragile(mixed, 0.004, 0.5)
    edge = np.array([0.6, 0.1, 0.15, 0.2, 0.9, 0.12, 0.1, 0.3])
    assert classify(*repeated_interval(edge, 0.03), None) == HELPS
    assert is_fragile(edge, 0.03, None)


def test_chances_to_leave_above_are_those_of_a_simulated_walk(rng: np.random.Generator) -> None:
    information = np.array([0.25, 0.4, 1.0])
    bounds = np.array([2.5, 2.2, 1.8])
    steps = rng.standard_normal((400_000, 3)) * np.sqrt(np.diff(information, prepend=0))
    walk = steps.cumsum(axis=1) + 1.3 * information
    z = walk / np.sqrt(information)
    inside = np.ones(len(z), dtype=bool)
    chances = np.zeros(3)
    for k in range(3):
        chances[k] = (inside & (z[:, k] > bounds[k])).mean()
        inside &= np.abs(z[:, k]) <= bounds[k]
    np.testing.assert_allclose(_exits_above(bounds, information, 1.3), chances, atol=0.003)


def test_the_estimate_has_the_true_difference_as_its_median(rng: np.random.Generator) -> None:
    rule = Rule(LOOKS, nominal_levels(LOOKS))
    means, estimates = [], []
    for d in rng.normal(0.8, 1.0, (400, 20)):
        decision = decide(d, rule)
        means.append(decision.mean)
        estimates.append(decision.estimate)
    # Five standard errors of a share of one half.
    assert np.mean(np.array(estimates) > 0.8) == pytest.approx(0.5, abs=0.125)
    assert np.mean(means) > np.mean(estimates) > 0.75
    first = rng.normal(5.0, 1.0, 5)
    assert median_unbiased(first, rule, 0) == first.mean()
    d = rng.normal(0.6, 1.0, 12)
    assert median_unbiased(-d, rule, 2) == pytest.approx(-median_unbiased(d, rule, 2))


def test_the_e_value_is_the_mixture_it_stands_for(rng: np.random.Generator) -> None:
    d = rng.normal(0.7, 1.0, 9)
    values = []
    for n in range(2, 10):
        x = d[:n]
        t = stats.ttest_1samp(x, 0).statistic

        def weighted(effect: float, t: float = t, n: int = n) -> float:
            density = stats.nct.pdf(t, n - 1, effect * np.sqrt(n))
            return float(density * stats.norm.pdf(effect))

        mixture = integrate.quad(weighted, -12, 12, limit=400)[0]
        values.append(mixture / stats.t.pdf(t, n - 1))
    assert e_value(d) == pytest.approx(max(1.0, *values), rel=1e-5)


def test_the_e_value_stays_valid_whenever_it_is_read(rng: np.random.Generator) -> None:
    wrong = np.mean([e_value(d) >= 20 for d in rng.standard_normal((2000, 20))])
    assert wrong <= 0.05


def test_seeds_for_an_interval_of_a_width() -> None:
    n = seeds_for(1.0, 0.5, 0.03)
    assert n is not None
    half = [stats.t.isf(0.015, k - 1) / np.sqrt(k) for k in (n - 1, n)]
    assert half[0] > 0.5 >= half[1]
    assert seeds_for(1.0, 1e-9, 0.03, most=50) is None
