"""Means, intervals and paired differences over seeds: pure functions over tidy tables.

Runs are averaged over the seed alone. Every interval is Student's t at 95 % over seeds, every
difference is paired: the same seed gives both arms the same initialisation and batches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import nctdtrinc, stdtr, stdtrit

CONFIDENCE = 0.95
POWER = 0.8
"""Chance with which a difference that can be resolved would be seen."""


@dataclass(frozen=True)
class Interval:
    """A mean and its interval. ``low`` and ``high`` are NaN where there is no interval.

    Attributes:
        mean: Mean over seeds.
        low: Lower end of the 95 % t-interval.
        high: Upper end.
        n: Number of seeds.
        p: Two-sided p of the mean being zero (t-test); for a paired difference, the paired t-test.
    """

    mean: float
    low: float
    high: float
    n: int
    p: float

    @property
    def half(self) -> float:
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Choice:
    """The value of a swept key that did best on validation data in one arm.

    Attributes:
        arm: The arm's label, the key apart.
        key: The swept key.
        value: The value chosen.
        tried: All values tried.
        seeds: The seeds on which all values were compared; empty where they shared none, in
            which case each value's mean is over its own seeds.
    """

    arm: str
    key: str
    value: object
    tried: tuple[object, ...]
    seeds: tuple[int, ...]

    @property
    def at_edge(self) -> bool:
        """Whether a better value may lie beyond those tried."""
        numbers = sorted(v for v in self.tried if isinstance(v, int | float))
        return len(numbers) > 1 and self.value in (numbers[0], numbers[-1])


def interval(values: Sequence[float] | np.ndarray) -> Interval:
    """Mean and 95 % t-interval of independent values; NaN among them are left out.

    One value has no interval. Equal values have none either, unless they are all zero: a
    sample without spread says nothing about the spread.
    """
    x = np.asarray(values, dtype=float)
    x = x[np.isfinite(x)]
    n = len(x)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0, math.nan)
    mean = float(x.mean())
    if n == 1:
        return Interval(mean, math.nan, math.nan, 1, math.nan)
    spread = float(x.std(ddof=1))
    if spread <= 1e-12 * max(1.0, float(np.abs(x).max())):
        if mean == 0:
            return Interval(0.0, 0.0, 0.0, n, 1.0)
        return Interval(mean, math.nan, math.nan, n, math.nan)
    error = spread / math.sqrt(n)
    half = float(stdtrit(n - 1, 0.5 + CONFIDENCE / 2)) * error
    p = 2 * float(stdtr(n - 1, -abs(mean) / error))
    return Interval(mean, mean - half, mean + half, n, p)


def paired(arm: pd.Series, baseline: pd.Series) -> Interval:
    """The difference ``arm - baseline`` on the seeds that both have.

    Args:
        arm: Values, indexed by seed.
        baseline: Values, indexed by seed.
    """
    seeds = [seed for seed in arm.index if seed in set(baseline.index)]
    return interval(
        arm.loc[seeds].to_numpy(dtype=float) - baseline.loc[seeds].to_numpy(dtype=float)
    )


def resolvable(half: float, n: int) -> float:
    """The least true difference that so many seeds would show, with a chance of ``POWER``.

    Shown: by a 95 % interval that leaves out zero, before any correction. The spread of the
    paired differences is taken to be the one seen; with few seeds that is itself a guess.

    Args:
        half: Half the width of the 95 % t-interval over seeds.
        n: Number of seeds.
    """
    edge = stdtrit(n - 1, 0.5 + CONFIDENCE / 2)
    return float(nctdtrinc(n - 1, 1 - POWER, edge) * half / edge)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction of p values (Scandinavian J. of Statistics 6, 1979).

    A NaN stays NaN and does not count as a comparison.
    """
    order = sorted((i for i in range(len(p)) if not math.isnan(p[i])), key=lambda i: p[i])
    corrected, largest = [math.nan] * len(p), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p[i]))
        corrected[i] = largest
    return corrected


