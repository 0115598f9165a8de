"""The losses of scored and of selected examples, averaged over the seeds of an arm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minesweep.pages import clean
from minesweep.reporting.analyse.arms import CONTROLS
from minesweep.reporting.analyse.report import Report
from minesweep.reporting.show.charts import short

SCORED, SELECTED = "train/loss_batch_histogram", "train/loss_selected_histogram"
MOST_STEPS = 40
BINS = 48


def loss_histograms(
    report: Report, shown: Sequence[str]
) -> dict[str, tuple[int, list[dict[str, Any]]]]:
    """Of each shown arm whose runs kept both histograms: how many seeds, and a row a step.

    Miners come before controls. A row has the mean counts of ``scored`` and ``selected``, in bins
    of ``width`` from ``low`` on that are the same at every step; the last has all losses above.
    """
    controls = {arm.label: arm.values.get("miner") in CONTROLS for arm in report.arms}
    found = {}
    for arm in sorted(shown, key=lambda label: controls[label]):
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


def thin(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` positions, evenly, both ends kept."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))})
