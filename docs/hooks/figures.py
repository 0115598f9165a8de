"""The studies' figures: each arm's difference to its baseline, with its interval.

They are SVG whose lines and letters take the colour of the text around them, so that one figure
serves a light and a dark page.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

COLOURS = {
    "helps": "#2a9d8f",
    "costs": "#d1495b",
    "not sure": "#d98e04",
}
_OTHER = "#8a8f98"
"""Of the answers that are neither."""
_INK = "#010203"
"""Stands for the colour of the text around the figure."""


@dataclass(frozen=True)
class Difference:
    """One comparison of a study.

    Attributes:
        label: The arm.
        difference: To its baseline; accuracies as shares of 1.
        low: Lower end of the 95 % interval.
        high: Upper end of it.
        answer: Such as ``helps`` or ``not sure``.
        measure: What is compared.
        baseline: The arm that it is compared with.
        fragile: Whether the answer changes if one seed is left out.
    """

    label: str
    difference: float
    low: float
    high: float
    answer: str
    measure: str
    baseline: str = ""
    fragile: bool = False


def read(results: Path, study: str) -> list[Difference]:
    """The comparisons of a stored study by the measure that decides it."""
    with (results / f"{study}_differences.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [
        Difference(
            row["arm"],
            *(float(row[name]) for name in ("difference", "low", "high")),
            row["answer"],
            row["measure"],
            row["baseline"],
            bool(row.get("without")),
        )
        for row in rows
        if row["measure"] == rows[0]["measure"] and row["low"]
    ]


def figure(results: Path, study: str) -> str:
    """A study's figure as HTML."""
    rows = read(results, study)
    measure = rows[0].measure.replace("_", " ").replace("/", " ")
    label = f"Difference to the baseline in {measure}, points, with its 95 % interval"
    return as_html(draw(rows, label), label)


def as_html(svg: str, label: str) -> str:
    """A figure for a page; ``label`` is read to those who cannot see it."""
    return f'<figure class="study" role="img" aria-label="{escape(label)}">{svg}</figure>'


def draw(rows: list[Difference], label: str) -> str:
    """A line for each comparison: its name, and below it a dot and its interval as a bar."""
    # Letters stay letters, and two drawings of the same numbers are the same text.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "minesweep"}):
        # As narrow as a telephone, so that letters can be read there.
        figure = Figure(figsize=(4.6, 0.6 + 0.3 * len(rows)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0, color=_INK, lw=0.8, zorder=1)
        beside = axes.get_yaxis_transform()
        for place, row in enumerate(reversed(rows)):
            colour = COLOURS.get(row.answer, _OTHER)
            axes.plot([100 * row.low, 100 * row.high], [place, place], color=colour, lw=2.5)
            axes.plot(100 * row.difference, place, "o", color=colour, ms=5)
            axes.text(
                0, place + 0.28, row.label, color=_INK, fontsize=7, va="bottom", transform=beside
            )
        axes.set_yticks([])
        axes.set_ylim(-0.5, len(rows))
        axes.set_xlabel(label, fontsize=8, color=_INK)
        axes.tick_params(colors=_INK, labelsize=8, length=3)
        axes.grid(axis="x", color=_INK, alpha=0.12)
        for side, spine in axes.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color(_INK)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    # The style would hold for the whole page around the figure.
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;]*?(?=[;\"])", "font-family: system-ui, sans-serif", svg)
    return svg.replace(_INK, "currentColor")
