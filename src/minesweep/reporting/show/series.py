"""What the figures draw, worked out once for the page (Plotly) and for paper (Matplotlib)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from minesweep.pages import PALETTE
from minesweep.reporting.analyse.arms import CONTROLS, show
from minesweep.reporting.analyse.statistics import band
from minesweep.reporting.analyse.views import Curve
from minesweep.reporting.units import unit, words

if TYPE_CHECKING:
    from minesweep.reporting.analyse.report import Report

SCORED, SELECTED = "train/loss_batch_histogram", "train/loss_selected_histogram"
MOST_ARMS = 12
MOST_POINTS = 200
MOST_STEPS = 40
BINS = 48


@dataclass(frozen=True)
class Line:
    """An arm's mean curve and its band.

    Attributes:
        arm: The arm's label.
        style: Its number among the shown arms: colour and dash follow from it.
        x: ``[m]`` positions by axis: ``steps``, ``samples backpropagated``, ``benchmark seconds``.
        mean: ``[m]``.
        low: ``[m]`` lower end of the 95 % interval; NaN for one seed.
        high: ``[m]`` upper end.
        seeds: Number of seeds.
    """

    arm: str
    style: int
    x: dict[str, np.ndarray]
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    seeds: int

    @property
    def colour(self) -> str:
        return PALETTE[self.style % len(PALETTE)]


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


def shown_arms(report: Report) -> list[str]:
    """The arms that figures show: all, or where they are many, baselines and the best."""
    labels = [arm.label for arm in report.arms]
    if len(labels) <= MOST_ARMS:
        return labels
    main = f"{report.measures[0].name} mean"
    baselines = list(dict.fromkeys(report.baselines.values()))[: MOST_ARMS // 2]
    ranked = report.table[main].sort_values(ascending=report.smaller_wins).index
    best = [label for label in ranked if label not in baselines]
    chosen = {*baselines, *best[: MOST_ARMS - len(baselines)]}
    return [label for label in labels if label in chosen]


def curve_metrics(report: Report) -> list[str]:
    """The curves that are drawn, of those that the journals hold: accuracies, then losses."""
    held = set(report.study.curves["metric"].cat.categories)
    wanted = [report.settings.validation, "train/accuracy_running", "val/loss"]
    wanted += ["train/loss_batch", "train/loss_selected"]
    wanted += [view.metric for view in report.views if isinstance(view, Curve)]
    return [metric for metric in dict.fromkeys(wanted) if metric in held]


def lines(report: Report, metric: str) -> list[Line]:
    """The mean curve of each shown arm, in percent where the metric is a share."""
    arm_of = dict(zip(report.runs["run"], report.runs["arm"], strict=True))
    bands = band(report.study.curves, arm_of, metric)
    spent = band(report.study.curves, arm_of, report.settings.budget)
    factor = unit(metric).factor
    found = []
    for style, arm in enumerate(shown_arms(report)):
        b = bands[bands["arm"] == arm].sort_values("step")
        if b.empty:
            continue
        b = b.iloc[_thin(len(b), MOST_POINTS)]
        steps = b["step"].to_numpy(dtype=float)
        found.append(
            Line(
                arm=arm,
                style=style,
                x=_axes(report, arm, steps, spent[spent["arm"] == arm].sort_values("step")),
                mean=b["mean"].to_numpy() * factor,
                low=b["low"].to_numpy() * factor,
                high=b["high"].to_numpy() * factor,
                seeds=int(b["n"].max()),
            )
        )
    return found


def _axes(report: Report, arm: str, steps: np.ndarray, spent: pd.DataFrame) -> dict:
    axes = {"steps": steps}
    if len(spent):
        known = np.concatenate([[0.0], spent["step"].to_numpy(dtype=float)])
        used = np.concatenate([[0.0], spent["mean"].to_numpy()])
        axes[words(report.settings.budget)] = np.interp(steps, known, used)
    if report.step_seconds:
        axes["benchmark seconds"] = steps * report.step_seconds[arm]
    return axes


def seeds_told(found: list[Line]) -> str:
    """``mean of 5 seeds, band: 95 % interval``."""
    least, most = min(f.seeds for f in found), max(f.seeds for f in found)
    if most == 1:
        return "1 seed, no band"
    count = f"{most} seeds" if least == most else f"{least} to {most} seeds"
    return f"mean of {count}, band: 95 % t-interval"


def loss_histograms(report: Report) -> list[LossHistogram]:
    """The loss histograms of each shown arm whose runs kept both; miners before controls."""
    controls = {arm.label: arm.values.get("miner") in CONTROLS for arm in report.arms}
    found = []
    for arm in sorted(shown_arms(report), key=lambda label: controls[label]):
        names = report.runs.loc[report.runs["arm"] == arm, "run"]
        held = [report.study.histograms.get(name, {}) for name in names]
        pairs = [h for h in held if SCORED in h and SELECTED in h]
        shared = [set(p[m].steps.tolist()) for p in pairs for m in (SCORED, SELECTED)]
        steps = sorted(set.intersection(*shared)) if shared else []
        if steps:
            steps = [steps[i] for i in _thin(len(steps), MOST_STEPS)]
            found.append(_pool(arm, steps, pairs))
    return found


def _pool(arm: str, steps: list[int], pairs: list[dict]) -> LossHistogram:
    at = [[np.searchsorted(p[SCORED].steps, s) for s in steps] for p in pairs]
    low = min(float(p[SCORED].low[i].min()) for p, i in zip(pairs, at, strict=True))
    high = max(
        _quantile(p[SCORED].counts[j], p[SCORED].low[j], p[SCORED].high[j], 0.999)
        for p, i in zip(pairs, at, strict=True)
        for j in i
    )
    edges = np.linspace(low, high if high > low else low + 1e-6, BINS + 1)
    counts = {
        metric: np.mean(
            [
                [
                    rebin(p[metric].counts[j], p[metric].low[j], p[metric].high[j], edges)
                    for j in np.searchsorted(p[metric].steps, steps)
                ]
                for p in pairs
            ],
            axis=0,
        )
        for metric in (SCORED, SELECTED)
    }
    return LossHistogram(arm, edges, np.array(steps), counts[SCORED], counts[SELECTED], len(pairs))


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
    if not total[-1]:
        return float(high)
    position = int(np.searchsorted(total, share * total[-1]))
    return float(low + (high - low) * (position + 1) / len(counts))


def ranked(values: Sequence[Any]) -> list[str]:
    """The distinct values as shown, numbers by size, then words."""
    texts = {show(value): value for value in values}

    def order(text: str) -> tuple[int, float, str]:
        value = texts[text]
        return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, text)

    return sorted(texts, key=order)


def _thin(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` positions, evenly, both ends kept."""
    if count <= most:
        return list(range(count))
    return sorted({round(i) for i in np.linspace(0, count - 1, most)})
