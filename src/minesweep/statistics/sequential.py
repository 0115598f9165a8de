"""Answers while seeds are added: repeated confidence intervals at looks that are declared first.

Sources: C. Jennison and B. Turnbull, Group Sequential Methods with Applications to Clinical Trials
(2000), called JT below; S. Wang and A. Tsiatis, Biometrics 43 (1987) for the shape of the bounds.
A difference is an arm's value minus its baseline's on the same seed, signed so that more is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from minesweep.statistics.samples import around

ALPHA = 0.05
"""Chance of a wrong answer where nothing differs."""
HELPS, COSTS, SAME, UNSURE = "helps", "costs", "no difference", "not sure"
"""What an interval answers."""
LOOKS = (5, 8, 12, 16, 20)
"""Numbers of seeds at which an arm is looked at."""
SHAPE = 0.25
"""w of Wang and Tsiatis: 0.5 has Pocock's equal levels, 0 has O'Brien and Fleming's."""
NODES, WEIGHTS = np.polynomial.legendre.leggauss(100)


@dataclass(frozen=True)
class Rule:
    """What decides one comparison.

    Attributes:
        looks: Numbers of seeds, ascending.
        levels: The two-sided nominal level of each look (:func:`nominal_levels`). Several
            comparisons share the chance of a wrong answer (Bonferroni).
        care: The smallest difference that matters, in the unit of the differences; None for none,
            and then no comparison is answered with ``SAME``.
    """

    looks: tuple[int, ...]
    levels: tuple[float, ...]
    care: float | None = None


@dataclass(frozen=True)
class Decision:
    """What the looks so far say of one comparison.

    Attributes:
        kind: ``HELPS``, ``COSTS``, ``SAME`` or ``UNSURE``, which also holds before the last look.
        n: Number of seeds at the look that decided, or at the last one taken.
        mean: Mean difference over them.
        low: Lower end of the repeated confidence interval of that look; NaN without one.
        high: Its upper end.
        level: The nominal level of that look; NaN before the first one.
        estimate: The median unbiased estimate of the difference (:func:`median_unbiased`).
        fragile: Whether the answer changes when one seed is left out (:func:`is_fragile`).
        next_look: Number of seeds of the next look; None where the comparison is answered, or
            the looks are used up.
    """

    kind: str
    n: int
    mean: float
    low: float
    high: float
    level: float
    estimate: float
    fragile: bool
    next_look: int | None


def looks_up_to(seeds: int) -> tuple[int, ...]:
    """The default looks, cut or continued by fours so that the last one is at ``seeds``.

    Raises:
        ValueError: ``seeds`` is less than 3, too few for an interval of any use.
    """
    if seeds < 3:
        raise ValueError(f"{seeds} seeds are too few; at least 3 are needed")
    further = range(LOOKS[-1] + 4, seeds, 4)
    return (*(n for n in (*LOOKS, *further) if n < seeds), seeds)


# --- levels --------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def nominal_levels(
    looks: tuple[int, ...], alpha: float = ALPHA, shape: float = SHAPE
) -> tuple[float, ...]:
    """Two-sided levels of the looks' t-tests that together keep ``alpha``.

    The bound of look k is ``z_k = c (n_k / n_K)^(w - 1/2)``, and ``2 Phi(-z_k)`` is its nominal
    level, which JT (section 4.4) keep for a t-test. c is that of the t-tests themselves: a
    quantile over simulated studies in which nothing differs. The seed is fixed, the relative
    error of ``alpha`` about 1 %. A study stores its levels, so that they are drawn once.

    Args:
        looks: Numbers of seeds, ascending.
        alpha: Chance that any look decides although nothing differs.
        shape: w.

    Raises:
        ValueError: The looks do not ascend, or alpha or w lie outside their range.
    """
    if not looks or looks[0] < 2 or any(b <= a for a, b in pairwise(looks)):
        raise ValueError(f"looks {looks} must ascend from at least 2")
    if not 0 < alpha < 1 or not 0 <= shape <= 0.5:
        raise ValueError(f"alpha={alpha} must lie in (0, 1), w={shape} in [0, 0.5]")
    if len(looks) == 1:
        return (alpha,)
    n = np.asarray(looks, dtype=float)
    steepness = (n / n[-1]) ** (shape - 0.5)
    draws = int(np.clip(20_000 / alpha, 400_000, 4_000_000))
    # The last look alone would need this c, so the one of all looks is no less.
    least = -float(ndtri(alpha / 2))
    largest = _largest_statistics(n, steepness, least, draws)
    c = max(least, float(np.quantile(largest, 1 - alpha)))
    return tuple(float(p) for p in 2 * ndtr(-c * steepness))


