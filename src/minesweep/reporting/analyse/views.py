"""The views that a study's ``report.yaml`` asks for, as numbers: surfaces and trade-offs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from minesweep.errors import UserError
from minesweep.reporting.analyse.arms import (
    Comparison,
    having,
    make_arms,
    resolve_key,
    short_names,
    show,
    size_order,
)
from minesweep.reporting.analyse.notes import noted
from minesweep.reporting.analyse.settings import View
from minesweep.statistics.samples import Interval
from minesweep.statistics.tables import exponent, slope, summarise
from minesweep.tracking.reading import UnreadableError, number, read_journal
from minesweep.units import lower_is_better, unit, words
from minesweep.words import nearest

MOST_TILES = 12
CLOSE, BEST = 1, 2


@dataclass(frozen=True)
class Surface:
    """A response surface over two swept keys.

    Attributes:
        title: A heading.
        metric: What the mean is of.
        x: Name of the horizontal key.
        y: Name of the vertical key.
        cells: One row an arm: ``label`` (the value of ``by``), ``x``, ``y``, ``mean``, ``half``
            (of its 95 % interval), ``n`` seeds, and ``rank``: ``BEST`` for the best mean of its x,
            ``CLOSE`` where the interval reaches that mean, else 0.
    """

    title: str
    metric: str
    x: str
    y: str
    cells: pd.DataFrame


@dataclass(frozen=True)
class Tradeoff:
    """One metric against another.

    Attributes:
        title: A heading.
        x: What the horizontal axis shows.
        y: What the vertical axis shows.
        points: One row an arm: ``arm``, ``group``, ``seeds``, ``x``, ``x_half``, ``y``, ``y_half``.
        clock: Whether ``x`` or ``y`` was taken from the runs' own clocks.
    """

    title: str
    x: str
    y: str
    points: pd.DataFrame
    clock: bool


def make_views(compared: Comparison) -> list[Surface | Tradeoff]:
    """Makes the views but for curves; one that cannot be made becomes a note."""
    held = list(compared.study.curves["metric"].cat.categories)
    made: list[Surface | Tradeoff] = []
    for view in compared.settings.views:
        with noted(compared.notes, f"The {view.kind} of {view.value or view.y} is left out"):
            if view.kind == "surface":
                made.append(_surface(view, compared))
            elif view.kind == "tradeoff":
                made.append(_tradeoff(view, compared))
            elif view.value not in held:
                raise UserError(f"no journal has {view.value}{nearest(view.value, held)}")
    return made


def _where(view: View, arms: pd.DataFrame) -> pd.DataFrame:
    return having(arms, {resolve_key(key, arms): value for key, value in view.where.items()})


def _groups(arms: pd.DataFrame, by: list[str]) -> list[str]:
    """The group of each arm: ``dim=16, margin=0.2``."""
    names, rows = short_names(arms), arms[by].to_numpy(dtype=object)
    told = ([f"{names[k]}={show(x)}" for k, x in zip(by, row, strict=True)] for row in rows)
    return list(map(", ".join, told))


def _surface(view: View, compared: Comparison) -> Surface:
    study, settings = compared.study, compared.settings
    # Over all runs: what best_by chooses for the table is one row of the surface.
    arms, labels = make_arms(study.runs, study.keys)
    x, y, *by = (resolve_key(key, arms) for key in (view.x, view.y, *view.by))
    metric, short = view.value or settings.metric, short_names(arms)
    if metric not in study.runs:
        raise UserError(f"no run has {metric}{nearest(metric, study.metrics)}")
    kept = _where(view, arms).dropna(subset=[x, y])
    if kept.empty:
        raise UserError("no arm is left")
    cells = pd.DataFrame({"label": _groups(kept, by), "x": kept[x], "y": kept[y]})
    groups = list(cells["label"].unique())
    if len(groups) > MOST_TILES:
        raise UserError(f"{len(groups)} pictures are too many: name fewer keys in by")
    places = kept.groupby([cells[name] for name in cells], sort=False)
    held = places.nunique(dropna=False).max()
    if differing := [short[key] for key in held.index[held > 1]]:
        raise UserError(
            f"arms of the same {short[x]} and {short[y]} differ in {', '.join(differing)}: "
            "name it in by or where"
        )
    # Rows rise, so that the first of equal means is the best.
    rising = sorted(kept.index, key=lambda arm: size_order(kept.at[arm, y]))
    cells = cells.loc[rising].reset_index()
    runs = study.runs.assign(arm=labels).merge(cells, on="arm")
    cells = cells.join(summarise(runs, metric), on="arm")
    score = cells["mean"] * (-1 if lower_is_better(metric) else 1)
    column = score.groupby([cells["label"], cells["x"]], sort=False)
    close = score + cells["half"].fillna(0) >= column.transform("max")
    cells["rank"] = close.astype(int) * CLOSE
    cells.loc[column.idxmax().dropna(), "rank"] = BEST
    title = view.title or f"{words(metric).capitalize()} over {short[x]} and {short[y]}"
    # The best is chosen on validation data, where there are such, as in the table.
    validation, of_study = settings.validation, metric == settings.metric
    judge = validation if of_study and validation in runs else metric
    of_group = dict(list(runs.rename(columns={judge: "value"}).groupby("label")))
    grows = partial(exponent, smaller=lower_is_better(judge))
    if growth := _fitted(((label, of_group[label]) for label in groups), grows, _power):
        law = f"best {short[y]} ~ {short[x]}^b (one fit of log {short[y]} on log {short[x]} a seed"
        compared.notes.append(f"{title}: {law}, 95 % t-interval over seeds): {growth}.")
    cells = cells.set_index("label").loc[groups].reset_index()
    return Surface(title, metric, short[x], short[y], cells)


def _fitted(
    groups: Iterable[tuple[Any, pd.DataFrame]],
    fit: Callable[[pd.DataFrame], Interval | None],
    told: Callable[[Interval], str],
) -> str:
    """What is told of the fit of each group that has one, in one line."""
    return "; ".join(f"{name}: {told(b)}" for name, runs in groups if (b := fit(runs)))


def _power(b: Interval) -> str:
    # Best values lie on a grid, so that seeds can agree to the last digit.
    spread = f"[{b.low:.2f}, {b.high:.2f}]" if b.low < b.high else f"in all {b.n} seeds"
    return f"b = {b.mean:.2f} {spread}"


def _tradeoff(view: View, compared: Comparison) -> Tradeoff:
    runs, shown = compared.runs, _where(view, compared.arms)
    by = [resolve_key(key, shown) for key in view.by]
    points = pd.DataFrame({"group": _groups(shown, by)}, index=shown.index)
    amounts = {name: _amounts(name, compared) for name in (view.x, view.y)}
    if view.slope:
        law, u = f"{words(view.y)} for 1 more of {words(view.x)}", unit(view.y)
        drawn = runs.assign(x=amounts[view.x], y=amounts[view.y]).join(points, on="arm")
        fits = _fitted(drawn.groupby("group"), slope, lambda b: u.interval(b.mean, b.low, b.high))
        told = f"Slope of {law} (one fit a seed, 95 % t-interval over seeds): {fits}."
        compared.notes.extend([told] if fits else [])
    for place, name in (("x", view.x), ("y", view.y)):
        found = summarise(runs.assign(amount=amounts[name]), "amount").reindex(points.index)
        points[place], points[f"{place}_half"] = found["mean"], found["half"]
        points["seeds"] = found["n"].clip(upper=points.get("seeds"))
    points = points.dropna(subset=["x", "y"]).reset_index()
    if points.empty:
        raise UserError(f"no arm has both {view.x} and {view.y}")
    clock = any(name not in runs and name != "seconds" for name in amounts)
    title = view.title or f"{words(view.y).capitalize()} against {words(view.x)}"
    return Tradeoff(title, view.x, view.y, points, clock)


def _amounts(name: str, compared: Comparison) -> pd.Series:
    """One number a run: a metric, benchmark seconds, or a clock of its own."""
    study, runs, step_seconds = compared.study, compared.runs, compared.step_seconds
    if name == "seconds":
        if not step_seconds:
            raise UserError("there is no step_seconds.json (step times of a quiet benchmark)")
        return runs["step"] * runs["arm"].map(step_seconds)
    if name in runs:
        return runs[name]
    found = runs["run"].map(lambda run: _clock(study.folder / run, name)).astype(float)
    if found.isna().all():
        raise UserError(f"neither summaries nor clocks have {name}{nearest(name, study.metrics)}")
    return found


def _clock(folder: Path, name: str) -> float:
    """The median of one clock of ``timing.jsonl``; the last value of ``elapsed``, which adds up."""
    try:
        rows, _ = read_journal(folder / "timing.jsonl")
    except UnreadableError:
        return math.nan
    values = pd.Series([number(row.get(name)) for row in rows], dtype=float).dropna()
    return float((values.tail(1) if name == "elapsed" else values).median())
