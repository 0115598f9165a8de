"""One sample, such as one value a seed: mean and interval, groups, corrected p values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import nctdtrinc, stdtr, stdtrit

CONFIDENCE = 0.95
POWER = 0.8
"""Chance with which a difference that can be resolved would be seen."""


@dataclass(frozen=True)
class Interval:
    """A mean over ``n`` seeds and its 95 % t-interval; NaN where there is none.

    ``p`` is that of the mean being zero, two-sided: of a paired difference, the paired t-test's.
    """

    mean: float
    low: float
    high: float
    n: int
    p: float

    @property
    def half(self) -> float:
        return (self.high - self.low) / 2


def interval(values: Sequence[float] | np.ndarray) -> Interval:
    """Mean and 95 % t-interval of independent values; NaN among them are left out."""
    x = np.asarray(values, dtype=float)
    x = x[np.isfinite(x)]
    n, mean = len(x), float(x.mean()) if len(x) else math.nan
    quantile = float(stdtrit(max(n - 1, 1), 0.5 + CONFIDENCE / 2))
    low, high = around(x, quantile)
    p = 1.0 if low == high else math.nan
    if low < high:
        p = 2 * float(stdtr(n - 1, -abs(mean) / ((high - low) / 2 / quantile)))
    return Interval(mean, low, high, n, p)


def around(x: np.ndarray, quantile: float) -> tuple[float, float]:
    """``mean -+ quantile * sd / sqrt(n)``; NaN without a spread.

    One value has no spread. Equal values have none either: they say nothing about the spread,
    unless they are all zero, as where two arms agree on every seed.
    """
    if len(x) < 2:
        return math.nan, math.nan
    mean, spread = float(x.mean()), float(x.std(ddof=1))
    if spread <= 1e-12 * max(1.0, float(np.abs(x).max())):
        return (0.0, 0.0) if mean == 0 else (math.nan, math.nan)
    half = quantile * spread / math.sqrt(len(x))
    return mean - half, mean + half


def two_groups(values: Sequence[float] | np.ndarray) -> np.ndarray | None:
    """Whether an arm's values fall into two groups, such as seeds that collapsed and others.

    The statistic is the widest gap between neighbours over the standard deviation within the two
    groups that it makes. Its limit is the 99th percentile for as many normal values, by
    simulation. A standard deviation below a thousandth of the largest value counts as that.

    Returns:
        A mask of the smaller group, or None. Fewer than four values are never two groups.
    """
    x = np.asarray(values, dtype=float)
    if len(x) < 4 or not np.isfinite(x).all() or not np.ptp(x):
        return None
    ratio, above = _gap(x[None], floor=1e-3 * float(np.abs(x).max()))
    if not ratio[0] > _gap_limit(len(x)):
        return None
    return above[0] if above[0].sum() * 2 <= len(x) else ~above[0]


def _gap(samples: np.ndarray, floor: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The statistic of :func:`two_groups` for ``[m, n]`` samples, and which lie above the gap."""
    ordered = np.sort(samples, axis=1)
    gaps = np.diff(ordered, axis=1)
    widest = gaps.argmax(1)[:, None]
    above = samples > np.take_along_axis(ordered, widest, 1)
    groups = np.stack([above, ~above])
    means = (samples * groups).sum(2) / groups.sum(2)
    squares = (((samples - means[:, :, None]) ** 2) * groups).sum((0, 2))
    within = np.maximum(np.sqrt(squares / (samples.shape[1] - 2)), floor)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.take_along_axis(gaps, widest, 1)[:, 0] / within, above


@cache
def _gap_limit(n: int) -> float:
    draws = np.random.default_rng(0).normal(size=(20_000, n))
    return float(np.quantile(_gap(draws)[0], 0.99))


def resolvable(half: float, n: int) -> float:
    """The least true difference that so many seeds would show, with a chance of ``POWER``.

    Shown: by a 95 % interval that leaves out zero, before any correction. The spread of the
    paired differences is taken to be the one seen; with few seeds that is itself a guess.

    Args:
        half: Half the width of the 95 % t-interval over ``n`` seeds.
        n: Number of seeds.
    """
    edge = stdtrit(n - 1, 0.5 + CONFIDENCE / 2)
    return float(nctdtrinc(n - 1, 1 - POWER, edge) * half / edge)


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm's step-down correction of p values (Scandinavian J. of Statistics 6, 1979).

    A NaN stays NaN and does not count as a comparison.
    """
    order = np.argsort(p)  # NaN comes last
    left = np.isfinite(p).sum() - np.arange(len(p))
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(np.minimum(1.0, left * np.asarray(p)[order]))
    return corrected