def _largest_statistics(
    n: np.ndarray, steepness: np.ndarray, least: float, draws: int
) -> np.ndarray:
    """``max_k z_k / steepness_k`` of simulated null studies, ``[draws]``; 0 where below ``least``.

    z is the normal quantile of the t-test's p. Each block of seeds between two looks enters by its
    sum and by its sum of squares, a square of the former and a chi-square.
    """
    rng = np.random.Generator(np.random.PCG64(20_000))
    sums, squares = np.zeros(draws), np.zeros(draws)
    largest = np.zeros(draws)
    for k, seeds in enumerate(np.diff(n, prepend=0.0)):
        block = rng.standard_normal(draws) * math.sqrt(seeds)
        sums += block
        squares += block**2 / seeds
        if seeds > 1:
            squares += rng.chisquare(seeds - 1, draws)
        variance = (squares - sums**2 / n[k]) / (n[k] - 1)
        t = np.abs(sums) / np.sqrt(n[k] * variance)
        large = np.flatnonzero(t > -stdtrit(n[k] - 1, ndtr(-least * steepness[k])))
        z = -ndtri(stdtr(n[k] - 1, -t[large]))
        largest[large] = np.maximum(largest[large], z / steepness[k])
    return largest


def _exits_above(bounds: np.ndarray, information: np.ndarray, drift: float) -> np.ndarray:
    """Chances ``[K]`` to leave above at each look, by integration (JT, section 19.2).

    The process is Brownian motion with a drift, watched at the times ``information`` ``[K]`` and
    stopped where it leaves ``+-bounds * sqrt(information)``.
    """
    edges = bounds * np.sqrt(information)
    chances = np.zeros(len(edges))
    places, mass, before = np.zeros(1), np.ones(1), 0.0
    for k, (edge, now) in enumerate(zip(edges, information, strict=True)):
        spread = math.sqrt(now - before)
        ahead = places + drift * (now - before)
        chances[k] = mass @ ndtr((ahead - edge) / spread)
        inside = edge * NODES
        density = np.exp(-0.5 * ((inside[:, None] - ahead) / spread) ** 2)
        density /= spread * math.sqrt(2 * math.pi)
        places, mass, before = inside, edge * WEIGHTS * (density @ mass), now
    return chances


# --- one comparison ------------------------------------------------------------------------------


def decide(differences: Sequence[float] | np.ndarray, rule: Rule) -> Decision:
    """Takes the looks in order until one of them answers.

    Args:
        differences: One for each seed, in the order in which the study declares its seeds. NaN
            stands for a seed without a result; it counts as used, but not as an observation.
        rule: What the study declared.

    Returns:
        The decision. What lies beyond the look that answers is not looked at.
    """
    d = np.asarray(differences, dtype=float)
    nan = math.nan
    decision = Decision(UNSURE, 0, nan, nan, nan, nan, nan, False, rule.looks[0])
    for k, (n, level) in enumerate(zip(rule.looks, rule.levels, strict=True)):
        if n > len(d):
            break
        x = d[:n][np.isfinite(d[:n])]
        low, high = repeated_interval(x, level)
        kind = classify(low, high, rule.care)
        ended = kind != UNSURE or k == len(rule.looks) - 1
        following = None if ended else rule.looks[k + 1]
        decision = replace(decision, next_look=following)
        if len(x):
            mean, fragile = float(x.mean()), is_fragile(x, level, rule.care)
            estimate = median_unbiased(x, rule, k) if ended else mean
            numbers = len(x), mean, low, high, level, estimate
            decision = Decision(kind, *numbers, fragile, following)
        if ended:
            break
    return decision


