"""The views on the page (Plotly) and on paper (Matplotlib)."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure as Paper

from minesweep.pages import PALETTE
from minesweep.reporting.analyse.views import Surface, Tradeoff, axis
from minesweep.reporting.show.figures import Figure, layout, plain, short
from minesweep.reporting.show.plots import plain as paper_text
from minesweep.reporting.units import unit, words

SCALE = "Cividis"
"""Blue to yellow, even in lightness, which colour-blind people read alike (Nunez et al. 2018)."""
MARKS = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star")
PAPER_MARKS = ("o", "s", "D", "P", "^", "X", "*")
SPAN = 30.0
"""From this ratio of the largest to the smallest on, an axis is logarithmic."""


def surface_figures(surface: Surface, position: int) -> list[Figure]:
    """One heat map a tile, all on one scale of colour; the best y of each x is marked."""
    u = unit(surface.metric)
    low, high = _ends(surface)
    x_name, columns = surface.x
    y_name, rows = surface.y
    figures = []
    for number, tile in enumerate(surface.tiles):
        told = [
            [
                f"{u.value(m)} ± {u.value(h)}, {n} seeds"
                if np.isfinite(h)
                else f"{u.value(m)}, {n} seed"
                for m, h, n in zip(*cells, strict=True)
            ]
            for cells in zip(tile.mean, tile.half, tile.seeds, strict=True)
        ]
        plot = go.Figure(
            go.Heatmap(
                x=[plain(v) for v in columns],
                y=[plain(v) for v in rows],
                z=[short(row * u.factor) for row in tile.mean],
                customdata=told,
                hovertemplate=f"{plain(x_name)}=%{{x}}, {plain(y_name)}=%{{y}}<br>%{{customdata}}"
                "<extra></extra>",
                zmin=low * u.factor,
                zmax=high * u.factor,
                colorscale=SCALE,
                colorbar={"title": {"text": u.sign.strip()}, "thickness": 12},
                xgap=2,
                ygap=2,
            )
        )
        cells = [(r, c) for r, c in np.ndindex(tile.mean.shape) if np.isfinite(tile.mean[r, c])]
        plot.add_scatter(
            x=[plain(columns[c]) for _, c in cells],
            y=[plain(rows[r]) for r, _ in cells],
            text=[u.value(float(tile.mean[cell]), sign=False) for cell in cells],
            mode="text",
            textfont={"color": [_ink(float(tile.mean[cell]), low, high) for cell in cells]},
            hoverinfo="skip",
            showlegend=False,
        )
        for outlined, width in ((_best(tile.best), 4), (np.argwhere(tile.close), 2)):
            for row, column in outlined:
                plot.add_shape(
                    type="rect",
                    x0=column - 0.47,
                    x1=column + 0.47,
                    y0=row - 0.46,
                    y1=row + 0.46,
                    line={
                        "color": PALETTE[1],
                        "width": width,
                        "dash": "solid" if width == 4 else "dot",
                    },
                )
        plot.update_layout(
            xaxis={"title": plain(x_name), "type": "category"},
            yaxis={"title": plain(y_name), "type": "category", "automargin": True},
            height=120 + 46 * len(rows),
            **(layout() | {"margin": {"l": 60, "r": 15, "t": 15, "b": 50}}),
        )
        figures.append(
            Figure(
                f"surface-{position}-{number}",
                surface.title,
                _surface_caption(surface),
                "tiles",
                plot,
                choice=tile.label,
                group=f"surface-{position}",
            )
        )
    return figures


def _best(best: list[int | None]) -> list[tuple[int, int]]:
    return [(row, column) for column, row in enumerate(best) if row is not None]


def _ends(surface: Surface) -> tuple[float, float]:
    cells = np.concatenate([tile.mean.ravel() for tile in surface.tiles])
    return float(np.nanmin(cells)), float(np.nanmax(cells))


def _surface_caption(surface: Surface) -> str:
    counts = np.concatenate([tile.seeds[tile.seeds > 0] for tile in surface.tiles])
    least, most = int(counts.min()), int(counts.max())
    seeds = f"{most}" if least == most else f"{least} to {most}"
    return (
        f"mean over {seeds} seed{'s' if most > 1 else ''}; framed: the best {surface.y[0]} of each "
        f"{surface.x[0]}; dotted: those whose 95 % t-interval reaches that best mean"
    )


def _ink(cell: float, low: float, high: float) -> str:
    """What can be read on a cell's colour."""
    return "black" if cell > low + 0.5 * (high - low) else "white"


