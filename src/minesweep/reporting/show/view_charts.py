"""The figures of the views that a study's ``report.yaml`` asks for: surfaces and trade-offs."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from minesweep.pages import clean
from minesweep.reporting.analyse.views import BEST, CLOSE, Surface, Tradeoff, axis
from minesweep.reporting.show import charts
from minesweep.reporting.show.charts import DOTTED, HUES, SOLID, Figure, short
from minesweep.reporting.units import unit, words

SPAN = 30.0
"""An axis is logarithmic if its largest value is this many times the smallest."""


def surface(view: Surface, place: int) -> list[Figure]:
    """One heat map a label, all on one scale of colour; the best y of each x is framed."""
    cells = view.cells.dropna(subset=["mean"])
    caption = (
        f"mean over {charts.counted(cells['n'])}; framed: the best {view.y} of each {view.x}; "
        "dotted: those whose 95 % t-interval reaches that best mean"
    )
    shared = view.title, caption, "tile"
    height = 40 + 40 * len(view.rows)
    return [
        Figure(f"surface-{place}-{i}", *shared, _tile(view, own), height, str(label))
        for i, (label, own) in enumerate(cells.groupby("label", sort=False))
    ]


def _tile(view: Surface, cells: pd.DataFrame) -> Any:
    u = unit(view.metric)
    low, high = float(view.cells["mean"].min()), float(view.cells["mean"].max())
    rows = [
        {
            "x": clean(cell["x"]),
            "y": clean(cell["y"]),
            "mean": short([cell["mean"] * u.factor])[0],
            "text": u.value(cell["mean"], sign=False),
            "told": f"{u.value(cell['mean'])}{spread}, {cell['n']} seeds",
            "light": cell["mean"] > low + 0.5 * (high - low),
            "rank": cell["rank"],
        }
        for cell in cells.to_dict("records")
        for spread in [f" ± {u.value(cell['half'])}" if np.isfinite(cell["half"]) else ""]
    ]
    columns, up = ([clean(v) for v in values] for values in (view.columns, view.rows[::-1]))
    named = (("x", view.x), ("y", view.y), ("told", words(view.metric)))
    base = charts.chart(rows).encode(
        x=alt.X("x:N", title=view.x, sort=columns, axis=alt.Axis(labelAngle=0)),
        y=alt.Y("y:N", title=view.y, sort=up),
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
    for name, metric in (("x", view.x), ("y", view.y)):
        values, half = view.points[name], view.points[f"{name}_half"].fillna(0)
        for end, part in ((name, values), (f"{name}0", values - half), (f"{name}1", values + half)):
            points[end] = short(part * unit(metric).factor)
        log = values.min() > 0 and values.max() / values.min() >= SPAN
        scale = alt.Scale(type="log" if log else "linear", zero=False)
        title = charts.titled(metric, axis(metric))
        channels.append((alt.X, alt.Y)[name == "y"](f"{name}:Q", title=title, scale=scale))
        told.append(alt.Tooltip(f"{name}:Q", title=axis(metric)))
    x, y = channels
    groups = list(points["group"].unique())
    legend = charts.legend() if len(groups) > 1 else None
    scale = alt.Scale(domain=groups)
    shape = alt.Shape("group:N", title=None, scale=scale, legend=legend)
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
