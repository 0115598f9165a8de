"""The figures. Each is defined once: the page shows it with Vega, the PNG files are drawn of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from minesweep.pages import clean, thin
from minesweep.reporting.analyse.arms import AT_EQUAL_COST, short_names, show, shown_values
from minesweep.reporting.analyse.report import Report
from minesweep.reporting.analyse.views import BEST, CLOSE, Surface, Tradeoff
from minesweep.reporting.show import charts, losses
from minesweep.reporting.show.charts import DASHED, DOTTED, GREY, HUES, SOLID, Figure, short
from minesweep.reporting.show.tables import some_runs
from minesweep.units import unit, words

MOST_ARMS, MOST_POINTS, MOST_DIFFERENCES = 12, 120, 40
SPAN = 30.0
"""An axis is logarithmic if its largest value is this many times the smallest."""


def all_figures(report: Report) -> list[Figure]:
    """The figures of a study, in the page's order."""
    found: list[Figure | None] = []
    for place, view in enumerate(report.views, start=1):
        found += surface(view, place) if isinstance(view, Surface) else [tradeoff(view, place)]
    found.append(differences(report))
    found += [curve(report, metric) for metric in curve_metrics(report)]
    found += [losses.figure(report, shown_arms(report)), parallel(report)]
    return [figure for figure in found if figure is not None]