def summarise(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean and interval of a metric: one row an arm, indexed by its label.

    Args:
        runs: One row a run, with ``arm``, ``seed`` and ``metric``.
        metric: The column.
    """
    rows = {arm: interval(group[metric].to_numpy()) for arm, group in runs.groupby("arm")}
    return pd.DataFrame(
        [{"arm": arm, "mean": i.mean, "half": i.half, "n": i.n} for arm, i in rows.items()]
    ).set_index("arm")


COMPARISON_COLUMNS = (
    ["measure", "arm", "baseline", "n", "difference", "low", "high", "p", "p_holm"]
)  # fmt: skip


def compare(runs: pd.DataFrame, metric: str, baselines: Mapping[str, str]) -> pd.DataFrame:
    """Paired differences of a metric to each arm's baseline; Holm over all rows returned.

    Args:
        runs: One row a run, with ``arm``, ``seed`` and ``metric``.
        metric: The column.
        baselines: The baseline's label by the arm's label.
    """
    held = runs.dropna(subset=[metric])
    by_arm = {arm: group.set_index("seed")[metric] for arm, group in held.groupby("arm")}
    rows: list[list[Any]] = []
    for arm, baseline in baselines.items():
        if arm not in by_arm or baseline not in by_arm:
            continue
        d = paired(by_arm[arm], by_arm[baseline])
        rows.append([metric, arm, baseline, d.n, d.mean, d.low, d.high, d.p])
    corrected = holm([row[-1] for row in rows])
    rows = [[*row, p] for row, p in zip(rows, corrected, strict=True)]
    return pd.DataFrame(rows, columns=COMPARISON_COLUMNS)


def choose(
    runs: pd.DataFrame, key: str, validation: str, lower_is_better: bool = False
) -> tuple[pd.DataFrame, list[Choice]]:
    """Keeps, in each arm, the runs of the value of ``key`` that did best on validation data.

    Values are compared by their mean over the seeds that all of them have, so that a value
    that was later run on more seeds is neither favoured nor punished for them.

    Args:
        runs: One row a run; ``arm`` must not depend on ``key``.
        key: The swept key, such as ``optimizer.lr``.
        validation: The metric to choose on, such as ``val/accuracy``.
        lower_is_better: Whether the smallest mean wins.

    Returns:
        The runs that are left, and what was chosen, one choice an arm.
    """
    kept, choices = [], []
    for arm, group in runs.dropna(subset=[validation]).groupby("arm", sort=False):
        by_value = dict(list(group.groupby(key, sort=False, dropna=False)))
        shared = set.intersection(*(set(g["seed"]) for g in by_value.values()))
        means = {
            value: float((g[g["seed"].isin(shared)] if shared else g)[validation].mean())
            for value, g in by_value.items()
        }
        best = (min if lower_is_better else max)(means, key=lambda value: means[value])
        kept.append(by_value[best])
        choices.append(Choice(str(arm), key, best, tuple(means), tuple(sorted(shared))))
    return (pd.concat(kept) if kept else runs.iloc[:0]), choices


def at_equal_budget(
    curves: pd.DataFrame, metric: str, budgets: pd.DataFrame
) -> tuple[pd.Series, float, pd.Series]:
    """A metric's curve, read off at the largest budget that every run reached.

    Linear between the evaluations; a run whose first evaluation lies beyond the budget gets NaN.

    Args:
        curves: Long table ``run``, ``step``, ``metric``, ``value``.
        metric: The curve that is read, such as ``val/accuracy``.
        budgets: Long table ``run``, ``step``, ``budget``: what each run had spent by a step;
            nothing at step 0, linear in between.

    Returns:
        The metric by run; the budget; the share of its own budget at which each run was read
        (below 1, the run went on afterwards, and a falling learning rate had not yet fallen).
    """
    evaluated = {
        str(run): g.sort_values("step")
        for run, g in curves[curves["metric"] == metric].groupby("run", observed=True)
    }
    spent = {str(run): g.sort_values("step") for run, g in budgets.groupby("run", observed=True)}
    lines: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for run, group in evaluated.items():
        if run not in spent:
            continue
        steps = np.concatenate([[0.0], spent[run]["step"].to_numpy(dtype=float)])
        used = np.concatenate([[0.0], spent[run]["budget"].to_numpy(dtype=float)])
        at = group["step"].to_numpy(dtype=float)
        inside = at <= steps[-1]
        if inside.any():
            x = np.interp(at[inside], steps, used)
            lines[run] = (x, group["value"].to_numpy(dtype=float)[inside])
    if not lines:
        return pd.Series(dtype=float), math.nan, pd.Series(dtype=float)
    budget = min(float(x[-1]) for x, _ in lines.values())
    values = {run: float(np.interp(budget, x, y, left=np.nan)) for run, (x, y) in lines.items()}
    shares = {run: budget / float(x[-1]) for run, (x, _) in lines.items()}
    return pd.Series(values, dtype=float), budget, pd.Series(shares, dtype=float)


def band(curves: pd.DataFrame, arm_of: Mapping[str, str], metric: str) -> pd.DataFrame:
    """Mean and 95 % t-interval of a curve over an arm's seeds, at the steps that all of them have.

    Returns:
        ``arm``, ``step``, ``mean``, ``low``, ``high``, ``n``; low and high are NaN for one seed.
    """
    held = curves[curves["metric"] == metric]
    held = held.assign(arm=held["run"].astype(object).map(arm_of)).dropna(subset=["arm"])
    table = held.groupby(["arm", "step"])["value"].agg(["mean", "std", "count"]).reset_index()
    table = table[table["count"] == table.groupby("arm")["count"].transform("max")]
    n = table["count"].to_numpy(dtype=float)
    with np.errstate(invalid="ignore"):
        factor = stdtrit(np.where(n > 1, n - 1, np.nan), 0.5 + CONFIDENCE / 2)
    half = factor * table["std"].to_numpy(dtype=float) / np.sqrt(n)
    return pd.DataFrame(
        {
            "arm": table["arm"],
            "step": table["step"],
            "mean": table["mean"],
            "low": table["mean"] - half,
            "high": table["mean"] + half,
            "n": table["count"],
        }
    ).reset_index(drop=True)
