"""Views that answer one kind of study's question; ``views`` in its ``report.yaml`` asks for them.

.. code-block:: yaml

    views:
      # Mean of `value` over x and y, one small picture for each value of `by`; the best y of each x
      # is marked.
      - {kind: surface, x: dim, y: margin, by: normalize, where: {projection: false}}
      # One point an arm with its two intervals, one colour for each value of `by`.
      - {kind: tradeoff, x: mining/query_ms, y: mining/recall_at_k, by: miner}
      # A further metric of the journals over steps.
      - {kind: curve, value: mining/hidden_share}

``x``, ``y``, ``by`` and ``where`` of a surface are swept keys, in full or their last word;
``value`` is a metric of the summaries (the study's own, if none is named). ``x`` and ``y`` of a
trade-off are metrics of the summaries, ``seconds`` (steps times the step time of a quiet benchmark)
or a clock of ``timing.jsonl`` (its median over the run; ``elapsed``: its end), which is of use only
where nothing else ran on the machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from minesweep.errors import UserError
from minesweep.reporting.analyse.arms import (
    Arm,
    make_arms,
    resolve_key,
    short_names,
    show,
    size_order,
)
from minesweep.reporting.analyse.ridge import exponent
from minesweep.reporting.analyse.statistics import Interval, interval
from minesweep.reporting.read.files import UnreadableError, number, read_journal
from minesweep.reporting.units import lower_is_better, words
from minesweep.words import nearest

if TYPE_CHECKING:
    from minesweep.reporting.read.study import Study

NEEDED = {"surface": ("x", "y"), "tradeoff": ("x", "y"), "curve": ("value",)}
"""The keys that each kind must have."""
ALLOWED = {
    "surface": ("x", "y", "by", "where", "value", "title"),
    "tradeoff": ("x", "y", "by", "where", "title"),
    "curve": ("value",),
}
MOST_TILES = 12


@dataclass(frozen=True)
class View:
    """One entry of ``views``; see the module."""

    kind: str
    x: str = ""
    y: str = ""
    by: tuple[str, ...] = ()
    where: Mapping[str, Any] = field(default_factory=dict)
    value: str = ""
    title: str = ""


@dataclass(frozen=True)
class Tile:
    """A response surface at one value of ``by``.

    Attributes:
        label: That value; empty where there is one tile.
        mean: ``[y, x]`` mean over seeds; NaN where there is no arm.
        half: ``[y, x]`` half the width of the 95 % interval; NaN for one seed.
        seeds: ``[y, x]`` how many.
        best: ``[x]`` the row of the best mean; None where there is none.
        close: ``[y, x]`` whether the interval of a cell reaches the best mean of its column.
        growth: The exponent b of best y ~ x^b over seeds, where both are numbers.
    """

    label: str
    mean: np.ndarray
    half: np.ndarray
    seeds: np.ndarray
    best: list[int | None]
    close: np.ndarray
    growth: Interval | None = None


@dataclass(frozen=True)
class Surface:
    """Attributes:
    title: A heading.
    metric: What the mean is of.
    x: Name of the horizontal key, and its values as shown.
    y: The same of the vertical one.
    tiles: One a value of ``by``.
    """

    title: str
    metric: str
    x: tuple[str, list[str]]
    y: tuple[str, list[str]]
    tiles: list[Tile]


@dataclass(frozen=True)
class Tradeoff:
    """Attributes:
    title: A heading.
    x: Name of the horizontal axis.
    y: Name of the vertical axis.
    points: One row an arm: arm, group, x, x_half, y, y_half, seeds.
    clock: Whether ``x`` or ``y`` was taken from the runs' own clocks.
    """

    title: str
    x: str
    y: str
    points: pd.DataFrame
    clock: bool


@dataclass(frozen=True)
class Curve:
    """Attributes:
    metric: The journals' metric to draw over steps.
    """

    metric: str


Made = Surface | Tradeoff | Curve


def parse_views(given: Any) -> list[View]:
    """``views`` of a ``report.yaml``.

    Raises:
        UserError: Something in it means nothing; names the nearest right word.
    """
    if not isinstance(given, list) or not all(isinstance(view, dict) for view in given):
        raise UserError("report.yaml: views must be a list of {kind: ..., ...}")
    return [_parse(view) for view in given]


def _parse(given: dict[str, Any]) -> View:
    kind = given.get("kind")
    if kind not in ALLOWED:
        raise UserError(
            f"report.yaml: views: kind={kind} is not one of {', '.join(ALLOWED)}"
            f"{nearest(str(kind), ALLOWED)}"
        )
    for key in given:
        if key != "kind" and key not in ALLOWED[kind]:
            raise UserError(
                f"report.yaml: views: {kind} has no key {key}"
                f"{nearest(str(key), ALLOWED[kind]) or '.'} Known: {', '.join(ALLOWED[kind])}"
            )
    for key in NEEDED[kind]:
        if key not in given:
            raise UserError(f"report.yaml: views: {kind} needs {key}")
    by, where = given.get("by", ()), given.get("where", {})
    if not isinstance(where, dict):
        raise UserError("report.yaml: views: where must be {key: value}")
    by = (by,) if isinstance(by, str) else tuple(map(str, by))
    texts = {f.name: str(given[f.name]) for f in fields(View) if f.name in given}
    return View(**{**texts, "by": by, "where": where})  # type: ignore[arg-type]


def make_views(
    views: Sequence[View],
    study: Study,
    runs: pd.DataFrame,
    arms: list[Arm],
    step_seconds: Mapping[str, float],
    judged_by: tuple[str, str],
    notes: list[str],
) -> list[Made]:
    """Makes the views; one that cannot be made becomes a note.

    Args:
        views: What ``report.yaml`` asks for.
        study: The study, with all of its runs.
        runs: The runs in the table, with their arm.
        arms: Their arms.
        step_seconds: Seconds per step by arm; may be empty.
        judged_by: The report's metric, and the metric of the validation data.
        notes: Gets what could not be made, and what a surface shows.
    """
    made: list[Made] = []
    for view in views:
        try:
            if view.kind == "surface":
                made.append(surface := _surface(view, study, *judged_by))
                notes += _growth(surface)
            elif view.kind == "tradeoff":
                made.append(_tradeoff(view, study, runs, arms, step_seconds))
            else:
                made.append(_curve(view, study))
        except UserError as error:
            notes.append(f"The {view.kind} of {view.value or view.y} is left out: {error}.")
    return made


def _curve(view: View, study: Study) -> Curve:
    held = list(study.curves["metric"].cat.categories)
    if view.value not in held:
        raise UserError(f"no journal has {view.value}{nearest(view.value, held)}")
    return Curve(view.value)


def _where(view: View, arms: list[Arm], keys: Sequence[str]) -> list[Arm]:
    wanted = {resolve_key(key, keys): show(value) for key, value in view.where.items()}
    return [arm for arm in arms if all(show(arm.values[k]) == v for k, v in wanted.items())]


def _surface(view: View, study: Study, main: str, validation: str) -> Surface:
    # Over all runs: what best_by chooses for the table is one row of the surface.
    keys = list(study.keys)
    arms, labels = make_arms(study.runs, keys)
    runs = study.runs.assign(arm=labels)
    x, y, *by = (resolve_key(key, keys) for key in (view.x, view.y, *view.by))
    metric = view.value or main
    if metric not in runs:
        raise UserError(f"no run has {metric}{nearest(metric, study.metrics)}")
    short = short_names(keys)
    kept = [a for a in _where(view, arms, keys) if None not in (a.values[x], a.values[y])]
    cells: dict[tuple[str, ...], Arm] = {}
    for arm in kept:
        place = tuple(show(arm.values[key]) for key in (x, y, *by))
        if (other := cells.get(place)) is not None:
            differing = [short[k] for k in keys if arm.values[k] != other.values[k]]
            raise UserError(
                f"arms of the same {short[x]} and {short[y]} differ in {', '.join(differing)}: "
                "name it in by or where"
            )
        cells[place] = arm
    if not cells:
        raise UserError("no arm is left")
    columns, rows = _values(kept, x), _values(kept, y)
    # The best is chosen on validation data, where there are such, as in the table.
    judge = validation if metric == main else metric
    judge = judge if judge in runs else metric
    parts = {str(arm): part.set_index("seed") for arm, part in runs.groupby("arm")}
    tiles = []
    for group in dict.fromkeys(place[2:] for place in cells):
        label = ", ".join(f"{short[key]}={value}" for key, value in zip(by, group, strict=True))
        own = {place[:2]: parts[arm.label] for place, arm in cells.items() if place[2:] == group}
        shown = {place: part[metric] for place, part in own.items()}
        tile = _tile(label, shown, columns, rows, smaller=lower_is_better(metric))
        judged = {place: part[judge] for place, part in own.items()}
        growth = exponent(judged, smaller=lower_is_better(judge))
        tiles.append(replace(tile, growth=growth))
    title = view.title or f"{words(metric).capitalize()} over {short[x]} and {short[y]}"
    if len(tiles) > MOST_TILES:
        raise UserError(f"{len(tiles)} pictures are too many: name fewer keys in by")
    return Surface(title, metric, (short[x], columns), (short[y], rows), tiles)


def _growth(surface: Surface) -> list[str]:
    """What a note says of how the best y grows with x."""
    found = []
    for tile in surface.tiles:
        if (b := tile.growth) is not None:
            # Best values lie on a grid, so that seeds can agree to the last digit.
            spread = f"[{b.low:.2f}, {b.high:.2f}]" if b.low < b.high else f"in all {b.n} seeds"
            found.append(f"{tile.label}: b = {b.mean:.2f} {spread}")
    if not found:
        return []
    x, y = surface.x[0], surface.y[0]
    told = f"best {y} ~ {x}^b (one fit of log {y} on log {x} a seed, 95 % t-interval over seeds)"
    return [f"{surface.title}: {told}: {'; '.join(found)}."]


def _values(arms: list[Arm], key: str) -> list[str]:
    """The key's values as shown, numbers by size, then words."""
    return list(dict.fromkeys(map(show, sorted((a.values[key] for a in arms), key=size_order))))


