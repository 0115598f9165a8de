"""The same figures as PNG, for paper (Matplotlib, without a display)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from minesweep.pages import PALETTE, clean
from minesweep.reporting.analyse.arms import short_names, show
from minesweep.reporting.analyse.views import Surface, Tradeoff
from minesweep.reporting.show.series import (
    curve_metrics,
    lines,
    loss_histograms,
    ranked,
    seeds_told,
    shown_arms,
)
from minesweep.reporting.units import unit, words

if TYPE_CHECKING:
    from minesweep.reporting.analyse.report import Report

DASHES = ("-", "--", ":", "-.")
MOST_HISTOGRAMS = 4


def draw(report: Report) -> dict[str, bytes]:
    """PNG images by file name."""
    # Here: the views are drawn with this module's means.
    from minesweep.reporting.show.view_figures import surface_paper, tradeoff_paper

    made: dict[str, Figure | None] = {}
    for position, view in enumerate(report.views, start=1):
        if isinstance(view, Surface):
            made[f"surface-{position}.png"] = surface_paper(view)
        elif isinstance(view, Tradeoff):
            made[f"tradeoff-{position}.png"] = tradeoff_paper(view)
    made |= {
        "differences.png": _differences(report),
        "curves.png": _curves(report, losses=False),
        "losses.png": _curves(report, losses=True),
        "histograms.png": _histograms(report),
        "parallel.png": _parallel(report),
    }
    return {name: _png(figure) for name, figure in made.items() if figure is not None}


def plain(text: Any) -> str:
    """Text for Matplotlib, which reads mathematics between two dollar signs."""
    return clean(text).replace("$", r"\$")


def _curves(report: Report, losses: bool) -> Figure | None:
    metrics = [m for m in curve_metrics(report) if ("loss" in m) == losses]
    if not metrics:
        return None
    figure = Figure(figsize=(5.2 * len(metrics), 4.2), layout="constrained")
    for axes, metric in zip(np.atleast_1d(figure.subplots(1, len(metrics))), metrics, strict=True):
        drawn = lines(report, metric)
        if not drawn:
            continue
        for line in drawn:
            dash = DASHES[line.style // len(PALETTE) % len(DASHES)]
            x = line.x["steps"]
            marker = "o" if len(x) == 1 else None
            label = plain(line.arm)
            axes.plot(
                x,
                line.mean,
                dash,
                color=line.colour,
                label=label,
                marker=marker,
                lw=1.6,
            )
            axes.fill_between(x, line.low, line.high, color=line.colour, alpha=0.18, lw=0)
        sign = unit(metric).sign.strip()
        axes.set(xlabel="steps", ylabel=words(metric) + (f" ({sign})" if sign else ""))
        axes.set_title(seeds_told(drawn), fontsize=9)
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8)
    return figure


def _differences(report: Report) -> Figure | None:
    name = report.measures[0].name
    rows = report.comparisons[report.comparisons["measure"] == name].iloc[::-1].head(40)
    if rows.empty:
        return None
    u = unit(name)
    centre, low, high = (rows[c].to_numpy() * u.factor for c in ("difference", "low", "high"))
    figure = Figure(figsize=(6.5, 1.4 + 0.34 * len(rows)), layout="constrained")
    axes = figure.subplots()
    y = np.arange(len(rows))
    axes.axvline(0, color=PALETTE[6], ls="--", lw=1)
    axes.hlines(y, low, high, color=PALETTE[0], lw=2)
    axes.plot(centre, y, "o", color=PALETTE[0])
    axes.set_yticks(y, [plain(arm) for arm in rows["arm"]])
    axes.set_xlabel(f"difference in {words(name)}{u.points and ' (points)'}, 95 % interval")
    axes.grid(alpha=0.3, axis="x")
    return figure


def _histograms(report: Report) -> Figure | None:
    """The first, a middle and the last step; one row an arm."""
    held = loss_histograms(report)[:MOST_HISTOGRAMS]
    if not held:
        return None
    columns = max(len(_three(h.steps)) for h in held)
    figure = Figure(figsize=(4.2 * columns, 2.6 * len(held)), layout="constrained")
    grid = figure.subplots(len(held), columns, squeeze=False)
    for row, h in zip(grid, held, strict=True):
        for axes, i in zip(row, _three(h.steps), strict=False):
            axes.stairs(h.scored[i], h.edges, fill=True, color=PALETTE[0], label="scored")
            axes.stairs(h.selected[i], h.edges, color=PALETTE[1], lw=1.6, label="selected")
            axes.set_title(plain(f"{h.arm}, step {h.steps[i]}"), fontsize=9)
            axes.set(xlabel="loss", ylabel="examples in a batch")
    figure.axes[0].legend(fontsize=8)
    return figure


def _three(steps: np.ndarray) -> list[int]:
    return sorted({0, len(steps) // 2, len(steps) - 1})


def _parallel(report: Report) -> Figure | None:
    main = report.measures[0].name
    runs = report.runs.dropna(subset=[main])
    if len(runs) < 2:
        return None
    keys = list(report.arms[0].values)
    short = short_names(keys)
    columns = [(short[key], list(runs[key])) for key in keys]
    columns += [("seed", list(runs["seed"]))]
    u = unit(main)
    figure = Figure(figsize=(2 + 1.5 * (len(columns) + 1), 4.2), layout="constrained")
    axes = figure.subplots()
    heights = [_even(values) for _, values in columns]
    result = runs[main].to_numpy()
    span = float(np.ptp(result)) or 1.0
    heights.append((result - result.min()) / span)
    shown = shown_arms(report)
    for i, arm in enumerate(runs["arm"]):
        colour = PALETTE[shown.index(arm) % len(PALETTE)] if arm in shown else PALETTE[6]
        axes.plot([h[i] for h in heights], color=colour, alpha=0.5, lw=1)
    for x, (_, values) in enumerate(columns):
        for text, height in sorted({(show(v), h) for v, h in zip(values, heights[x], strict=True)}):
            axes.annotate(plain(text[:16]), (x, height), fontsize=7, ha="right")
    for height, value in ((0.0, result.min()), (1.0, result.max())):
        axes.annotate(u.value(float(value)), (len(columns), height), fontsize=7)
    names = [plain(name) for name, _ in columns] + [words(main)]
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks([])
    axes.grid(alpha=0.4, axis="x")
    return figure


def _even(values: list[Any]) -> np.ndarray:
    """Heights in [0, 1], evenly spaced over the distinct values."""
    texts = ranked(values)
    return np.array([texts.index(show(v)) for v in values]) / max(1, len(texts) - 1)


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=130)
    return out.getvalue()
