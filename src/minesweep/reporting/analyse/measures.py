"""The columns that are averaged and compared, and the curves read off at an equal budget."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from minesweep.reporting.analyse.arms import Arm
from minesweep.reporting.analyse.settings import Settings
from minesweep.reporting.analyse.statistics import at_equal_budget
from minesweep.reporting.read.files import UnreadableError, number, read_json
from minesweep.reporting.read.study import Study
from minesweep.reporting.units import words

FURTHER = ("train/accuracy_running",)
"""Metrics that stand in the table beside the main one and its ``_best``, where runs have them
(the running training accuracy is the metric of the OHEM study that the nk sweep repeats)."""


@dataclass(frozen=True)
class Measure:
    """A column of the runs that is averaged and compared.

    Attributes:
        name: The column.
        title: Its heading.
        where: How a sentence says where it was read; empty for the end of the runs.
    """

    name: str
    title: str
    where: str = ""


def read_step_seconds(
    folder: Path, arms: list[Arm], runs: pd.DataFrame, notes: list[str]
) -> dict[str, float]:
    """Seconds per step by arm, from ``step_seconds.json``: keys are arm labels or
    ``<miner>-n<n>-k<k>``. Empty, with a note, unless every arm is there."""
    path = folder / "step_seconds.json"
    if not path.exists():
        return {}
    try:
        given = read_json(path)
    except UnreadableError as error:
        notes.append(f"Equal seconds are left out: {error}.")
        return {}
    known = {str(key): x for key, v in given.items() if (x := number(v)) is not None and x > 0}
    first = runs.drop_duplicates("arm").set_index("arm")
    # The short key says nothing of model or dataset.
    enough = not any(key.split(".")[0] in ("model", "dataset") for key in arms[0].values)
    found, missing = {}, []
    for arm in arms:
        row = first.loc[arm.label]
        short = f"{row['miner']}-n{row['n']}-k{row['k']}"
        seconds = known.get(arm.label, known.get(short) if enough else None)
        if seconds is None:
            missing.append(f"{arm.label} ({short})" if enough else arm.label)
        else:
            found[arm.label] = seconds
    if missing:
        notes.append(
            f"Equal seconds are left out: step_seconds.json lacks {'; '.join(missing[:8])}."
        )
        return {}
    return found


def make_measures(
    study: Study,
    settings: Settings,
    runs: pd.DataFrame,
    step_seconds: dict[str, float],
    notes: list[str],
) -> list[Measure]:
    """The columns to compare; adds those read off the curves to ``runs``."""
    measures = [Measure(settings.metric, words(settings.metric))]
    for name in (f"{settings.metric}_best", *settings.further, *FURTHER):
        if name in study.metrics and runs[name].notna().any() and name != settings.metric:
            measures.append(Measure(name, words(name)))
    if missing := int(runs[settings.metric].isna().sum()):
        notes.append(f"{missing} finished runs have no {settings.metric} and are left out of it.")
    kept = study.curves[study.curves["run"].isin(runs["run"])]
    measures += _curve_measures(kept, settings, runs, notes)
    if not settings.at_budget:
        return measures
    spent = kept.loc[kept["metric"] == settings.budget, ["run", "step", "value"]]
    budgets = {words(settings.budget): spent.rename(columns={"value": "budget"})}
    if step_seconds:
        per_run = runs.set_index("run")["arm"].map(step_seconds)
        steps = kept.loc[kept["metric"] == settings.validation, ["run", "step"]]
        seconds = steps["run"].astype(object).map(per_run).astype(float)
        budgets["seconds"] = steps.assign(budget=steps["step"] * seconds)
    for name, budget in budgets.items():
        values, amount, shares = at_equal_budget(kept, settings.validation, budget)
        if math.isnan(amount):
            notes.append(
                f"{words(settings.validation).capitalize()} at equal {name} is left out: the "
                f"journals lack {settings.validation} or {settings.budget}."
            )
            continue
        told = _amount(name, amount)
        column = f"{settings.validation} at equal {name}"
        runs[column] = runs["run"].map(values).astype(float)
        measures.append(Measure(column, f"{words(settings.validation)} at {told}", f" at {told}"))
        early = runs.loc[runs["run"].map(shares) < 0.98, "arm"].drop_duplicates()
        if len(early):
            notes.append(
                f"At {told}, {len(early)} of {runs['arm'].nunique()} arms are read before their "
                f"end, when a falling learning rate has not fallen yet: {'; '.join(early[:8])}."
            )
    return measures


def _curve_measures(
    curves: pd.DataFrame, settings: Settings, runs: pd.DataFrame, notes: list[str]
) -> list[Measure]:
    """Curves read at a step before the end, and the steps at which they first reach a value."""
    measures = []
    for name, step in settings.at_step.items():
        values = curves[(curves["metric"] == name) & (curves["step"] == step)]
        column = f"{name} at step {step}"
        runs[column] = runs["run"].map(values.set_index("run")["value"]).astype(float)
        measures.append(Measure(column, f"{words(name)} at step {step:,}", f" at step {step:,}"))
    for name, level in settings.reach.items():
        reached = curves[(curves["metric"] == name) & (curves["value"] >= level)]
        column = f"steps to {level:g}"
        runs[column] = runs["run"].map(reached.groupby("run")["step"].min()).astype(float)
        measures.append(Measure(column, f"steps to {words(name)} {level:g}"))
    for measure in measures:
        if missing := int(runs[measure.name].isna().sum()):
            notes.append(f"{missing} runs have no {measure.title} and are left out of it.")
    return measures


def _amount(name: str, amount: float) -> str:
    if name == "seconds":
        return f"{amount:,.1f} benchmark seconds"
    return f"{amount:,.0f} {name}"
