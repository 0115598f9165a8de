"""Which arm to train with, where arms were compared at the cost of training without mining."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from minesweep.reporting.analyse.answer import Answer
from minesweep.reporting.analyse.arms import AT_EQUAL_COST, CONTROLS, Arm
from minesweep.reporting.read.study import EQUAL_COST
from minesweep.statistics.sequential import HELPS, UNSURE


def advise(
    answers: Sequence[Answer],
    arms: Sequence[Arm],
    means: Mapping[str, float],
    smaller_wins: bool,
    commands: Mapping[str, str],
) -> str:
    """``Use ohem k=64: python src/train.py ...``, or ``Use none``; empty without equal cost.

    An arm that is compared at equal cost can be used if it helps. So can each control. Of these the
    best mean is taken: a miner that beats its own control can still lose to another control.

    Args:
        answers: Those on the main metric.
        arms: All arms.
        means: Of the main metric, by the arm's label.
        smaller_wins: Whether a smaller value is better.
        commands: How to train each arm, where that is known.
    """
    costly = {arm.label for arm in arms if arm.values.get(EQUAL_COST) is None}
    fair = [answer for answer in answers if answer.arm not in costly]
    if not fair:
        return ""
    baselines = {answer.baseline for answer in answers}
    controls = {
        arm.label for arm in arms if arm.label in baselines or arm.values.get("miner") in CONTROLS
    }
    usable = controls | {answer.arm for answer in fair if answer.kind == HELPS}
    known = {label: means[label] for label in usable if not math.isnan(means.get(label, math.nan))}
    if not known:
        return ""
    best = (min if smaller_wins else max)(known, key=known.__getitem__)
    told = f"Use {best.removesuffix(f' {AT_EQUAL_COST}')}"
    if best in controls:
        told = f"Use none: {best} is best without mining"
        unsure = sum(a.kind == UNSURE for a in fair if a.arm not in controls)
        if unsure:
            told += f" ({unsure} of {len(fair)} comparisons at equal cost are not sure)"
    return f"{told}. To train with it: {commands[best]}" if best in commands else f"{told}."