def repeated_interval(x: np.ndarray, level: float) -> tuple[float, float]:
    """``mean +- t(1 - level / 2, n - 1) sd / sqrt(n)`` (JT, chapter 9); NaN without a spread.

    The intervals of all looks hold the true difference together, at the levels of
    :func:`nominal_levels`. So each of them stays valid whatever made the study stop.
    """
    return around(x, -float(stdtrit(max(len(x) - 1, 1), level / 2)))


def classify(low: float, high: float, care: float | None) -> str:
    """The answer that an interval gives."""
    if low > 0:
        return HELPS
    if high < 0:
        return COSTS
    if care is not None and -care < low and high < care:
        return SAME
    return UNSURE


def is_fragile(x: np.ndarray, level: float, care: float | None) -> bool:
    """Whether an answer changes when one seed is left out.

    The quantile stays that of all seeds, so that the loss of one degree of freedom alone does not
    count. A mean that one collapsed seed makes is told by this.
    """
    if len(x) < 3:
        return False
    quantile = -float(stdtrit(len(x) - 1, level / 2))
    kind = classify(*around(x, quantile), care)
    left_out = (classify(*around(np.delete(x, i), quantile), care) for i in range(len(x)))
    return kind != UNSURE and any(other != kind for other in left_out)


def median_unbiased(x: np.ndarray, rule: Rule, look: int) -> float:
    """The difference under which a result as large or larger has a chance of one half.

    Results are in stage-wise order (JT, section 8.4): leaving above at an earlier look counts as
    larger. The statistic is the normal one of the same nominal p, the spread the one seen. A mean
    is biased away from 0 after an early stop; this estimate is not, but for the stops on "no
    difference", which the order does not know.

    Args:
        x: The differences at the look, ``[n]``.
        rule: What the study declared.
        look: Index of the look that ended the comparison.
    """
    mean, n = float(x.mean()), len(x)
    sd = float(x.std(ddof=1)) if n > 1 else 0.0
    if look == 0 or sd == 0 or mean == 0:
        return mean
    z = math.copysign(-float(ndtri(stdtr(n - 1, -abs(mean) / sd * math.sqrt(n)))), mean)
    information = np.asarray(rule.looks[: look + 1], dtype=float) / rule.looks[-1]
    bounds = -ndtri(np.asarray(rule.levels[: look + 1]) / 2)
    # The last bound takes the place of the result: leaving above it is being as large or larger.
    bounds[-1] = abs(z)
    now = math.sqrt(information[-1])
    if not math.isfinite(z) or abs(z) < 1e-3:
        return mean

    def excess(drift: float) -> float:
        return float(np.sum(_exits_above(bounds, information, drift))) - 0.5

    drift = brentq(excess, -2.0, 2 * abs(z) / now + 1.0, xtol=1e-8)
    return mean * drift * now / abs(z)


# --- seeds that nobody declared ------------------------------------------------------------------


def e_value(differences: Sequence[float] | np.ndarray, g: float = 1.0) -> float:
    """Evidence against "no difference" that is valid at any time, ``1 / E`` being a p value.

    The t-statistic under a normal mixture of effect sizes of variance ``g`` against the point 0
    (Lai, Annals of Statistics 4, 1976; Wang and Ramdas, arXiv 2310.03722). Returns the largest
    value so far, by Ville's inequality: for seeds that were added without a plan.
    """
    d = pd.Series(differences, dtype=float).dropna().reset_index(drop=True)
    n, so_far = d.index.to_numpy() + 1.0, d.expanding(2)
    t2 = (so_far.mean() / so_far.std().where(lambda sd: sd > 0)) ** 2 * n
    v = (n - 1).clip(1)
    shrunk = (1 + t2 / v) / (1 + t2 / (v * (1 + n * g)))
    return max([1.0, *((1 + n * g) ** -0.5 * shrunk ** (n / 2)).dropna()])


def seeds_for(sd: float, half: float, level: float, most: int = 10_000) -> int | None:
    """The number of seeds at which an interval of this level is at most ``+-half`` wide."""
    n = np.arange(3, most)
    fitting = n[-stdtrit(n - 1, level / 2) * sd / np.sqrt(n) <= half]
    return int(fitting[0]) if len(fitting) else None
