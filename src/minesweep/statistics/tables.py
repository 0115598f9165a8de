"""Arms and their paired differences over seeds: pure functions over tidy tables.

Runs are averaged over the seed alone. Every interval is Student's t at 95 % over seeds, every
difference is paired: the same seed gives both arms the same initialisation and batches.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from minesweep.statistics.samples import CONFIDENCE, Interval, holm, interval


def deciding_seeds(differences: pd.Series) -> list[Any]:
    """The seeds without any one of which the interval would say something else.

    An interval says that the difference is above zero, below zero, or neither. With fewer than
    four paired ``differences`` each seed decides, and the list is empty.
    """
    if len(differences) < 4:
        return []

    def says(values: np.ndarray) -> int:
        found = interval(values)
        return int(found.low > 0) - int(found.high < 0)

    values = differences.to_numpy()
    changed = [says(np.delete(values, i)) != says(values) for i in range(len(values))]
    return differences.index[changed].tolist()


def summarise(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """``mean``, ``half`` (of the interval) and ``n`` of a column of the runs, by arm."""
    rows = {arm: interval(group.to_numpy()) for arm, group in runs.groupby("arm")[metric]}
    numbers = [(i.mean, i.half, i.n) for i in rows.values()]
    return pd.DataFrame(numbers, index=pd.Index(rows, name="arm"), columns=["mean", "half", "n"])


def compare(runs: pd.DataFrame, metric: str, baselines: Mapping[str, str]) -> pd.DataFrame:
    """Paired differences of a metric to each arm's baseline; Holm over all rows returned.

    Args:
        runs: One row a run, with ``arm``, ``seed`` and ``metric``; one run per arm and seed.
        metric: The column.
        baselines: The baseline's label by the arm's label.

    Returns:
        ``measure``, ``arm``, ``baseline``, ``n``, ``difference``, ``low``, ``high``, ``p``,
        ``p_holm`` and ``without``, the seeds of :func:`deciding_seeds`.

    Raises:
        ValueError: A seed occurs twice in an arm. Its run would count several times.
    """
    by_arm = runs.dropna(subset=[metric]).pivot(index="seed", columns="arm", values=metric)
    rows: list[list[Any]] = []
    for arm, baseline in baselines.items():
        if arm in by_arm and baseline in by_arm:
            differences = (by_arm[arm] - by_arm[baseline]).dropna()
            d, without = interval(differences.to_numpy()), deciding_seeds(differences)
            numbers = [d.n, d.mean, d.low, d.high, d.p, math.nan]
            rows.append([metric, arm, baseline, *numbers, " ".join(map(str, without))])
    told = ["n", "difference", "low", "high", "p", "p_holm"]
    table = pd.DataFrame(rows, columns=["measure", "arm", "baseline", *told, "without"])
    # Without rows they would be objects, and pandas 2 warns where such tables are put together.
    table = table.astype({name: int if name == "n" else float for name in told})
    return table.assign(p_holm=holm(table["p"].to_numpy(dtype=float)))


def choose(
    runs: pd.DataFrame,
    key: str,
    validation: str,
    lower_is_better: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Keeps, in each arm, the runs of the value of ``key`` that did best on validation data.

    Values are compared by their mean over the seeds that all of them have: a value that ran on
    more seeds has no advantage. A value of which a seed failed, or has no validation result,
    loses to any value of which none did.

    Args:
        runs: One row a run, those that failed too; ``arm`` must not depend on ``key``.
        key: The swept key, such as ``optimizer.lr``.
        validation: The metric to choose on, such as ``val/accuracy``.
        lower_is_better: Whether the smallest mean wins.

    Returns:
        The runs that are left, and what was chosen, one row an arm: ``arm``, ``key``, ``value``,
        ``tried`` (the values of which a run finished), ``seeds`` (those on which all values were
        compared; where they share none, each value's mean is over its own), ``lost`` (by value,
        how many of its seeds failed or have no validation result), ``better`` (the value with
        the best mean of all, if it lost for its failed seeds; else None) and ``at_edge`` (whether
        a better value may lie beyond those tried).
    """
    kept, rows = [], []
    best_of = min if lower_is_better else max
    for arm, group in runs.groupby("arm", sort=False):
        missing = group[validation].isna()
        parts = group[~missing].groupby(key, sort=False, dropna=False)
        if not (by_value := dict(list(parts))):
            continue
        lost = Counter(group.loc[missing, key])
        shared = set.intersection(*(set(g["seed"]) for g in by_value.values()))
        means = {
            value: float(g.loc[g["seed"].isin(shared or g["seed"]), validation].mean())
            for value, g in by_value.items()
        }
        best = best_of([v for v in means if not lost[v]] or list(means), key=means.__getitem__)
        top = best_of(means, key=means.__getitem__)
        kept.append(by_value[best])
        better = top if means[top] != means[best] else None
        numbers = sorted(v for v in means if isinstance(v, int | float))
        at_edge = len(numbers) > 1 and best in (numbers[0], numbers[-1])
        rows.append((arm, key, best, tuple(means), tuple(sorted(shared)), lost, better, at_edge))
    columns = ["arm", "key", "value", "tried", "seeds", "lost", "better", "at_edge"]
    choices = pd.DataFrame(rows, columns=columns, dtype=object)
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
    spent = _by_run(budgets, "budget")
    lines: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for run, (steps, values) in _by_run(curves[curves["metric"] == metric], "value").items():
        if run not in spent:
            continue
        at, used = (np.append(0.0, known) for known in spent[run])
        inside = steps <= at[-1]
        if inside.any():
            lines[run] = np.interp(steps[inside], at, used), values[inside]
    budget = min((float(x[-1]) for x, _ in lines.values()), default=math.nan)
    read = {run: float(np.interp(budget, x, y, left=np.nan)) for run, (x, y) in lines.items()}
    shares = {run: budget / float(x[-1]) for run, (x, _) in lines.items()}
    return pd.Series(read, dtype=float), budget, pd.Series(shares, dtype=float)


