"""The report of a study that runs until it is sure: its answers are those of the declared looks."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from minesweep.reporting.analyse.answer import UNKNOWN, Answer
from minesweep.reporting.analyse.arms import Arm
from minesweep.reporting.analyse.design import Design
from minesweep.reporting.analyse.settings import Settings
from minesweep.reporting.read.study import EQUAL_COST
from minesweep.reporting.units import unit, words
from minesweep.statistics.sequential import UNSURE, Decision, decide, e_value, seeds_for


def declared_settings(settings: Settings, design: Design, metrics: Sequence[str]) -> Settings:
    """The settings with the declared metric, and its twin on test data where it has one."""
    twin = design.metric.replace("val/", "test/", 1)
    further = [name for name in (twin,) if name != design.metric and name in metrics]
    return replace(
        settings,
        metric=design.metric,
        goal=design.goal,
        further=[*dict.fromkeys([*settings.further, *further])],
    )


def declared_answers(
    runs: pd.DataFrame,
    comparisons: pd.DataFrame,
    design: Design,
    notes: list[str],
    failed: Mapping[str, Collection[int]],
) -> list[Answer]:
    """The answers on the declared metric, and their numbers in ``comparisons``.

    Args:
        runs: One row a run, with ``arm``, ``seed`` and the metric.
        comparisons: Rows of the declared metric get the repeated interval, the number of seeds at
            the look that decided, and the columns ``level``, ``estimate`` (median unbiased),
            ``fragile`` and ``p_anytime``.
        design: What the study declared.
        notes: Gets what a reader has to know.
        failed: The seeds that failed, by arm: they are used up.
    """
    answers, decisions = [], {}
    for index in comparisons.index[comparisons["measure"] == design.metric]:
        arm, baseline = (str(comparisons.loc[index, key]) for key in ("arm", "baseline"))
        d = _differences(runs, arm, baseline, design, failed)
        decisions[arm] = decision = decide(design.sign * d, design.rule)
        low, high = decision.low, decision.high
        if design.sign < 0:
            low, high = -high, -low
        # What is stored has the metric's own sign; `decide` wants more to be better.
        numbers = {
            "n": decision.n,
            "difference": design.sign * decision.mean,
            "low": low,
            "high": high,
            "p_holm": math.nan,
            "level": decision.level,
            "estimate": design.sign * decision.estimate,
            "fragile": decision.fragile,
            "p_anytime": 1 / e_value(d),
        }
        for column, value in numbers.items():
            comparisons.loc[index, column] = value
        kind = UNKNOWN if decision.kind == UNSURE and math.isnan(low) else decision.kind
        least = math.nan if design.rule.care is None else design.rule.care
        answers.append(
            Answer(arm, baseline, kind, numbers["difference"], low, high, decision.n, least)
        )
    _note(answers, decisions, runs, design, notes, failed)
    return answers


def failed_seeds(failed: pd.DataFrame, arms: Sequence[Arm]) -> dict[str, set[int]]:
    """The seeds that failed, by the label of their arm.

    Args:
        failed: One row a failed run: ``seed`` and the arms' keys.
        arms: The study's arms.
    """
    labels = {_setting(arm.values, list(arm.values)): arm.label for arm in arms}
    found: dict[str, set[int]] = {arm.label: set() for arm in arms}
    for row in failed.to_dict("records"):
        label = labels.get(_setting(row, list(arms[0].values)))
        if label is not None:
            found[label].add(row["seed"])
    return found


def _setting(values: Mapping[Any, Any], keys: Sequence[str]) -> tuple[Any, ...]:
    """The values of ``keys``; of a number of steps at equal cost, whether there is one."""
    return tuple(
        values[key] is not None if key == EQUAL_COST else repr(values[key]) for key in keys
    )


def _differences(
    runs: pd.DataFrame,
    arm: str,
    baseline: str,
    design: Design,
    failed: Mapping[str, Collection[int]],
) -> np.ndarray:
    """Differences in the order of the declared seeds, up to the first that is still to come.

    A seed that failed is NaN.
    """
    values = [
        runs[runs["arm"] == label].set_index("seed")[design.metric] for label in (arm, baseline)
    ]
    settled = [
        {*of.index, *failed.get(label, ())}
        for label, of in zip((arm, baseline), values, strict=True)
    ]
    count = next(
        (i for i, seed in enumerate(design.seeds) if any(seed not in held for held in settled)),
        len(design.seeds),
    )
    seeds = list(design.seeds[:count])
    return (values[0].reindex(seeds) - values[1].reindex(seeds)).to_numpy(dtype=float)


def _note(
    answers: Sequence[Answer],
    decisions: dict[str, Decision],
    runs: pd.DataFrame,
    design: Design,
    notes: list[str],
    failed: Mapping[str, Collection[int]],
) -> None:
    u = unit(design.metric)
    looks = ", ".join(map(str, design.looks))
    care = "" if design.care is None else f" A difference matters from {design.care:g}{u.points}."
    notes.append(
        f"Looks at {looks} seeds were declared before the first trial. Intervals are repeated "
        f"ones: all looks and all {len(design.baselines)} comparisons together err in at most "
        f"{design.alpha:.0%} of studies without a difference.{care}"
    )
    if design.finished_before:
        notes.append(
            f"Warning: {design.finished_before} runs were finished before the looks were declared."
        )
    biased = [
        f"{arm} {u.difference(design.sign * d.estimate)}"
        for arm, d in decisions.items()
        if abs(d.estimate - d.mean) * u.factor >= 0.005
    ]
    if biased:
        notes.append(
            "A mean after an early stop lies too far from 0. The median unbiased estimates are: "
            f"{'; '.join(biased)}."
        )
    if fragile := [arm for arm, decision in decisions.items() if decision.fragile]:
        notes.append(f"Warning: the answer changes if one seed is left out: {'; '.join(fragile)}.")
    _note_further_seeds(answers, decisions, runs, design, notes, failed)


def _note_further_seeds(
    answers: Sequence[Answer],
    decisions: dict[str, Decision],
    runs: pd.DataFrame,
    design: Design,
    notes: list[str],
    failed: Mapping[str, Collection[int]],
) -> None:
    """How many seeds would tell, and which were added without having been declared."""
    told = []
    for answer in answers:
        if answer.kind != UNSURE or decisions[answer.arm].next_look or design.rule.care is None:
            continue
        x = _differences(runs, answer.arm, answer.baseline, design, failed)
        spread = float(np.nanstd(x, ddof=1))
        if count := seeds_for(spread, design.rule.care, design.levels[-1]):
            told.append(f"{answer.arm} {count}")
    if told:
        points = f"{design.care:g}{unit(design.metric).points}"
        notes.append(f"Seeds for an interval of ± {points}: {'; '.join(told)}.")
    extra = sorted({seed for seed in runs["seed"] if seed not in design.seeds})
    if extra:
        listed = ", ".join(map(str, extra))
        notes.append(
            f"Seeds that were not declared count in no answer: {listed}. For looks that nobody "
            f"declared, differences.csv has p_anytime of {words(design.metric)}."
        )