def _tile(
    label: str,
    values: Mapping[tuple[str, ...], pd.Series],
    columns: list[str],
    rows: list[str],
    smaller: bool,
) -> Tile:
    shape = (len(rows), len(columns))
    mean, half, seeds = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, dtype=int)
    for (column, row), series in values.items():
        found = interval(series.to_numpy(dtype=float))
        place = rows.index(row), columns.index(column)
        mean[place], half[place], seeds[place] = found.mean, found.half, found.n
    sign = -1.0 if smaller else 1.0
    best: list[int | None] = []
    close = np.zeros(shape, dtype=bool)
    for x in range(len(columns)):
        ranked = sign * mean[:, x]
        if np.isnan(ranked).all():
            best.append(None)
            continue
        top = int(np.nanargmax(ranked))
        best.append(top)
        close[:, x] = ranked + np.nan_to_num(half[:, x]) >= ranked[top]
        close[top, x] = False
    return Tile(label, mean, half, seeds, best, close)


def _tradeoff(
    view: View,
    study: Study,
    runs: pd.DataFrame,
    arms: list[Arm],
    step_seconds: Mapping[str, float],
) -> Tradeoff:
    keys = list(arms[0].values)
    by = [resolve_key(key, keys) for key in view.by]
    short = short_names(keys)
    columns = {name: _amounts(name, study, runs, step_seconds) for name in (view.x, view.y)}
    rows = []
    for arm in _where(view, arms, keys):
        mine = runs["arm"] == arm.label
        x, y = (interval(columns[name][mine].to_numpy(dtype=float)) for name in (view.x, view.y))
        if math.isnan(x.mean) or math.isnan(y.mean):
            continue
        group = ", ".join(f"{short[key]}={show(arm.values[key])}" for key in by)
        row = {"arm": arm.label, "group": group, "seeds": min(x.n, y.n)}
        rows.append(row | {"x": x.mean, "x_half": x.half, "y": y.mean, "y_half": y.half})
    if not rows:
        raise UserError(f"no arm has both {view.x} and {view.y}")
    clock = any(name not in runs and name != "seconds" for name in columns)
    names = [axis(name) for name in (view.x, view.y)]
    title = view.title or f"{names[1].capitalize()} against {names[0]}"
    return Tradeoff(title, view.x, view.y, pd.DataFrame(rows), clock)


def axis(name: str) -> str:
    """What an axis of a trade-off is called."""
    return {"seconds": "benchmark seconds", "elapsed": "seconds on the runs' own clocks"}.get(
        name, words(name)
    )


def _amounts(
    name: str, study: Study, runs: pd.DataFrame, step_seconds: Mapping[str, float]
) -> pd.Series:
    """One number a run: a metric, benchmark seconds, or a clock of its own."""
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
    values = [x for row in rows if (x := number(row.get(name))) is not None]
    if not values:
        return math.nan
    return values[-1] if name == "elapsed" else float(np.median(values))