def _by_run(table: pd.DataFrame, column: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Steps and values of each run, in the order of the steps; one sort for all runs."""
    table = table.sort_values("step")
    steps, values = (table[name].to_numpy(dtype=float) for name in ("step", column))
    places = table.groupby("run", observed=True).indices
    return {str(run): (steps[at], values[at]) for run, at in places.items()}


def band(curves: pd.DataFrame, arm_of: Mapping[str, str], metric: str) -> pd.DataFrame:
    """Mean and 95 % t-interval of a curve over an arm's seeds, at the steps that all of them have.

    Returns:
        ``arm``, ``step``, ``mean``, ``low``, ``high``, ``n``; low and high are NaN for one seed.
    """
    held = curves[curves["metric"] == metric]
    held = held.assign(arm=held["run"].astype(object).map(arm_of)).dropna(subset=["arm"])
    table = held.groupby(["arm", "step"])["value"].agg(["mean", "std", "count"]).reset_index()
    table = table[table["count"] == table.groupby("arm")["count"].transform("max")]
    n = table.pop("count")
    factor = stdtrit((n - 1).where(n > 1).to_numpy(dtype=float), 0.5 + CONFIDENCE / 2)
    half = factor * table.pop("std") / np.sqrt(n)
    low, high = table["mean"] - half, table["mean"] + half
    return table.assign(low=low, high=high, n=n).reset_index(drop=True)


def exponent(table: pd.DataFrame, smaller: bool) -> Interval | None:
    """The exponent b of ``best y ~ x^b``, with its 95 % interval over seeds.

    One fit a seed: the least-squares slope of log(best y) on log(x). 0 says that the best y does
    not depend on x, 1/2 that it grows like the square root. A best y that lies on the edge of what
    was tried pulls the slope towards 0.

    Args:
        table: One row a run: ``x`` and ``y`` as numbers or their texts, ``seed``, ``value``.
        smaller: Whether the smallest value is the best.

    Returns:
        None where x or y are not positive numbers, or a seed has fewer than three values of x.
    """
    places = table[["x", "y"]].apply(pd.to_numeric, errors="coerce")
    if not (places > 0).all(axis=None):
        return None
    runs = table.assign(**np.log(places)).sort_values(["value", "y"], ascending=[smaller, True])
    return slope(runs.dropna(subset=["value"]).groupby(["seed", "x"], as_index=False).first())


def slope(table: pd.DataFrame) -> Interval | None:
    """The slope of ``y`` over ``x``, with its 95 % interval over seeds.

    One least-squares fit a seed, over the arms: seeds are the independent draws, arms are not.

    Args:
        table: One row a run: ``x``, ``y`` and ``seed``.

    Returns:
        None where a seed has fewer than three different values of x.
    """
    by_seed = table[["x", "y"]].astype(float).dropna().groupby(table["seed"])
    if not by_seed["x"].nunique().min() >= 3:
        return None
    return interval([np.polyfit(own["x"], own["y"], 1)[0] for _, own in by_seed])