def surface_paper(surface: Surface) -> Paper:
    """The tiles side by side."""
    u = unit(surface.metric)
    low, high = _ends(surface)
    (x_name, columns), (y_name, rows) = surface.x, surface.y
    count = len(surface.tiles)
    across = min(count, 4)
    down = -(-count // across)
    size = (1.2 + across * (0.9 + 0.75 * len(columns)), down * (1.2 + 0.5 * len(rows)))
    figure = Paper(figsize=size, layout="constrained")
    grid = figure.subplots(down, across, squeeze=False, sharey=True)
    for spare in grid.flat[count:]:
        spare.set_axis_off()
    for axes, tile in zip(grid.flat, surface.tiles, strict=False):
        image = axes.imshow(
            tile.mean * u.factor,
            origin="lower",
            aspect="auto",
            cmap="cividis",
            vmin=low * u.factor,
            vmax=high * u.factor,
        )
        for row, column in np.ndindex(tile.mean.shape):
            cell = float(tile.mean[row, column])
            if np.isfinite(cell):
                text, ink = u.value(cell, sign=False), _ink(cell, low, high)
                axes.text(column, row, text, ha="center", va="center", fontsize=7, color=ink)
        for outlined, dash in ((_best(tile.best), "-"), (np.argwhere(tile.close), ":")):
            for row, column in outlined:
                corner = (column - 0.47, row - 0.46)
                axes.add_patch(_frame(corner, dash))
        axes.set_xticks(range(len(columns)), [paper_text(v) for v in columns])
        axes.set_yticks(range(len(rows)), [paper_text(v) for v in rows])
        axes.set(xlabel=paper_text(x_name))
        axes.set_title(paper_text(tile.label), fontsize=9)
    for row in grid:
        row[0].set_ylabel(paper_text(y_name))
    sign = f" ({u.sign.strip()})" if u.sign else ""
    figure.colorbar(image, ax=grid, label=f"{words(surface.metric)}{sign}", shrink=0.9)
    return figure


def _frame(corner: tuple[float, float], dash: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, 0.94, 0.92, fill=False, ec=PALETTE[1], lw=2, ls=dash)


def tradeoff_figure(tradeoff: Tradeoff, position: int) -> Figure:
    """One point an arm, with both intervals."""
    points = tradeoff.points
    ux, uy = unit(tradeoff.x), unit(tradeoff.y)
    plot = go.Figure()
    for style, (group, part) in enumerate(points.groupby("group", sort=False)):
        colour = PALETTE[style % len(PALETTE)]
        plot.add_scatter(
            x=short(part["x"] * ux.factor),
            y=short(part["y"] * uy.factor),
            error_x={"array": short(part["x_half"] * ux.factor), "thickness": 1, "color": colour},
            error_y={"array": short(part["y_half"] * uy.factor), "thickness": 1, "color": colour},
            mode="markers",
            marker={"size": 11, "color": colour, "symbol": MARKS[style % len(MARKS)]},
            name=plain(group or "arms"),
            text=[plain(arm) for arm in part["arm"]],
            hovertemplate="%{text}<br>%{x}, %{y}<extra></extra>",
        )
    plot.update_layout(
        xaxis={"title": _axis_title(tradeoff.x), "type": _scale(points["x"])},
        yaxis={"title": _axis_title(tradeoff.y), "type": _scale(points["y"])},
        height=440,
        showlegend=points["group"].nunique() > 1,
        **layout(),
    )
    caption = _tradeoff_caption(tradeoff)
    return Figure(f"tradeoff-{position}", tradeoff.title, caption, "plain", plot)


def _tradeoff_caption(tradeoff: Tradeoff) -> str:
    least, most = int(tradeoff.points["seeds"].min()), int(tradeoff.points["seeds"].max())
    seeds = f"{most}" if least == most else f"{least} to {most}"
    told = f"one point an arm, mean of {seeds} seed{'s' if most > 1 else ''}, bars: 95 % t-interval"
    if tradeoff.clock:
        told += "; clocks of the runs themselves, which other work on the machine may have slowed"
    return told


def _axis_title(name: str) -> str:
    sign = unit(name).sign.strip()
    return plain(axis(name) + (f" ({sign})" if sign else ""))


def _scale(values: Any) -> str:
    positive = values.min() > 0
    return "log" if positive and values.max() / values.min() >= SPAN else "linear"


def tradeoff_paper(tradeoff: Tradeoff) -> Paper:
    """As :func:`tradeoff_figure`."""
    points = tradeoff.points
    ux, uy = unit(tradeoff.x), unit(tradeoff.y)
    figure = Paper(figsize=(6.5, 4.4), layout="constrained")
    axes = figure.subplots()
    for style, (group, part) in enumerate(points.groupby("group", sort=False)):
        axes.errorbar(
            part["x"] * ux.factor,
            part["y"] * uy.factor,
            xerr=part["x_half"].fillna(0) * ux.factor,
            yerr=part["y_half"].fillna(0) * uy.factor,
            fmt=PAPER_MARKS[style % len(PAPER_MARKS)],
            color=PALETTE[style % len(PALETTE)],
            lw=1,
            label=paper_text(group),
        )
    axes.set_xscale(_scale(points["x"]))
    axes.set_yscale(_scale(points["y"]))
    axes.set(xlabel=paper_text(_axis_title(tradeoff.x)), ylabel=paper_text(_axis_title(tradeoff.y)))
    axes.grid(alpha=0.3)
    if points["group"].nunique() > 1:
        axes.legend(fontsize=8)
    return figure
