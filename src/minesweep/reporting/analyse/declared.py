"""A study that runs until it is sure: what it declared before its first trial, and its answers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path

import numpy as np
import pandas as pd

from minesweep.errors import UserError
from minesweep.reporting.analyse.answer import UNKNOWN
from minesweep.reporting.analyse.settings import Settings
from minesweep.statistics.sequential import UNSURE, Decision, Rule, decide, e_value, seeds_for
from minesweep.units import unit, words

FILE = "until_sure.json"


@dataclass(frozen=True)
class Design:
    """The looks of a study and what they decide on.

    Attributes:
        metric: The summary's metric that decides.
        goal: ``maximize`` or ``minimize``.
        care: The smallest difference that matters, in points where the metric is a share, else in
            the metric's own unit; None for none.
        seeds: All seeds that may be used, in order.
        looks: Numbers of seeds at which an arm is looked at.
        levels: The two-sided nominal level of each look, for each comparison.
        alpha: Chance of any wrong answer in a study without differences.
        shape: w of Wang and Tsiatis.
        baselines: The arm that each compared arm is compared with.
        finished_before: Runs of the study that were finished when this was declared.
        commands: How to train each arm, by its label.
    """

    metric: str
    goal: str
    care: float | None
    seeds: tuple[int, ...]
    looks: tuple[int, ...]
    levels: tuple[float, ...]
    alpha: float
    shape: float
    baselines: Mapping[str, str]
    finished_before: int = 0
    commands: Mapping[str, str] = field(default_factory=dict)

    @property
    def rule(self) -> Rule:
        """The rule, with ``care`` in the unit in which runs store the metric."""
        care = None if self.care is None else self.care / unit(self.metric).factor
        return Rule(self.looks, self.levels, care)

    @property
    def sign(self) -> float:
        """1 where more is better, -1 where less is."""
        return 1.0 if self.goal == "maximize" else -1.0

    def differences(self, arm: Mapping[int, float], baseline: Mapping[int, float]) -> np.ndarray:
        """Differences in the order of the seeds, up to the first seed that one of both lacks.

        Args:
            arm: The metric by seed; NaN for a seed that failed, which is used up.
            baseline: The baseline's.

        Returns:
            ``[n]``; more is better.
        """
        both = takewhile(lambda seed: seed in arm and seed in baseline, self.seeds)
        return np.array([self.sign * (arm[seed] - baseline[seed]) for seed in both], dtype=float)


def read_design(folder: Path) -> Design | None:
    """What the study in a folder declared; None where it declared nothing.

    Raises:
        UserError: The file is there, but cannot be read.
    """
    path = folder / FILE
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        lists = {key: tuple(tree[key]) for key in ("seeds", "looks", "levels")}
        return Design(**{**tree, **lists})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} cannot be read: {error}; take it from a copy") from None


def declared_settings(settings: Settings, design: Design, metrics: Sequence[str]) -> Settings:
    """The settings with the declared metric, and its twin on test data where it has one."""
    twin = design.metric.replace("val/", "test/", 1)
    more = [twin] if twin != design.metric and twin in metrics else []
    further = [*dict.fromkeys([*settings.further, *more])]
    return replace(settings, metric=design.metric, goal=design.goal, further=further)


def declared_answers(
    runs: pd.DataFrame, comparisons: pd.DataFrame, design: Design, notes: list[str]
) -> None:
    """Puts the answers on the declared metric into ``comparisons``.

    Args:
        runs: One row a run, with ``arm``, ``seed`` and the metric; NaN of a run that failed,
            whose seed is used up.
        comparisons: Rows of the declared metric get the repeated interval, the number of seeds at
            the look that decided, and the columns ``level``, ``estimate`` (median unbiased),
            ``fragile``, ``p_anytime`` and ``answer``.
        design: What the study declared.
        notes: Gets what a reader has to know.
    """
    values = {
        str(arm): dict(zip(group["seed"], group[design.metric], strict=True))
        for arm, group in runs.groupby("arm")
    }
    decisions: dict[str, Decision] = {}
    needed: dict[str, int | None] = {}
    for index, row in comparisons[comparisons["measure"] == design.metric].iterrows():
        arm = str(row["arm"])
        d = design.differences(values[arm], values[str(row["baseline"])])
        decisions[arm] = decision = decide(d, design.rule)
        # What is stored has the metric's own sign.
        low, high = sorted((design.sign * decision.low, design.sign * decision.high))
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
            "without": "yes" if decision.fragile else "",
            "answer": UNKNOWN if math.isnan(low) else decision.kind,
        }
        for column, value in numbers.items():
            comparisons.loc[index, column] = value
        open_to_end = numbers["answer"] == UNSURE and not decision.next_look
        if open_to_end and (care := design.rule.care) is not None:
            needed[arm] = seeds_for(float(np.nanstd(d, ddof=1)), care, design.levels[-1])
    _note(decisions, needed, design, notes)
    if extra := sorted({*runs.dropna(subset=[design.metric])["seed"]} - {*design.seeds}):
        notes.append(
            f"Seeds that were not declared count in no answer: {', '.join(map(str, extra))}. For "
            f"looks that nobody declared, differences.csv has p_anytime of {words(design.metric)}."
        )


def _note(
    decisions: Mapping[str, Decision],
    needed: Mapping[str, int | None],
    design: Design,
    notes: list[str],
) -> None:
    """Tells what was declared, what no table shows of the decisions, and the seeds ``needed``."""
    u, compared = unit(design.metric), len(design.baselines)
    points = "" if design.care is None else f"{design.care:g}{u.points}"
    before, looks = design.finished_before, ", ".join(map(str, design.looks))
    told = f"Looks at {looks} seeds were declared before the first trial."
    if before:
        told = f"Warning: looks at {looks} seeds were declared when {before} runs had finished."
    notes.append(
        f"{told} Intervals are repeated ones: all looks"
        + (f" and all {compared} comparisons" if compared > 1 else "")
        + f" together err in at most {design.alpha:.0%} of studies without a difference."
        + (f" A difference matters from {points}." if points else "")
    )
    listed = {
        "A mean after an early stop lies too far from 0. The median unbiased estimates are": [
            f"{arm} {u.difference(design.sign * d.estimate)}"
            for arm, d in decisions.items()
            if abs(d.estimate - d.mean) * u.factor >= 0.005
        ],
        "Warning: the answer changes if one seed is left out": [
            arm for arm, decision in decisions.items() if decision.fragile
        ],
        f"Seeds for an interval of ± {points}": [f"{a} {n}" for a, n in needed.items() if n],
    }
    notes += [f"{told}: {'; '.join(arms)}." for told, arms in listed.items() if arms]
