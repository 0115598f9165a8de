"""The exponent of a response surface's ridge, on surfaces whose exponent is known."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from minesweep.statistics.tables import exponent, slope

XS, YS = (4, 16, 64, 256), (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


def surface(power: float, noise: float = 0.0) -> pd.DataFrame:
    """Highest where y = x^power / 4^power, for three seeds that are noisy or not."""
    draws = np.random.default_rng(0)
    rows = [
        (str(x), str(y), seed, -abs(math.log(y) - power * math.log(x / 4)) + noise * draws.normal())
        for x in XS
        for y in YS
        for seed in range(3)
    ]
    return pd.DataFrame(rows, columns=["x", "y", "seed", "value"])


@pytest.mark.parametrize("power", [0.0, 0.5])
def test_the_exponent_of_a_known_surface(power: float) -> None:
    found = exponent(surface(power), smaller=False)
    assert found is not None
    # Without noise each seed says the same: at power 0 the best y is the one nearest to 1.
    assert found.n == 3
    assert found.mean == pytest.approx(power, abs=1e-9)


def test_seeds_that_differ_widen_the_interval() -> None:
    found = exponent(surface(0.5, noise=0.6), smaller=False)
    assert found is not None
    assert found.low < found.mean < found.high
    assert found.high - found.low > 0.05


def test_smaller_is_better_turns_it_over() -> None:
    table = surface(0.5)
    found = exponent(table.assign(value=-table["value"]), smaller=True)
    assert found is not None
    assert found.mean == pytest.approx(0.5)


@pytest.mark.parametrize(
    "xs",
    [
        ["raw"],  # no number
        ["0"],  # no logarithm
        ["1", "2"],  # two are always a line
    ],
)
def test_none_where_there_is_nothing_to_fit(xs: list[str]) -> None:
    rows = [(x, "1.0", 0, 1.0) for x in xs]
    table = pd.DataFrame(rows, columns=["x", "y", "seed", "value"])
    assert exponent(table, smaller=False) is None


def test_a_slope_is_fitted_in_each_seed() -> None:
    draws = np.random.default_rng(1)
    # Seeds differ by far more than x does: one fit over all runs would drown in that.
    rows = [
        (x, 100.0 * seed - (2.0 + 0.1 * seed) * x + 0.01 * draws.normal(), seed)
        for seed in range(5)
        for x in (0.2, 0.5, 0.98, 1.0)
    ]
    table = pd.DataFrame(rows, columns=["x", "y", "seed"])
    found = slope(table)
    each = [stats.linregress(own["x"], own["y"]).slope for _, own in table.groupby("seed")]
    low, high = stats.t.interval(0.95, 4, np.mean(each), stats.sem(each))
    assert found is not None
    assert (found.n, found.mean) == (5, pytest.approx(np.mean(each)))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.high < -1.5


def test_two_points_are_no_slope() -> None:
    rows = [(x, x, seed) for seed in range(3) for x in (0.0, 1.0)]
    assert slope(pd.DataFrame(rows, columns=["x", "y", "seed"])) is None
