"""The losses of scored and of selected examples, over an arm's seeds, and their figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from minesweep.pages import clean, thin
from minesweep.reporting.analyse.arms import controls
from minesweep.reporting.analyse.report import Report
from minesweep.reporting.show import charts
from minesweep.reporting.show.charts import HUES, Figure, short

SCORED, SELECTED = "train/loss_batch_histogram", "train/loss_selected_histogram"
MOST_STEPS, MOST_ON_PAPER = 40, 4
BINS = 48


def loss_histograms(
    report: Report, shown: Sequence[str]
) -> dict[str, tuple[int, list[dict[str, Any]]]]:
    """Of each shown arm whose runs kept both histograms: how many seeds, and a row a step.

    Miners come before controls. A row has the mean counts of ``scored`` and ``selected``, in bins
    of ``width`` from ``low`` on that are the same at every step; the last has all losses above.
    """
    last, found = controls(report.arms), {}
    for arm in sorted(shown, key=lambda label: label in last):
        names = report.runs.loc[report.runs["arm"] == arm, "run"]
        held = [report.study.histograms.get(name, {}) for name in names]
        pairs = [(h[SCORED], h[SELECTED]) for h in held if SCORED in h and SELECTED in h]
        shared = [set(part) for pair in pairs for part in pair]
        if not (steps := sorted(set.intersection(*shared)) if shared else []):
            continue
        steps = [steps[i] for i in thin(len(steps), MOST_STEPS)]
        scored = [part[step] for part, _ in pairs for step in steps]
        low = min(part[1] for part in scored)
        high = max(_quantile(*part, 0.999) for part in scored)
        edges = np.linspace(low, high if high > low else low + 1e-6, BINS + 1)
        rows = []
        for place, step in enumerate(steps):
            row = {"arm": clean(arm), "place": place, "last": len(steps) - 1}
            row |= {"told": f"step {step:,}", "low": edges[0], "width": edges[1] - edges[0]}
            for i, name in enumerate(("scored", "selected")):
                counts = [rebin(*pair[i][step], edges) for pair in pairs]
                row[name] = short(np.mean(counts, axis=0))
            rows.append(row)
        found[clean(arm)] = len(pairs), rows
    return found


def figure(report: Report, shown: Sequence[str]) -> Figure | None:
    """The losses of the scored batch and of the selected part, with the arm and step to choose."""
    held = loss_histograms(report, shown)
    if not held:
        return None
    seeds, parts = zip(*held.values(), strict=True)
    arms = alt.binding_select(options=list(held), name="arm ")
    last = max(1, *(len(rows) - 1 for rows in parts))
    times = alt.binding_range(min=0, max=last, step=1, name="time ")
    arm = alt.param(name="arm", value=next(iter(held)), bind=arms)
    place = alt.param(name="place", value=0, bind=times)
    place_of = "datum.arm == arm && datum.place == min(place, datum.last)"
    rows = charts.chart([row for rows in parts for row in rows])
    chart = _bars(rows.transform_filter(place_of)).add_params(arm, place)
    caption = f"mean count over {charts.counted(seeds)}; the last bin holds all losses above"
    return Figure("losses", "Losses: scored and selected", caption, "losses", chart)


def _bars(base: alt.Chart) -> Any:
    """Counts by loss. The selected part stands in front of what was scored."""
    parts: list[Any] = ["scored", "selected"]
    bars = (
        base.transform_calculate(bin="sequence(length(datum.scored))")
        .transform_flatten(["bin", "scored", "selected"])
        .transform_calculate(
            x="datum.low + datum.width * datum.bin", x2="datum.low + datum.width * (datum.bin + 1)"
        )
        .transform_fold(parts, as_=["part", "count"])
        .mark_bar(opacity=0.75)
        .encode(
            x=alt.X("x:Q", title="loss", bin="binned", axis=alt.Axis(tickCount=8)),
            x2="x2:Q",
            y=alt.Y("count:Q", title="examples in a batch", stack=None),
            color=charts.hue("part", parts, [HUES[5], HUES[1]], charts.legend("square")),
        )
    )
    told = base.mark_text(align="right", baseline="top", fontSize=12, dy=4, dx=-4).encode(
        x=alt.value("width"), y=alt.value(0), text="told:N"
    )
    return bars + told


def panels(report: Report, shown: Sequence[str]) -> Any:
    """The same on paper: three steps of an arm in a row; None without histograms."""
    drawn = []
    for _, rows in [*loss_histograms(report, shown).values()][:MOST_ON_PAPER]:
        times = sorted({0, len(rows) // 2, len(rows) - 1})
        bars = [_bars(charts.chart([rows[place]])) for place in times]
        sized = [bar.properties(width=260, height=150, title=rows[0]["arm"]) for bar in bars]
        drawn.append(alt.hconcat(*sized))
    return alt.vconcat(*drawn) if drawn else None


def rebin(counts: np.ndarray, low: float, high: float, edges: np.ndarray) -> np.ndarray:
    """Spreads a histogram over other bins, as if each bin's counts lay evenly in it.

    What lies beyond ``edges`` counts in the first and the last bin, so that the sum is kept.
    """
    own = np.linspace(low, high if high > low else low + 1e-9, len(counts) + 1)
    total = np.concatenate([[0.0], np.cumsum(counts, dtype=float)])
    below = np.interp(edges, own, total)
    below[0], below[-1] = 0.0, total[-1]
    return np.diff(below)


def _quantile(counts: np.ndarray, low: float, high: float, share: float) -> float:
    total = np.cumsum(counts, dtype=float)
    position = int(np.searchsorted(total, share * total[-1])) + 1 if total[-1] else len(counts)
    return float(low + (high - low) * position / len(counts))
