"""The losses of scored and of selected examples, averaged over the seeds of an arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from minesweep.reporting.analyse.arms import CONTROLS
from minesweep.reporting.analyse.report import Report
from minesweep.reporting.read.study import Histogram

SCORED, SELECTED = "train/loss_batch_histogram", "train/loss_selected_histogram"
Pair = Mapping[str, Mapping[int, Histogram]]
"""The two histograms of a run, by step."""
MOST_STEPS = 40
BINS = 48


@dataclass(frozen=True)
class LossHistogram:
    """Losses of the scored batch and of the selected part of it, mean counts over an arm's seeds.

    Attributes:
        arm: The arm's label.
        edges: ``[bins + 1]``, the same at every step; what lies above counts in the last bin.
        steps: ``[m]``.
        scored: ``[m, bins]``.
        selected: ``[m, bins]``.
        seeds: Number of seeds.
    """

    arm: str
    edges: np.ndarray
    steps: np.ndarray
    scored: np.ndarray
    selected: np.ndarray
    seeds: int


def loss_histograms(report: Report, shown: Sequence[str]) -> list[LossHistogram]:
    """The loss histograms of each shown arm whose runs kept both; miners before controls."""
    controls = {arm.label: arm.values.get("miner") in CONTROLS for arm in report.arms}
    found = []
    for arm in sorted(shown, key=lambda label: controls[label]):
        names = report.runs.loc[report.runs["arm"] == arm, "run"]
        held = [report.study.histograms.get(name, {}) for name in names]
        pairs = [h for h in held if SCORED in h and SELECTED in h]
        shared = [set(pair[metric]) for pair in pairs for metric in (SCORED, SELECTED)]
        if steps := sorted(set.intersection(*shared)) if shared else []:
            found.append(_pool(arm, [steps[i] for i in thin(len(steps), MOST_STEPS)], pairs))
    return found


def _pool(
    arm: str, steps: list[int], pairs: list[dict[str, dict[int, Histogram]]]
) -> LossHistogram:
    scored, selected = (
        [[pair[metric][step] for step in steps] for pair in pairs] for metric in (SCORED, SELECTED)
    )
    low = min(part[1] for run in scored for part in run)
    high = max(_quantile(*part, 0.999) for run in scored for part in run)
    edges = np.linspace(low, high if high > low else low + 1e-6, BINS + 1)
    means = [
        np.mean([[rebin(*part, edges) for part in run] for run in runs], axis=0)
        for runs in (scored, selected)
    ]
    return LossHistogram(arm, edges, np.array(steps), means[0], means[1], len(pairs))


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
