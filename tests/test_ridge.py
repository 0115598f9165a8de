"""The exponent of a response surface's ridge, on surfaces whose exponent is known."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from minesweep.statistics.tables import exponent

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