def shown_arms(report: Report) -> list[str]:
    """The arms in the figures: all, or of many arms the baselines and the best."""
    labels = list(report.arms.index)
    if len(labels) <= MOST_ARMS:
        return labels
    main = report.settings.metric
    baselines = list(dict.fromkeys(report.baselines.values()))[: MOST_ARMS // 2]
    smaller = report.settings.smaller_wins(main)
    ranked = report.table[f"{main} mean"].sort_values(ascending=smaller).index
    chosen = list(dict.fromkeys([*baselines, *ranked]))[:MOST_ARMS]
    return [label for label in labels if label in chosen]


def styles(report: Report) -> tuple[list[str], list[str], list[list[int]]]:
    """The shown arms, their colours and their dashes.

    A baseline of one arm has the arm's hue and is dashed; a baseline of several arms is grey.
    The same arm at equal cost is dotted.
    """
    labels = shown_arms(report)
    twins = {f"{label} {AT_EQUAL_COST}": label for label in labels}
    users = Counter(
        base for arm, base in report.baselines.items() if arm in labels and arm not in twins
    )
    own = [label for label in labels if label not in users and label not in twins]
    hues, dashes = {}, {}
    for place, label in enumerate(own):
        hues[label], dashes[label] = (
            HUES[place % len(HUES)],
            DOTTED if place >= len(HUES) else SOLID,
        )
        if (base := report.baselines.get(label)) is not None:
            hues[base] = hues[label] if users[base] == 1 else GREY
    for twin, label in twins.items():
        hues[twin], dashes[twin] = hues.get(label, GREY), DOTTED
    colours = [hues.get(label, GREY) for label in labels]
    return labels, colours, [dashes.get(label, DASHED) for label in labels]


def curve_metrics(report: Report) -> list[str]:
    """The metrics of the journals that are drawn: accuracies, then losses."""
    held = set(report.study.curves["metric"].cat.categories)
    wanted = [report.settings.validation, "train/accuracy_running", "val/loss"]
    wanted += ["train/loss_batch", "train/loss_selected"]
    wanted += [view.value for view in report.settings.views if view.kind == "curve"]
    return [metric for metric in dict.fromkeys(wanted) if metric in held]


def curve(report: Report, metric: str) -> Figure | None:
    """The mean of a metric over seeds and its interval, one line an arm."""
    labels, colours, dashes = styles(report)
    rows, seeds = _curve_rows(report, metric, labels)
    if all(len(row["steps"]) == 1 for row in rows):
        return None  # read at the end alone: the table has it
    names = {"samples": words(report.settings.budget), "steps": "steps", "seconds": "seconds"}
    axes = {title: name for name, title in names.items() if all(name in row for row in rows)}
    first = next(iter(axes))
    arms = [clean(label) for label in labels]
    name = "".join(c if c.isalnum() else "_" for c in metric)
    pick = alt.selection_point(f"pick_{name}", fields=["arm"], bind="legend")
    numbers, steady = alt.Axis(format="~s", tickCount=6), alt.Scale(zero=True)
    flat = charts.chart(rows).transform_flatten([*axes.values(), "mean", "low", "high"])
    base = flat.encode(
        x=alt.X(f"{axes[first]}:Q", title=first, scale=steady, axis=numbers),
        color=charts.hue("arm", arms, colours, charts.legend()),
        opacity=alt.condition(pick, alt.value(1), alt.value(0.1)),
    )
    value = alt.Y("mean:Q", title=charts.titled(metric), scale=alt.Scale(zero=False))
    strokes = alt.Scale(domain=arms, range=dashes)
    lines = base.mark_line(strokeWidth=2).encode(
        y=value,
        strokeDash=alt.StrokeDash("arm:N", title=None, scale=strokes, legend=charts.legend()),
        tooltip=["arm:N", "steps:Q", alt.Tooltip("mean:Q", title=words(metric))],
    )
    shades = base.transform_filter("isValid(datum.low)").mark_area(fillOpacity=0.15, strokeWidth=0)
    layers = [shades.encode(y="low:Q", y2="high:Q"), lines] if max(seeds) > 1 else [lines]
    if any(len(row["steps"]) == 1 for row in rows):
        lone = base.transform_filter("datum.one").mark_point(filled=True, size=50)
        layers.append(lone.encode(y=value))
    caption = f"mean of {charts.counted(seeds)}, band: 95 % t-interval"
    caption = caption if max(seeds) > 1 else "1 seed, no band"
    caption += "; dashed: baselines" if report.baselines else ""
    caption += f"; dotted: {AT_EQUAL_COST}" if any(AT_EQUAL_COST in arm for arm in arms) else ""
    label = words(metric).capitalize()
    chart = alt.layer(*layers).add_params(pick)
    return Figure(f"curve_{name}", "Curves", caption, "curve", chart, 300, label, axes)


def _curve_rows(
    report: Report, metric: str, labels: Sequence[str]
) -> tuple[list[dict[str, Any]], list[int]]:
    """The curve of each arm that has one, and its number of seeds."""
    bands, spent = (
        dict(list(report.curve(name).groupby("arm"))) for name in (metric, report.settings.budget)
    )
    rows, seeds = [], []
    for label in labels:
        if (mine := bands.get(label)) is None:
            continue
        mine = mine.iloc[thin(len(mine), MOST_POINTS)]
        steps = mine["step"].to_numpy(dtype=float)
        row: dict[str, Any] = {"arm": clean(label), "one": len(mine) == 1, "steps": short(steps)}
        if (known := spent.get(label)) is not None:
            at = [0.0, *known["step"].astype(float)]
            row["samples"] = short(np.interp(steps, at, [0.0, *known["mean"]]))
        if report.step_seconds:
            row["seconds"] = short(steps * report.step_seconds[label])
        ends = {name: short(mine[name] * unit(metric).factor) for name in ("mean", "low", "high")}
        rows.append(row | ends)
        seeds.append(int(mine["n"].max()))
    return rows, seeds


def differences(report: Report) -> Figure | None:
    """The paired differences of the main measure with their intervals; zero is the baseline."""
    name = report.settings.metric
    rows = report.answers.head(MOST_DIFFERENCES)
    if rows.empty:
        return None
    u = unit(name)
    values = [
        {
            "arm": clean(row["arm"]),
            "baseline": clean(row["baseline"]),
            "answer": row["answer"],
            "told": u.interval(row["difference"], row["low"], row["high"]),
            **{c: short([row[c] * u.factor])[0] for c in ("difference", "low", "high")},
        }
        for row in rows.to_dict("records")
    ]
    title = f"difference in {words(name)}{u.points and ' (points)'}"
    arm = alt.Y("arm:N", title=None, sort=None)
    told = alt.Tooltip("told:N", title="difference")
    base = charts.chart(values).encode(y=arm, tooltip=["arm:N", "baseline:N", told, "answer:N"])
    zero = charts.chart([{"x": 0}]).mark_rule(color=GREY, strokeDash=DASHED)
    chart = alt.layer(
        zero.encode(x=alt.X("x:Q", title=title)),
        base.mark_rule(color=HUES[0], strokeWidth=2).encode(x="low:Q", x2="high:Q"),
        base.mark_point(color=HUES[0], filled=True, size=80, opacity=1).encode(x="difference:Q"),
    )
    caption = (
        f"paired on the same seeds ({charts.counted(rows['n'])}), bar: 95 % t-interval of each "
        "comparison on its own; p in the table is corrected after Holm"
    )
    if len(rows) < (count := len(report.answers)):
        caption += f"; the first {len(rows)} of {count} comparisons"
    height = 60 + 26 * len(values)
    return Figure("differences", "Difference to the baseline", caption, "plain", chart, height)


def parallel(report: Report) -> Figure | None:
    """Every run as a line over its settings and results."""
    main, listed = report.settings.metric, some_runs(report)
    runs = listed.dropna(subset=[main])
    if len(runs) < 2:
        return None
    axes = _axes(report, runs)
    # Which rows of the page's table of runs the lines are.
    places = np.flatnonzero(listed[main].notna()).tolist()
    results, order = short(runs[main] * unit(main).factor), list(range(len(axes)))
    rows = [
        {"row": row, "result": result, "axis": order, "height": short(at)}
        for row, result, *at in zip(places, results, *(at for _, at, _ in axes), strict=True)
    ]
    texts_at = [
        {"axis": i, "height": height, "text": clean(text)[:18]}
        for i, (_, _, told) in enumerate(axes)
        for text, height in told.items()
    ]
    named = f"{json.dumps([clean(name)[:22] for name, *_ in axes])}[datum.value]"
    top = alt.Axis(labelExpr=named, labelAngle=-25, grid=True, orient="top")
    x = alt.X("axis:O", title=None, axis=top, scale=alt.Scale(padding=0.8))
    y = alt.Y("height:Q", axis=None, scale=alt.Scale(domain=[-0.05, 1.05]))
    kept = alt.param(name="kept", value=[])
    brush = alt.selection_interval(name="brush", encodings=["x", "y"])
    shown = "!length(kept) || indexof(kept, datum.row) >= 0"
    colours = alt.Scale(range=[HUES[5], HUES[1]])
    lines = (
        charts.chart(rows, name="runs")
        .transform_flatten(["axis", "height"])
        .mark_line(strokeWidth=1.2)
        .encode(
            x=x,
            y=y,
            detail="row:N",
            color=alt.Color("result:Q", title=charts.titled(main), scale=colours),
            # Not `opacity`: for the picture, each line would be drawn on a canvas of its own.
            strokeOpacity=alt.condition(shown, alt.value(0.7), alt.value(0.04)),
        )
    )
    unseen = lines.mark_point(opacity=1).encode(strokeOpacity=alt.value(0))
    told = charts.chart(texts_at).mark_text(align="right", dx=-4, fontSize=10)
    chart = lines + unseen.add_params(brush, kept) + told.encode(x=x, y=y, text="text:N")
    more = "" if len(listed) == len(report.runs) else f" of {len(report.runs):,}"
    caption = (
        f"one line a run ({len(runs)}{more} runs); drag over an axis to keep the runs that pass "
        "there, in the table of all runs too"
    )
    width = 85 * len(axes) + 100
    return Figure("parallel", "All runs", caption, "parallel", chart, 380, width=width)


def _axes(report: Report, runs: pd.DataFrame) -> list[tuple[str, pd.Series, dict[str, float]]]:
    """Of each column: its name, a height from 0 to 1 a run, and the height of each text."""
    columns: list[tuple[str, pd.Series, dict[str, float]]] = []
    for key, name in {**short_names(report.arms), "seed": "seed"}.items():
        steps = {text: float(step) for step, text in enumerate(shown_values(runs[key]))}
        ticks = dict([*steps.items()][:: max(1, len(steps) // 12)])
        columns.append((name, runs[key].map(show).map(steps), ticks))
    for measure in report.measures:
        if (values := runs[measure]).notna().all():
            _, equal, budget = measure.partition(" at equal ")
            name = equal.strip() + " " + budget.split(" ")[0] if equal else words(measure)
            ticks = {unit(measure).value(end): end for end in (values.min(), values.max())}
            columns.append((name, values, ticks))
    return [
        (name, (values - low) / span, {text: (at - low) / span for text, at in ticks.items()})
        for name, values, ticks in columns
        for low, span in [(values.min(), np.ptp(values) or 1.0)]
    ]


def surface(view: Surface, place: int) -> list[Figure]:
    """One heat map a label, all on one scale of colour; the best y of each x is framed."""
    cells = view.cells.dropna(subset=["mean"])
    caption = (
        f"mean over {charts.counted(cells['n'])}; framed: the best {view.y} of each {view.x}; "
        "dotted: those whose 95 % t-interval reaches that best mean"
    )
    shared = view.title, caption, "tile"
    height = 40 + 40 * len(shown_values(view.cells["y"]))
    return [
        Figure(f"surface-{place}-{i}", *shared, _tile(view, own), height, str(label))
        for i, (label, own) in enumerate(cells.groupby("label", sort=False))
    ]


def _tile(view: Surface, cells: pd.DataFrame) -> Any:
    u = unit(view.metric)
    low, high = float(view.cells["mean"].min()), float(view.cells["mean"].max())
    rows = [
        {
            **{name: clean(show(cell[name])) for name in ("x", "y")},
            "mean": short([cell["mean"] * u.factor])[0],
            "text": u.value(cell["mean"], sign=False),
            "told": f"{u.mean(cell['mean'], cell['half'])}, {cell['n']} seeds",
            "light": cell["mean"] > low + 0.5 * (high - low),
            "rank": cell["rank"],
        }
        for cell in cells.to_dict("records")
    ]
    columns, rising = ([*map(clean, shown_values(view.cells[name]))] for name in ("x", "y"))
    named = (("x", view.x), ("y", view.y), ("told", words(view.metric)))
    base = charts.chart(rows).encode(
        x=alt.X("x:N", title=view.x, sort=columns, axis=alt.Axis(labelAngle=0)),
        y=alt.Y("y:N", title=view.y, sort=rising[::-1]),
        tooltip=[alt.Tooltip(f"{name}:N", title=title) for name, title in named],
    )
    # Blue to yellow, even in lightness, which colour-blind people read alike.
    scale = alt.Scale(scheme="cividis", domain=[low * u.factor, high * u.factor])
    colour = alt.Color("mean:Q", title=u.sign.strip() or None, scale=scale)
    frames = [
        base.transform_filter(f"datum.rank == {rank}").mark_rect(
            filled=False, stroke=HUES[1], strokeWidth=width, strokeDash=dash
        )
        for rank, width, dash in ((BEST, 4, SOLID), (CLOSE, 2, DOTTED))
    ]
    ink = alt.condition("datum.light", alt.value("black"), alt.value("white"))
    text = base.mark_text(fontSize=11).encode(text="text:N", color=ink)
    return alt.layer(base.mark_rect().encode(color=colour), *frames, text)


def tradeoff(view: Tradeoff, place: int) -> Figure:
    """One point an arm, with both intervals."""
    points = pd.DataFrame({name: view.points[name].map(clean) for name in ("arm", "group")})
    points["group"] = points["group"].replace("", "arms")
    channels, told = [], []
    for channel, name, metric in ((alt.X, "x", view.x), (alt.Y, "y", view.y)):
        values, half = view.points[name], view.points[f"{name}_half"].fillna(0)
        for end, part in (("", values), ("0", values - half), ("1", values + half)):
            points[name + end] = short(part * unit(metric).factor)
        log = values.min() > 0 and values.max() / values.min() >= SPAN
        scale = alt.Scale(type="log" if log else "linear", zero=False)
        channels.append(channel(f"{name}:Q", title=charts.titled(metric), scale=scale))
        told.append(alt.Tooltip(f"{name}:Q", title=words(metric)))
    x, y = channels
    groups = list(points["group"].unique())
    legend = charts.legend() if len(groups) > 1 else None
    shape = alt.Shape("group:N", title=None, scale=alt.Scale(domain=groups), legend=legend)
    base = charts.chart(points.to_dict("records")).encode(
        color=charts.hue("group", groups, HUES, legend)
    )
    dots = base.mark_point(filled=True, size=90, opacity=1)
    chart = alt.layer(
        base.mark_rule().encode(x=x, y=alt.Y("y0:Q"), y2="y1:Q"),
        base.mark_rule().encode(y=y, x=alt.X("x0:Q"), x2="x1:Q"),
        dots.encode(x=x, y=y, shape=shape, tooltip=["arm:N", *told]),
    )
    seeds = charts.counted(view.points["seeds"])
    caption = f"one point an arm, mean of {seeds}, bars: 95 % t-interval"
    if view.clock:
        caption += "; clocks of the runs, which other work on the machine may have slowed"
    return Figure(f"tradeoff-{place}", view.title, caption, "plain", chart, 380)


def paper(report: Report, figures: Sequence[Figure]) -> dict[str, Any]:
    """The charts of the PNG files by name: those of the page, curves and tiles side by side."""
    groups: dict[str, list[Any]] = {}
    for f in figures:
        kind = "losses" if "loss" in f.id else "curves"
        together = {"curve": kind, "tile": f.id.rsplit("-", 1)[0]}
        width = f.width or (260 if f.kind == "tile" else 460)
        if f.kind != "losses":
            sized = f.chart.properties(width=width, height=f.height, title=f.label)
            groups.setdefault(together.get(f.kind, f.id), []).append(sized)
    made = {
        name: several[0] if len(several) == 1 else alt.concat(*several, columns=4)
        for name, several in groups.items()
    }
    panels = losses.panels(report, shown_arms(report))
    return made | ({"histograms": panels} if panels else {})
