"""The columns that are averaged and compared, and the curves read off at an equal budget."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from minesweep.errors import UserError
from minesweep.reporting.analyse.arms import Comparison
from minesweep.reporting.analyse.notes import noted
from minesweep.statistics.tables import at_equal_budget
from minesweep.tracking.reading import number, read_json
from minesweep.units import words

FURTHER = ("train/accuracy_running",)
"""Metrics that stand in the table beside the main one and its ``_best``, where runs have them
(the running training accuracy is the metric of the OHEM study that the nk sweep repeats)."""


def read_step_seconds(folder: Path, arms: Iterable[str], notes: list[str]) -> dict[str, float]:
    """Seconds per step by arm, from ``step_seconds.json``. Empty, with a note, unless every arm is
    there."""
    path = folder / "step_seconds.json"
    with noted(notes, "Equal seconds are left out"):
        given = read_json(path).items() if path.exists() else ()
        known = {str(key): x for key, v in given if (x := number(v)) is not None and x > 0}
        missing = [arm for arm in arms if arm not in known]
        if missing and path.exists():
            raise UserError(f"{path.name} lacks {'; '.join(missing[:8])}")
        return {} if missing else {arm: known[arm] for arm in arms}
    return {}


def make_measures(compared: Comparison) -> dict[str, str]:
    """The columns to compare, and their headings; adds those read off the curves to the runs."""
    study, settings, runs = compared.study, compared.settings, compared.runs
    main = settings.metric
    wanted = dict.fromkeys((f"{main}_best", *settings.further, *FURTHER))
    held = [name for name in wanted if name in study.metrics and runs[name].notna().any()]
    measures = {name: words(name) for name in (main, *held)}
    if missing := int(runs[main].isna().sum()):
        compared.notes.append(f"{missing} finished runs have no {main} and are left out of it.")
    curves = study.curves[study.curves["run"].isin(runs["run"])]

    def add(column: str, values: pd.Series, title: str) -> None:
        """Of curves read at a step before the end, and steps at which they first reach a value."""
        runs[column], measures[column] = runs["run"].map(values).astype(float), title
        if missing := int(runs[column].isna().sum()):
            compared.notes.append(f"{missing} runs have no {title} and are left out of it.")

    for name, step in settings.at_step.items():
        at = curves[(curves["metric"] == name) & (curves["step"] == step)]
        title = f"{words(name)} at step {step:,}"
        add(f"{name} at step {step}", at.set_index("run")["value"], title)
    for name, level in settings.reach.items():
        reached = curves[(curves["metric"] == name) & (curves["value"] >= level)]
        first = reached.groupby("run", observed=True)["step"].min()
        add(f"steps to {level:g}", first, f"steps to {words(name)} {level:g}")
    if settings.at_budget:
        measures |= _budget_measures(compared, curves)
    return measures


def _budget_measures(compared: Comparison, curves: pd.DataFrame) -> dict[str, str]:
    """The validation curve, read off at an equal number of samples and of benchmark seconds."""
    settings, runs, notes = compared.settings, compared.runs, compared.notes
    validation, measures = settings.validation, {}
    spent = curves.loc[curves["metric"] == settings.budget, ["run", "step", "value"]]
    budgets = {words(settings.budget): spent.rename(columns={"value": "budget"})}
    if compared.step_seconds:
        seconds = runs.set_index("run")["arm"].map(compared.step_seconds)
        steps = curves.loc[curves["metric"] == validation, ["run", "step"]]
        per_step = steps["run"].astype(object).map(seconds).astype(float)
        budgets["seconds"] = steps.assign(budget=steps["step"] * per_step)
    for name, budget in budgets.items():
        values, amount, shares = at_equal_budget(curves, validation, budget)
        if math.isnan(amount):
            notes.append(
                f"{words(validation).capitalize()} at equal {name} is left out: the "
                f"journals lack {validation} or {settings.budget}."
            )
            continue
        told = f"{amount:,.1f} benchmark seconds" if name == "seconds" else f"{amount:,.0f} {name}"
        column = f"{validation} at equal {name}"
        runs[column] = runs["run"].map(values).astype(float)
        measures[column] = f"{words(validation)} at {told}"
        early = runs.loc[runs["run"].map(shares) < 0.98, "arm"].drop_duplicates()
        if len(early):
            notes.append(
                f"At {told}, {len(early)} of {runs['arm'].nunique()} arms are read before their "
                f"end, when a falling learning rate has not fallen yet: {'; '.join(early[:8])}."
            )
    return measures
