"""The figures. Each is defined once: the page shows it with Vega, the PNG files are drawn of it."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from minesweep.pages import PALETTE, clean
from minesweep.reporting.analyse.arms import short_names, show, size_order
from minesweep.reporting.analyse.report import Report
from minesweep.reporting.analyse.statistics import band
from minesweep.reporting.analyse.views import Curve, Surface, Tile, Tradeoff, axis
from minesweep.reporting.show.losses import LossHistogram, loss_histograms, thin
from minesweep.reporting.units import unit, words

GREY = PALETTE[-1]
HUES = PALETTE[:-1]
SOLID, DASHED, DOTTED = [1, 0], [6, 3], [2, 2]
MOST_ARMS, MOST_POINTS, MOST_DIFFERENCES, MOST_ON_PAPER = 12, 120, 40, 4
SPAN = 30.0
"""An axis is logarithmic if its largest value is this many times the smallest."""


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        id: The element's id on the page.
        title: A heading; curves share one, and so do the tiles of a surface.
        caption: What is shown: how many seeds, what the band is.
        kind: ``curve``, ``losses``, ``tile``, ``parallel`` or ``plain``.
        chart: The chart, without a width.
        height: Pixels.
        label: Its own heading among those that share one.
        axes: The other fields for the first axis, by their names.
    """

    id: str
    title: str
    caption: str
    kind: str
    chart: Any
    height: int = 340
    label: str = ""
    axes: dict[str, str] = field(default_factory=dict)


def all_figures(report: Report) -> list[Figure]:
    """The figures of a study, in the page's order."""
    found: list[Figure | None] = []
    for place, view in enumerate(report.views, start=1):
        if isinstance(view, Surface):
            found += surface(view, place)
        elif isinstance(view, Tradeoff):
            found.append(tradeoff(view, place))
    found.append(differences(report))
    found += [curve(report, metric) for metric in curve_metrics(report)]
    found += [losses(report), parallel(report)]
    return [figure for figure in found if figure is not None]


