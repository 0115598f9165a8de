"""The arithmetic of reports, against scipy."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from minesweep.reporting.show.losses import rebin
from minesweep.statistics.samples import holm, interval, resolvable, two_groups
from minesweep.statistics.tables import at_equal_budget, band, choose, compare, deciding_seeds


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12))
def test_interval_is_scipys(values: list[float]) -> None:
    found = interval(values)
    spread = np.std(values, ddof=1)
    if spread < 1e-9:
        return
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert found.low == pytest.approx(low, abs=1e-9)
    assert found.high == pytest.approx(high, abs=1e-9)
    assert found.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=1e-9)


def test_interval_without_spread() -> None:
    assert math.isnan(interval([0.5]).low)
    assert interval([0.5]).mean == 0.5
    assert math.isnan(interval([0.25, 0.25]).low), "equal values do not show their spread"
    zero = interval([0.0, 0.0, 0.0])
    assert (zero.low, zero.high, zero.p) == (0, 0, 1)
    assert interval([math.nan, 0.5]).n == 1
    assert interval([]).n == 0


def pair(arm: dict[int, float], baseline: dict[int, float]) -> pd.DataFrame:
    """Runs of an arm ``a`` and of its baseline ``b``, by seed."""
    rows = [("a", *row) for row in arm.items()] + [("b", *row) for row in baseline.items()]
    return pd.DataFrame(rows, columns=["arm", "seed", "m"])


def test_differences_are_paired_on_the_seeds_in_common() -> None:
    runs = pair({0: 0.9, 1: 0.8, 2: 0.95, 9: 0.1}, {2: 0.7, 0: 0.85, 1: 0.7, 8: 0.2})
    (found,) = compare(runs, "m", {"a": "b", "c": "b"}).to_dict("records")
    expected = stats.ttest_rel([0.9, 0.8, 0.95], [0.85, 0.7, 0.7])
    ends = expected.confidence_interval(0.95)
    assert found["n"] == 3
    assert found["p"] == found["p_holm"] == pytest.approx(expected.pvalue)
    assert (found["low"], found["high"]) == pytest.approx((ends.low, ends.high))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_the_closed_test_of_bonferroni(p: list[float]) -> None:
    # Holm rejects a hypothesis exactly when Bonferroni rejects every set that contains it, so
    # its corrected p is the largest over those sets.
    sets = range(1, 2 ** len(p))
    for i, corrected in enumerate(holm(p)):
        held = [[p[j] for j in range(len(p)) if s >> j & 1] for s in sets if s >> i & 1]
        assert corrected == pytest.approx(max(min(1.0, len(h) * min(h)) for h in held))


@pytest.mark.parametrize(("n", "spread"), [(3, 0.4), (5, 1.0), (12, 2.5)])
def test_what_can_be_resolved_is_seen_four_times_in_five(n: int, spread: float) -> None:
    draws = np.random.default_rng(0).normal(size=(20_000, n)) * spread
    # Its size follows from the true spread here; a report has to guess that from its seeds.
    half = stats.t.ppf(0.975, n - 1) * spread / np.sqrt(n)
    shifted = draws + resolvable(half, n)
    seen = stats.ttest_1samp(shifted, 0, axis=1).pvalue < 0.05
    assert (seen & (shifted.mean(1) > 0)).mean() == pytest.approx(0.8, abs=0.015)


def test_holm_leaves_out_what_was_not_tested() -> None:
    assert holm([0.01, math.nan, 0.04])[::2] == pytest.approx([0.02, 0.04])


def test_equal_budget_reads_every_run_at_the_largest_common_budget() -> None:
    # a: 100 samples a step, 40 steps; b: 10 samples a step, 100 steps, so 1,000 is common.
    rows = [("a", s, "val/accuracy", s / 40) for s in (20, 40)]
    rows += [("a", s, "samples/backward", 100.0 * s) for s in (8, 40)]
    rows += [("b", s, "val/accuracy", s / 100) for s in (5, 50, 100)]
    rows += [("b", s, "samples/backward", 10.0 * s) for s in (50, 100)]
    rows += [("c", s, "val/accuracy", 0.5) for s in (2, 100)]
    rows += [("c", s, "samples/backward", 20.0 * s) for s in (50, 100)]
    curves = pd.DataFrame(rows, columns=["run", "step", "metric", "value"])
    spent = curves[curves["metric"] == "samples/backward"].rename(columns={"value": "budget"})
    values, budget, shares = at_equal_budget(curves, "val/accuracy", spent)
    assert budget == 1000
    assert math.isnan(values["a"]), "first evaluated at 2,000: not extrapolated"
    assert values["b"] == pytest.approx(1.0)
    assert values["c"] == pytest.approx(0.5)
    assert shares.to_dict() == pytest.approx({"a": 0.25, "b": 1.0, "c": 0.5})


def test_choose_compares_values_on_the_seeds_that_all_have() -> None:
    rows = [
        (0.1, 0, 0.90),
        (0.01, 0, 0.80),
        (0.01, 1, 0.99),
        (0.01, 2, 0.99),
    ]
    runs = pd.DataFrame(rows, columns=["lr", "seed", "val"]).assign(arm="a")
    kept, choices = choose(runs, "lr", "val")
    (choice,) = choices.itertuples()
    assert choice.value == 0.1, "0.01 has the better mean only on seeds that 0.1 was not run on"
    assert choice.seeds == (0,)
    assert choice.at_edge
    assert list(kept["lr"]) == [0.1]
    assert choose(runs, "lr", "val", lower_is_better=True)[1]["value"].tolist() == [0.01]


def test_a_value_whose_seeds_diverge_does_not_win() -> None:
    """Two of five seeds failed at the higher rate, and the other three look best."""
    rows = [(0.1, seed, 0.99) for seed in range(3)] + [(0.01, seed, 0.9) for seed in range(5)]
    runs = pd.DataFrame(rows, columns=["lr", "seed", "val"]).assign(arm="a")
    failed = pd.DataFrame([(0.1, seed, math.nan, "a") for seed in (3, 4)], columns=runs.columns)
    kept, choices = choose(pd.concat([runs, failed]), "lr", "val")
    (choice,) = choices.itertuples()
    assert (choice.value, choice.better, choice.lost) == (0.01, 0.1, {0.1: 2})
    assert set(kept["lr"]) == {0.01}
    # Where every value has failed seeds the best one is kept, and says so.
    every = pd.concat([runs[runs["seed"] != 4], failed, failed[1:].assign(lr=0.01)])
    (choice,) = choose(every, "lr", "val")[1].itertuples()
    assert (choice.value, choice.lost) == (0.1, {0.1: 2, 0.01: 1})


def test_a_seed_that_occurs_twice_is_refused() -> None:
    runs = pair({0: 0.9, 1: 0.8}, {0: 0.7, 1: 0.6})
    for arm in ("a", "b"):
        twice = pd.concat([runs, runs[runs["arm"] == arm]])
        with pytest.raises(ValueError, match="duplicate"):
            compare(twice, "m", {"a": "b"})


def test_seeds_in_two_groups_are_seen_and_others_hardly_ever() -> None:
    draws = np.random.default_rng(1)
    for n, collapsed in ((5, 1), (10, 1), (10, 2), (20, 4)):
        values = draws.normal(0.95, 0.003, n)
        assert two_groups(values) is None
        values[:collapsed] = draws.normal(0.1, 0.003, collapsed)
        found = two_groups(values)
        assert found is not None
        assert found.tolist() == [True] * collapsed + [False] * (n - collapsed)
    alarms = [two_groups(draws.normal(size=8)) is not None for _ in range(2000)]
    assert np.mean(alarms) == pytest.approx(0.01, abs=0.007)
    assert two_groups([0.95, 0.95, 0.95, 0.9525]) is None, "a coarse metric is no second group"
    assert two_groups([0.1, 0.9, 0.9]) is None


def test_seeds_that_decide_an_answer() -> None:
    clear = pd.Series([1.0, 1.1, 0.9, 1.2, 0.8])
    assert deciding_seeds(clear) == []
    collapsed = pd.Series([1.0, 1.1, 0.9, 1.2, -9.0], index=list("abcde"))
    assert deciding_seeds(collapsed) == ["e"]
    assert deciding_seeds(clear[:3]) == []


def test_band_is_an_interval_at_every_step_that_all_seeds_have() -> None:
    rows = [(f"r{s}", step, "m", step * (1 + s)) for s in range(3) for step in (10, 20)]
    rows.append(("r0", 30, "m", 99))
    curves = pd.DataFrame(rows, columns=["run", "step", "metric", "value"])
    found = band(curves, {f"r{s}": "a" for s in range(3)}, "m").set_index("step")
    assert list(found.index) == [10, 20], "at 30 one seed is left: survivors are no mean"
    low, high = stats.t.interval(0.95, 2, 40, stats.sem([20, 40, 60]))
    assert found.loc[20, ["low", "high"]].tolist() == pytest.approx([low, high])


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=20),
    st.floats(-1, 1),
    st.floats(0, 3),
)
def test_rebin_keeps_the_sum(counts: list[int], low: float, width: float) -> None:
    edges = np.linspace(-0.5, 2.0, 9)
    found = rebin(np.array(counts), low, low + width, edges)
    assert found.sum() == pytest.approx(sum(counts))
    assert (found >= -1e-9).all()
