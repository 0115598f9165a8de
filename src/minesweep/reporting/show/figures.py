"""The page's figures (Plotly). Backgrounds are transparent; the page colours text and grid."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from minesweep.pages import PALETTE, clean
from minesweep.reporting.analyse.arms import short_names, show
from minesweep.reporting.analyse.views import Surface, Tradeoff
from minesweep.reporting.show.series import (
    LossHistogram,
    curve_metrics,
    lines,
    loss_histograms,
    ranked,
    seeds_told,
)
from minesweep.reporting.units import unit, words

if TYPE_CHECKING:
    from minesweep.reporting.analyse.report import Report

DASHES = ("solid", "dash", "dot", "dashdot")


@dataclass(frozen=True)
class Figure:
    """A figure of the page.

    Attributes:
        id: The element's id.
        title: A heading.
        caption: What is shown: how many seeds, what the band is.
        kind: ``curve`` (its ``layout.meta`` holds other x axes), ``histogram`` (one frame a
            step), ``tiles`` (small figures side by side), ``parallel`` (its ``layout.meta`` names
            the table's rows), or ``plain``.
        plot: The Plotly figure.
        choice: Figures with the same ``group`` are shown one at a time, by this name; tiles all
            at once, under it.
        group: See ``choice``; empty for a figure of its own.
    """

    id: str
    title: str
    caption: str
    kind: str
    plot: go.Figure
    choice: str = ""
    group: str = ""


def plain(text: Any) -> str:
    """Text for Plotly, which reads a subset of HTML in its labels."""
    return html.escape(clean(text), quote=False)


def all_figures(report: Report) -> list[Figure]:
    """The figures of a study, in the page's order."""
    # Here: the views are drawn with this module's means.
    from minesweep.reporting.show.view_figures import surface_figures, tradeoff_figure

    found = []
    for position, view in enumerate(report.views):
        if isinstance(view, Surface):
            found += surface_figures(view, position)
        elif isinstance(view, Tradeoff):
            found.append(tradeoff_figure(view, position))
    if not report.comparisons.empty:
        found.append(differences(report))
    found += [curves(report, metric) for metric in curve_metrics(report)]
    found += [histogram(h, i) for i, h in enumerate(loss_histograms(report))]
    if len(report.runs) > 1:
        found.append(parallel(report))
    return [figure for figure in found if figure.plot.data]


def curves(report: Report, metric: str) -> Figure:
    """A metric over steps, one line and one band an arm; other x axes in ``layout.meta``."""
    drawn = lines(report, metric)
    plot = go.Figure()
    axes: dict[str, list[list[float | None]]] = {
        name: [] for name in (drawn[0].x if drawn else {}) if all(name in d.x for d in drawn)
    }
    for line in drawn:
        name = plain(line.arm)
        if np.isfinite(line.low).any():
            plot.add_scatter(
                y=short([*line.high, *line.low[::-1]]),
                x=short([*line.x["steps"], *line.x["steps"][::-1]]),
                fill="toself",
                fillcolor=_faint(line.colour),
                line={"width": 0},
                hoverinfo="skip",
                legendgroup=name,
                showlegend=False,
            )
            for axis, positions in axes.items():
                positions.append(short([*line.x[axis], *line.x[axis][::-1]]))
        plot.add_scatter(
            x=short(line.x["steps"]),
            y=short(line.mean),
            name=name,
            legendgroup=name,
            mode="lines" if len(line.mean) > 1 else "markers",
            line={
                "color": line.colour,
                "width": 2,
                "dash": DASHES[line.style // len(PALETTE) % len(DASHES)],
            },
        )
        for axis, positions in axes.items():
            positions.append(short(line.x[axis]))
    sign = unit(metric).sign.strip()
    plot.update_layout(
        xaxis={"title": "steps", "rangemode": "tozero"},
        yaxis={"title": words(metric) + (f" ({sign})" if sign else "")},
        meta={"axes": axes},
        height=420,
        **layout(),
    )
    told = seeds_told(drawn) if drawn else ""
    return Figure(_id("curve", metric), words(metric).capitalize(), told, "curve", plot)


def differences(report: Report) -> Figure:
    """The main measure's paired differences with their intervals; zero is the baseline."""
    name = report.measures[0].name
    rows = report.comparisons[report.comparisons["measure"] == name].iloc[::-1]
    rows = rows.head(40)
    u = unit(name)
    centre = rows["difference"].to_numpy() * u.factor
    plot = go.Figure(
        go.Scatter(
            x=short(centre),
            y=[plain(arm) for arm in rows["arm"]],
            mode="markers",
            marker={"size": 10, "color": PALETTE[0]},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": short(rows["high"].to_numpy() * u.factor - centre),
                "arrayminus": short(centre - rows["low"].to_numpy() * u.factor),
                "color": PALETTE[0],
                "thickness": 2,
            },
            text=[plain(f"{r.baseline}: {r.answer}") for r in rows.itertuples()],
            hovertemplate="%{y} against %{text}<br>%{x}<extra></extra>",
        )
    )
    plot.add_vline(x=0, line={"dash": "dash", "width": 1, "color": PALETTE[6]})
    plot.update_layout(
        xaxis={"title": f"difference in {words(name)}{u.points and ' (points)'}"},
        yaxis={"automargin": True},
        height=140 + 34 * len(rows),
        **layout(),
    )
    seeds = sorted({int(n) for n in rows["n"]})
    caption = (
        f"paired on the same seeds ({' to '.join(map(str, {seeds[0], seeds[-1]}))} seeds), bar: "
        "95 % t-interval, each on its own; the table's p is corrected after Holm"
    )
    return Figure("differences", "Difference to the baseline", caption, "plain", plot)


def histogram(losses: LossHistogram, position: int) -> Figure:
    """The scored batch's losses beside those of the selected part, on the same axes; one frame
    a step, by its name."""
    centres = short((losses.edges[:-1] + losses.edges[1:]) / 2)
    width = float(losses.edges[1] - losses.edges[0])
    plot = make_subplots(
        cols=2,
        shared_yaxes=True,
        subplot_titles=["scored", "selected"],
    )
    tops = np.maximum(losses.scored.max(axis=1), losses.selected.max(axis=1)) * 1.05
    for column, counts in enumerate((losses.scored, losses.selected), start=1):
        plot.add_bar(
            x=centres,
            y=short(counts[0]),
            width=width,
            marker={"color": PALETTE[column - 1], "line": {"width": 0}},
            hovertemplate="loss %{x}: %{y}<extra></extra>",
            col=column,
            row=1,
        )
    plot.frames = [
        go.Frame(
            name=str(step),
            data=[
                {"type": "bar", "y": short(scored)},
                {"type": "bar", "y": short(selected)},
            ],
            layout={"yaxis": {"range": [0, float(top) or 1.0]}},
        )
        for step, scored, selected, top in zip(
            losses.steps.tolist(), losses.scored, losses.selected, tops, strict=True
        )
    ]
    ends = [float(losses.edges[0]), float(losses.edges[-1])]
    plot.update_layout(
        xaxis={"title": "loss", "range": ends},
        xaxis2={"title": "loss", "range": ends},
        yaxis={"title": "examples in a batch", "range": [0, float(tops[0]) or 1.0]},
        bargap=0,
        height=380,
        **(layout() | {"showlegend": False}),
    )
    caption = (
        f"mean count over {losses.seeds} seed{'s' if losses.seeds > 1 else ''}, the same axes on "
        "both sides; the last bin holds all above it"
    )
    return Figure(
        f"histogram-{position}",
        "Losses: scored and selected",
        caption,
        "histogram",
        plot,
        choice=losses.arm,
        group="histograms",
    )


def parallel(report: Report) -> Figure:
    """Every run a line over its settings and results."""
    main = report.measures[0].name
    runs = report.runs.dropna(subset=[main])
    keys = list(report.arms[0].values)
    names = short_names(keys)
    dimensions = [_dimension(names[key], list(runs[key])) for key in keys]
    dimensions.append(_dimension("seed", list(runs["seed"])))
    for measure in report.measures:
        u, values = unit(measure.name), runs[measure.name]
        if values.notna().all():
            _, equal, budget = measure.name.partition(" at equal ")
            label = equal + budget.split(" ")[0] or words(measure.name)[:24]
            dimensions.append({"label": plain(label), "values": short(values * u.factor)})
    u = unit(main)
    plot = go.Figure(
        go.Parcoords(
            dimensions=dimensions,
            line={
                "color": short(runs[main] * u.factor),
                "colorscale": [[0, PALETTE[5]], [1, PALETTE[1]]],
                "showscale": True,
                "colorbar": {"title": {"text": u.sign.strip()}, "thickness": 12},
            },
        )
    )
    plot.update_layout(**(layout() | {"height": 440, "margin": {"l": 70, "r": 30, "t": 60}}))
    # Which rows of the table of all runs the lines are.
    plot.update_layout(meta={"rows": np.flatnonzero(report.runs[main].notna()).tolist()})
    caption = (
        f"one line a run ({len(runs)} runs); drag along an axis to keep some of them, here and in "
        "the table of all runs below, which can also be searched"
    )
    return Figure("parallel", "All trials", caption, "parallel", plot)


def _dimension(label: str, values: list[Any]) -> dict[str, Any]:
    texts = ranked(values)
    if len(texts) > 12 and all(isinstance(v, int | float) for v in values):
        return {"label": plain(label), "values": short(values)}
    # Few values, or words: evenly spaced, which also suits rates that span decades.
    return {
        "label": plain(label),
        "values": [texts.index(show(v)) for v in values],
        "tickvals": list(range(len(texts))),
        "ticktext": [plain(text[:24]) for text in texts],
    }


def layout() -> dict[str, Any]:
    """What all figures share."""
    clear = "rgba(0,0,0,0)"
    return {
        "paper_bgcolor": clear,
        "plot_bgcolor": clear,
        "margin": {"l": 60, "r": 15, "t": 40, "b": 50},
        "legend": {"orientation": "h", "y": -0.22},
        "hovermode": "closest",
        "autosize": True,
    }


def short(values: Any) -> list[float | None]:
    """Six digits are enough for a screen, and a quarter of the page's size."""
    return [float(f"{v:.6g}") if np.isfinite(v) else None for v in map(float, values)]


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"


def _id(*parts: str) -> str:
    return "-".join("".join(c if c.isalnum() else "-" for c in part) for part in parts)