def shown_arms(report: Report) -> list[str]:
    """The arms in the figures: all, or of many arms the baselines and the best."""
    labels = [arm.label for arm in report.arms]
    if len(labels) <= MOST_ARMS:
        return labels
    main = f"{report.measures[0].name} mean"
    baselines = list(dict.fromkeys(report.baselines.values()))[: MOST_ARMS // 2]
    ranked = report.table[main].sort_values(ascending=report.smaller_wins).index
    best = [label for label in ranked if label not in baselines]
    chosen = {*baselines, *best[: MOST_ARMS - len(baselines)]}
    return [label for label in labels if label in chosen]


def styles(report: Report) -> tuple[list[str], list[str], list[list[int]]]:
    """The shown arms, their colours and their dashes.

    A baseline of one arm has the arm's hue and is dashed. A baseline of several arms is grey.
    """
    labels = shown_arms(report)
    users = Counter(base for arm, base in report.baselines.items() if arm in labels)
    hues: dict[str, str] = {}
    dashes: dict[str, list[int]] = {}
    solid = [label for label in labels if label not in users]
    for place, label in enumerate(solid):
        hues[label] = HUES[place % len(HUES)]
        dashes[label] = SOLID if place < len(HUES) else DOTTED
        base = report.baselines.get(label)
        if base is not None:
            hues[base] = hues[label] if users[base] == 1 else GREY
    colours = [hues.get(label, GREY) for label in labels]
    return labels, colours, [dashes.get(label, DASHED) for label in labels]


def curve_metrics(report: Report) -> list[str]:
    """The metrics of the journals that are drawn: accuracies, then losses."""
    held = set(report.study.curves["metric"].cat.categories)
    wanted = [report.settings.validation, "train/accuracy_running", "val/loss"]
    wanted += ["train/loss_batch", "train/loss_selected"]
    wanted += [view.metric for view in report.views if isinstance(view, Curve)]
    return [metric for metric in dict.fromkeys(wanted) if metric in held]


def curve(report: Report, metric: str) -> Figure | None:
    """The mean of a metric over seeds and its interval, one line an arm."""
    labels, colours, dashes = styles(report)
    arm_of = dict(zip(report.runs["run"], report.runs["arm"], strict=True))
    bands = band(report.study.curves, arm_of, metric)
    spent = band(report.study.curves, arm_of, report.settings.budget)
    u, rows, seeds = unit(metric), [], []
    for label in labels:
        mine = bands[bands["arm"] == label].sort_values("step")
        if mine.empty:
            continue
        mine = mine.iloc[thin(len(mine), MOST_POINTS)]
        steps = mine["step"].to_numpy(dtype=float)
        known = spent[spent["arm"] == label].sort_values("step")
        row: dict[str, Any] = {"arm": clean(label), "one": len(mine) == 1, "steps": short(steps)}
        if len(known):
            at = [0.0, *known["step"].astype(float)]
            row["samples"] = short(np.interp(steps, at, [0.0, *known["mean"]]))
        if report.step_seconds:
            row["seconds"] = short(steps * report.step_seconds[label])
        for name in ("mean", "low", "high"):
            row[name] = short(mine[name].to_numpy() * u.factor)
        rows.append(row)
        seeds.append(int(mine["n"].max()))
    if not rows:
        return None
    names = {"samples": words(report.settings.budget), "steps": "steps", "seconds": "seconds"}
    axes = {title: name for name, title in names.items() if all(name in row for row in rows)}
    first = next(iter(axes))
    arms = [clean(label) for label in labels]
    name = "".join(c if c.isalnum() else "_" for c in metric)
    pick = alt.selection_point(f"pick_{name}", fields=["arm"], bind="legend")
    base = (
        alt.Chart(alt.Data(values=rows))
        .transform_flatten([*axes.values(), "mean", "low", "high"])
        .encode(
            x=alt.X(
                f"{axes[first]}:Q",
                title=first,
                scale=alt.Scale(zero=True),
                axis=alt.Axis(format="~s", tickCount=6),
            ),
            color=alt.Color(
                "arm:N", title=None, scale=alt.Scale(domain=arms, range=colours), legend=_legend()
            ),
            opacity=alt.condition(pick, alt.value(1), alt.value(0.1)),
        )
    )
    value = alt.Y("mean:Q", title=_titled(metric), scale=alt.Scale(zero=False))
    shades = base.transform_filter("isValid(datum.low)").mark_area(fillOpacity=0.15, strokeWidth=0)
    drawn = base.mark_line(strokeWidth=2).encode(
        y=value,
        strokeDash=alt.StrokeDash(
            "arm:N", title=None, scale=alt.Scale(domain=arms, range=dashes), legend=_legend()
        ),
        tooltip=["arm:N", "steps:Q", alt.Tooltip("mean:Q", title=words(metric))],
    )
    layers = [shades.encode(y="low:Q", y2="high:Q")] if max(seeds) > 1 else []
    layers.append(drawn)
    if any(row["one"] for row in rows):
        lone = base.transform_filter("datum.one").mark_point(filled=True, size=50)
        layers.append(lone.encode(y=value))
    chart = alt.layer(*layers).add_params(pick)
    caption = _mean_of(seeds)
    if report.baselines:
        caption += "; dashed: baselines"
    label = words(metric).capitalize()
    return Figure(f"curve_{name}", "Curves", caption, "curve", chart, 300, label, axes)


def differences(report: Report) -> Figure | None:
    """The paired differences of the main measure with their intervals; zero is the baseline."""
    if report.comparisons.empty:
        return None
    name = report.measures[0].name
    rows = report.comparisons[report.comparisons["measure"] == name].head(MOST_DIFFERENCES)
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
    arm = alt.Y("arm:N", title=None, sort=None, axis=alt.Axis(labelLimit=260))
    base = alt.Chart(alt.Data(values=values)).encode(
        y=arm,
        tooltip=["arm:N", "baseline:N", alt.Tooltip("told:N", title="difference"), "answer:N"],
    )
    zero = alt.Chart(alt.Data(values=[{"x": 0}])).mark_rule(color=GREY, strokeDash=DASHED)
    chart = alt.layer(
        zero.encode(x=alt.X("x:Q", title=title)),
        base.mark_rule(color=HUES[0], strokeWidth=2).encode(x="low:Q", x2="high:Q"),
        base.mark_point(color=HUES[0], filled=True, size=80, opacity=1).encode(x="difference:Q"),
    )
    caption = (
        f"paired on the same seeds ({_counted(rows['n'])}), bar: 95 % t-interval of each "
        "comparison on its own; p in the table is corrected after Holm"
    )
    height = 60 + 26 * len(values)
    return Figure("differences", "Difference to the baseline", caption, "plain", chart, height)


def losses(report: Report) -> Figure | None:
    """The losses of the scored batch and of the selected part, with the arm and step to choose."""
    held = loss_histograms(report, shown_arms(report))
    if not held:
        return None
    arm = alt.param(
        name="arm",
        value=clean(held[0].arm),
        bind=alt.binding_select(options=[clean(h.arm) for h in held], name="arm "),
    )
    last = max(len(h.steps) for h in held) - 1
    place = alt.param(
        name="place", value=0, bind=alt.binding_range(min=0, max=max(last, 1), step=1, name="time ")
    )
    shown = "datum.arm == arm && datum.place == min(place, datum.last)"
    rows = [row for h in held for row in _loss_rows(h)]
    chart = _bars(alt.Chart(alt.Data(values=rows)).transform_filter(shown)).add_params(arm, place)
    caption = (
        f"mean count over {_counted([h.seeds for h in held])}; the last bin holds all losses above"
    )
    return Figure("losses", "Losses: scored and selected", caption, "losses", chart)


def _bars(base: alt.Chart) -> Any:
    """Counts by loss. The selected part stands in front of what was scored."""
    bars = (
        base.transform_calculate(bin="sequence(length(datum.scored))")
        .transform_flatten(["bin", "scored", "selected"])
        .transform_calculate(
            x="datum.low + datum.width * datum.bin", x2="datum.low + datum.width * (datum.bin + 1)"
        )
        .transform_fold(["scored", "selected"], as_=["part", "count"])
        .mark_bar(opacity=0.75)
        .encode(
            x=alt.X("x:Q", title="loss", bin="binned"),
            x2="x2:Q",
            y=alt.Y("count:Q", title="examples in a batch", stack=None),
            color=alt.Color(
                "part:N",
                title=None,
                scale=alt.Scale(domain=["scored", "selected"], range=[HUES[5], HUES[1]]),
            ),
        )
    )
    told = base.mark_text(align="right", baseline="top", fontSize=12, dy=4, dx=-4).encode(
        x=alt.value("width"), y=alt.value(0), text="told:N"
    )
    return bars + told


def _loss_rows(h: LossHistogram) -> list[dict[str, Any]]:
    return [
        {
            "arm": clean(h.arm),
            "place": place,
            "last": len(h.steps) - 1,
            "told": f"step {step:,}",
            "low": float(h.edges[0]),
            "width": float(h.edges[1] - h.edges[0]),
            "scored": short(h.scored[place]),
            "selected": short(h.selected[place]),
        }
        for place, step in enumerate(h.steps.tolist())
    ]


def parallel(report: Report) -> Figure | None:
    """Every run as a line over its settings and results."""
    main = report.measures[0].name
    runs = report.runs.dropna(subset=[main])
    if len(runs) < 2:
        return None
    keys = list(report.arms[0].values)
    names = short_names(keys)
    axes = [(names[key], *_heights(list(runs[key]), show)) for key in keys]
    axes.append(("seed", *_heights(list(runs["seed"]), show)))
    for measure in report.measures:
        if runs[measure.name].notna().all():
            _, equal, budget = measure.name.partition(" at equal ")
            name = equal + budget.split(" ")[0] or words(measure.name)
            values = list(runs[measure.name])
            axes.append((name.strip(), *_heights(values, unit(measure.name).value, spread=True)))
    # Which rows of the table of all runs the lines are.
    places = np.flatnonzero(report.runs[main].notna()).tolist()
    rows = [
        {
            "row": row,
            "result": short([result * unit(main).factor])[0],
            "axis": list(range(len(axes))),
            "height": short([heights[i] for _, heights, _ in axes]),
        }
        for i, (row, result) in enumerate(zip(places, runs[main], strict=True))
    ]
    ticks = [
        {"axis": i, "height": height, "text": clean(text)[:18]}
        for i, (_, _, told) in enumerate(axes)
        for text, height in told.items()
    ]
    labels = json.dumps([clean(name)[:22] for name, *_ in axes])
    x = alt.X(
        "axis:O",
        title=None,
        axis=alt.Axis(labelExpr=f"{labels}[datum.value]", labelAngle=-25, grid=True, orient="top"),
    )
    y = alt.Y("height:Q", axis=None, scale=alt.Scale(domain=[-0.05, 1.05]))
    kept = alt.param(name="kept", value=[])
    brush = alt.selection_interval(name="brush", encodings=["x", "y"])
    lines = (
        alt.Chart(alt.Data(values=rows, name="runs"))
        .transform_flatten(["axis", "height"])
        .mark_line(strokeWidth=1.2)
        .encode(
            x=x,
            y=y,
            detail="row:N",
            color=alt.Color(
                "result:Q", title=_titled(main), scale=alt.Scale(range=[HUES[5], HUES[1]])
            ),
            opacity=alt.condition(
                "!length(kept) || indexof(kept, datum.row) >= 0", alt.value(0.7), alt.value(0.04)
            ),
        )
    )
    dots = lines.mark_point().encode(opacity=alt.value(0)).add_params(brush, kept)
    told = alt.Chart(alt.Data(values=ticks)).mark_text(align="right", dx=-4, fontSize=10)
    chart = lines + dots + told.encode(x=x, y=y, text="text:N")
    caption = (
        f"one line a run ({len(runs)} runs); drag over an axis to keep the runs that pass there, "
        "in the table of all runs too"
    )
    return Figure("parallel", "All runs", caption, "parallel", chart, 380)


def _heights(
    values: list[Any], told: Callable[[Any], str], spread: bool = False
) -> tuple[list[float], dict[str, float]]:
    """Heights from 0 to 1 and the texts at them: even steps, or by size if values spread."""
    if spread:
        low, high = min(values), max(values)
        span = (high - low) or 1.0
        ends = {told(low): 0.0, told(high): 1.0} if high > low else {told(low): 0.0}
        return [(value - low) / span for value in values], ends
    texts = list(dict.fromkeys(told(v) for v in sorted(values, key=size_order)))
    places = {text: i / max(1, len(texts) - 1) for i, text in enumerate(texts)}
    step = max(1, len(texts) // 12)
    return [places[told(v)] for v in values], dict(list(places.items())[::step])


def surface(view: Surface, place: int) -> list[Figure]:
    """One heat map a tile, all on one scale of colour; the best y of each x is framed."""
    cells = np.concatenate([tile.mean.ravel() for tile in view.tiles])
    ends = float(np.nanmin(cells)), float(np.nanmax(cells))
    seeds = np.concatenate([tile.seeds[tile.seeds > 0] for tile in view.tiles])
    caption = (
        f"mean over {_counted(seeds)}; framed: the best {view.y[0]} of each {view.x[0]}; "
        "dotted: those whose 95 % t-interval reaches that best mean"
    )
    height = 40 + 40 * len(view.y[1])
    return [
        Figure(
            f"surface-{place}-{i}",
            view.title,
            caption,
            "tile",
            _tile(view, tile, ends),
            height,
            tile.label,
        )
        for i, tile in enumerate(view.tiles)
    ]


def _tile(view: Surface, tile: Tile, ends: tuple[float, float]) -> Any:
    u, (low, high) = unit(view.metric), ends
    rows = []
    for row, column in np.argwhere(np.isfinite(tile.mean)):
        mean, half = float(tile.mean[row, column]), float(tile.half[row, column])
        spread = f" ± {u.value(half)}" if np.isfinite(half) else ""
        rows.append(
            {
                "x": clean(view.x[1][column]),
                "y": clean(view.y[1][row]),
                "mean": short([mean * u.factor])[0],
                "text": u.value(mean, sign=False),
                "told": f"{u.value(mean)}{spread}, {tile.seeds[row, column]} seeds",
                "light": mean > low + 0.5 * (high - low),
                "frame": 2 if tile.best[column] == row else int(tile.close[row, column]),
            }
        )
    ordered = [[clean(v) for v in values] for _, values in (view.x, view.y)]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("x:N", title=view.x[0], sort=ordered[0], axis=alt.Axis(labelAngle=0)),
        y=alt.Y("y:N", title=view.y[0], sort=ordered[1][::-1]),
        tooltip=[
            alt.Tooltip("x:N", title=view.x[0]),
            alt.Tooltip("y:N", title=view.y[0]),
            alt.Tooltip("told:N", title=words(view.metric)),
        ],
    )
    colour = alt.Color(
        "mean:Q",
        title=u.sign.strip() or None,
        # Blue to yellow, even in lightness, which colour-blind people read alike.
        scale=alt.Scale(scheme="cividis", domain=[low * u.factor, high * u.factor]),
    )
    frame = base.mark_rect(filled=False, stroke=HUES[1])
    return alt.layer(
        base.mark_rect().encode(color=colour),
        frame.transform_filter("datum.frame == 2").mark_rect(
            filled=False, stroke=HUES[1], strokeWidth=4
        ),
        frame.transform_filter("datum.frame == 1").mark_rect(
            filled=False, stroke=HUES[1], strokeWidth=2, strokeDash=DOTTED
        ),
        base.mark_text(fontSize=11).encode(
            text="text:N",
            color=alt.condition("datum.light", alt.value("black"), alt.value("white")),
        ),
    )


def tradeoff(view: Tradeoff, place: int) -> Figure:
    """One point an arm, with both intervals."""
    ux, uy = unit(view.x), unit(view.y)
    rows = []
    for row in view.points.to_dict("records"):
        ends: dict[str, Any] = {"arm": clean(row["arm"]), "group": clean(row["group"]) or "arms"}
        for name, u in (("x", ux), ("y", uy)):
            half = 0.0 if np.isnan(row[f"{name}_half"]) else row[f"{name}_half"]
            numbers = np.array([row[name], row[name] - half, row[name] + half]) * u.factor
            ends |= dict(zip((name, f"{name}0", f"{name}1"), short(numbers), strict=True))
        rows.append(ends)
    groups = list(dict.fromkeys(row["group"] for row in rows))
    legend = _legend() if len(groups) > 1 else None
    base = alt.Chart(alt.Data(values=rows)).encode(
        color=alt.Color(
            "group:N", title=None, scale=alt.Scale(domain=groups, range=list(HUES)), legend=legend
        )
    )
    x = alt.X("x:Q", title=_axis_title(view.x), scale=_scale(view.points["x"]))
    y = alt.Y("y:Q", title=_axis_title(view.y), scale=_scale(view.points["y"]))
    chart = alt.layer(
        base.mark_rule().encode(x=x, y=alt.Y("y0:Q"), y2="y1:Q"),
        base.mark_rule().encode(y=y, x=alt.X("x0:Q"), x2="x1:Q"),
        base.mark_point(filled=True, size=90, opacity=1).encode(
            x=x,
            y=y,
            shape=alt.Shape("group:N", title=None, scale=alt.Scale(domain=groups), legend=legend),
            tooltip=[
                "arm:N",
                alt.Tooltip("x:Q", title=axis(view.x)),
                alt.Tooltip("y:Q", title=axis(view.y)),
            ],
        ),
    )
    caption = f"one point an arm, mean of {_counted(view.points['seeds'])}, bars: 95 % t-interval"
    if view.clock:
        caption += "; clocks of the runs, which other work on the machine may have slowed"
    return Figure(f"tradeoff-{place}", view.title, caption, "plain", chart, 380)


def paper(report: Report, figures: Sequence[Figure]) -> dict[str, Any]:
    """The charts of the PNG files by name: those of the page, curves and tiles side by side."""
    charts: dict[str, list[Any]] = {}
    for figure in figures:
        name, width = figure.id, {"parallel": 960, "tile": 260}.get(figure.kind, 460)
        if figure.kind == "losses":
            continue
        if figure.kind == "tile":
            name = figure.id.rsplit("-", 1)[0]
        elif figure.kind == "curve":
            name = "losses" if "loss" in figure.id else "curves"
        sized = figure.chart.properties(width=width, height=figure.height, title=figure.label)
        charts.setdefault(name, []).append(sized)
    made = {
        name: several[0] if len(several) == 1 else alt.concat(*several, columns=4)
        for name, several in charts.items()
    }
    if held := loss_histograms(report, shown_arms(report))[:MOST_ON_PAPER]:
        made["histograms"] = _losses_on_paper(held)
    return made


def _losses_on_paper(held: Sequence[LossHistogram]) -> Any:
    """The first, a middle and the last step; one row an arm."""
    panels = []
    for h in held:
        rows = _loss_rows(h)
        places = sorted({0, len(rows) // 2, len(rows) - 1})
        bars = [_bars(alt.Chart(alt.Data(values=[rows[place]]))) for place in places]
        sized = [bar.properties(width=260, height=150, title=clean(h.arm)) for bar in bars]
        panels.append(alt.hconcat(*sized))
    return alt.vconcat(*panels)


def png(chart: Any) -> bytes:
    """A chart as PNG, drawn without a browser."""
    import vl_convert
    from PIL import Image

    image = Image.open(io.BytesIO(vl_convert.vegalite_to_png(chart.to_dict(), scale=1.5)))
    out = io.BytesIO()
    # 256 colours are enough for a diagram, and make the file five times smaller.
    image.convert("RGB").quantize(256).save(out, format="png")
    return out.getvalue()


def _titled(metric: str) -> str:
    sign = unit(metric).sign.strip()
    return words(metric) + (f" ({sign})" if sign else "")


def _axis_title(name: str) -> str:
    sign = unit(name).sign.strip()
    return axis(name) + (f" ({sign})" if sign else "")


def _legend() -> alt.Legend:
    return alt.Legend(orient="bottom", symbolType="stroke", symbolStrokeWidth=3, labelLimit=300)


def _scale(values: pd.Series) -> alt.Scale:
    log = values.min() > 0 and values.max() / values.min() >= SPAN
    return alt.Scale(type="log" if log else "linear", zero=False)


def _counted(seeds: Any) -> str:
    """``5 seeds``, ``3 to 5 seeds``."""
    least, most = int(min(seeds)), int(max(seeds))
    span = f"{most}" if least == most else f"{least} to {most}"
    return f"{span} seed{'s' if most != 1 else ''}"


def _mean_of(seeds: Sequence[int]) -> str:
    if max(seeds) == 1:
        return "1 seed, no band"
    return f"mean of {_counted(seeds)}, band: 95 % t-interval"


def short(values: Any) -> list[float | None]:
    """Six digits: enough for a screen, and a quarter of the page's size."""
    return [float(f"{v:.6g}") if np.isfinite(v) else None for v in map(float, values)]
