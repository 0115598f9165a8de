"""The views that a study's ``report.yaml`` asks for, as numbers: surfaces and trade-offs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from minesweep.errors import UserError
from minesweep.reporting.analyse.arms import (
    Arm,
    Comparison,
    make_arms,
    resolve_key,
    short_names,
    show,
    size_order,
)
from minesweep.reporting.analyse.notes import noted
from minesweep.reporting.analyse.settings import View
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
        columns: The values of x as shown, in order.
        rows: The values of y as shown, in order.
        cells: One row an arm: ``label`` (the value of ``by``), ``x``, ``y``, ``mean``, ``half``
            (of its 95 % interval), ``n`` seeds, and ``rank``: ``BEST`` for the best mean of its x,
            ``CLOSE`` where the interval reaches that mean, else 0.
    """

    title: str
    metric: str
    x: str
    y: str
    columns: list[str]
    rows: list[str]
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


def _where(view: View, arms: list[Arm], keys: Sequence[str]) -> list[Arm]:
    wanted = {resolve_key(key, keys): show(value) for key, value in view.where.items()}
    return [arm for arm in arms if all(show(arm.values[k]) == v for k, v in wanted.items())]


def _label(arm: Arm, by: Sequence[str], short: Mapping[str, str]) -> str:
    return ", ".join(f"{short[key]}={show(arm.values[key])}" for key in by)


def _surface(view: View, compared: Comparison) -> Surface:
    study, settings = compared.study, compared.settings
    # Over all runs: what best_by chooses for the table is one row of the surface.
    keys = list(study.keys)
    arms, labels = make_arms(study.runs, keys)
    x, y, *by = (resolve_key(key, keys) for key in (view.x, view.y, *view.by))
    metric = view.value or settings.metric
    if metric not in study.runs:
        raise UserError(f"no run has {metric}{nearest(metric, study.metrics)}")
    short = short_names(keys)
    kept = [a for a in _where(view, arms, keys) if None not in (a.values[x], a.values[y])]
    groups = list(dict.fromkeys(_label(arm, by, short) for arm in kept))
    if not kept:
        raise UserError("no arm is left")
    if len(groups) > MOST_TILES:
        raise UserError(f"{len(groups)} pictures are too many: name fewer keys in by")
    places: dict[tuple[str, ...], Arm] = {}
    # Rows rise, so that the first of equal means is the best.
    for arm in sorted(kept, key=lambda arm: size_order(arm.values[y])):
        place = (_label(arm, by, short), show(arm.values[x]), show(arm.values[y]))
        if (other := places.setdefault(place, arm)) is not arm:
            differing = [short[k] for k in keys if arm.values[k] != other.values[k]]
            raise UserError(
                f"arms of the same {short[x]} and {short[y]} differ in {', '.join(differing)}: "
                "name it in by or where"
            )
    rows = [(*place, arm.label) for place, arm in places.items()]
    cells = pd.DataFrame(rows, columns=["label", "x", "y", "arm"])
    runs = study.runs.assign(arm=labels).merge(cells, on="arm")
    cells = cells.join(summarise(runs, metric), on="arm")
    score = cells["mean"] * (-1 if lower_is_better(metric) else 1)
    column = score.groupby([cells["label"], cells["x"]])
    close = score + cells["half"].fillna(0) >= column.transform("max")
    cells["rank"] = close.astype(int) * CLOSE
    cells.loc[column.idxmax().dropna(), "rank"] = BEST
    title = view.title or f"{words(metric).capitalize()} over {short[x]} and {short[y]}"
    # The best is chosen on validation data, where there are such, as in the table.
    validation, of_study = settings.validation, metric == settings.metric
    judge = validation if of_study and validation in runs else metric
    if growth := _growth(runs, groups, judge):
        law = f"best {short[y]} ~ {short[x]}^b (one fit of log {short[y]} on log {short[x]} a seed"
        compared.notes.append(f"{title}: {law}, 95 % t-interval over seeds): {'; '.join(growth)}.")
    return Surface(
        title=title,
        metric=metric,
        x=short[x],
        y=short[y],
        columns=_values(kept, x),
        rows=_values(kept, y),
        cells=cells.set_index("label").loc[groups].reset_index(),
    )


def _values(arms: list[Arm], key: str) -> list[str]:
    """The key's values as shown, numbers by size, then words."""
    return list(dict.fromkeys(map(show, sorted((a.values[key] for a in arms), key=size_order))))


def _growth(runs: pd.DataFrame, groups: list[str], judge: str) -> list[str]:
    """How the best y grows with x, by label."""
    found = []
    for label in groups:
        own = runs[runs["label"] == label].rename(columns={judge: "value"})
        if b := exponent(own[["x", "y", "seed", "value"]], smaller=lower_is_better(judge)):
            # Best values lie on a grid, so that seeds can agree to the last digit.
            spread = f"[{b.low:.2f}, {b.high:.2f}]" if b.low < b.high else f"in all {b.n} seeds"
            found.append(f"{label}: b = {b.mean:.2f} {spread}")
    return found


def _tradeoff(view: View, compared: Comparison) -> Tradeoff:
    runs, arms = compared.runs, compared.arms
    keys = list(arms[0].values)
    by = [resolve_key(key, keys) for key in view.by]
    shown = _where(view, arms, keys)
    groups = [_label(arm, by, short_names(keys)) for arm in shown]
    labels = pd.Index([arm.label for arm in shown], name="arm", dtype=object)
    points = pd.DataFrame({"group": groups}, index=labels)
    amounts = {name: _amounts(name, compared) for name in (view.x, view.y)}
    if view.slope:
        drawn = runs.assign(x=amounts[view.x], y=amounts[view.y]).join(points, on="arm")
        compared.notes.extend(_slopes(view, drawn))
    for place, name in (("x", view.x), ("y", view.y)):
        found = summarise(runs.assign(amount=amounts[name]), "amount").reindex(labels)
        points[place], points[f"{place}_half"] = found["mean"], found["half"]
        points["seeds"] = found["n"].clip(upper=points.get("seeds"))
    points = points.dropna(subset=["x", "y"]).reset_index()
    if points.empty:
        raise UserError(f"no arm has both {view.x} and {view.y}")
    clock = any(name not in runs and name != "seconds" for name in amounts)
    title = view.title or f"{words(view.y).capitalize()} against {words(view.x)}"
    return Tradeoff(title, view.x, view.y, points, clock)


def _slopes(view: View, runs: pd.DataFrame) -> list[str]:
    """How y changes with x within each group of arms, in one line; none where there is no fit."""
    u, found = unit(view.y), []
    for group, own in runs.groupby("group"):
        if b := slope(own):
            found.append(f"{group}: {u.interval(b.mean, b.low, b.high)}")
    if not found:
        return []
    law = f"{words(view.y)} for 1 more of {words(view.x)}"
    return [f"Slope of {law} (one fit a seed, 95 % t-interval over seeds): {'; '.join(found)}."]


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
