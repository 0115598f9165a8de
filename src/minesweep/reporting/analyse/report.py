"""A study's folder, turned into a report: what is compared with what, and the numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from minesweep.reporting.analyse.answer import Answer, advise, fixed, headline
from minesweep.reporting.analyse.arms import (
    Arm,
    Comparison,
    find_baselines,
    make_arms,
    resolve_key,
    show,
    wanted_baseline,
)
from minesweep.reporting.analyse.declared import declared_answers, declared_settings, read_design
from minesweep.reporting.analyse.measures import make_measures, read_step_seconds
from minesweep.reporting.analyse.notes import noted, of_choices, of_comparisons, of_seeds
from minesweep.reporting.analyse.settings import (
    BACKWARD,
    FORWARD,
    Settings,
    check_settings,
    read_settings,
)
from minesweep.reporting.analyse.views import Surface, Tradeoff, make_views
from minesweep.reporting.read.study import Study, read_study
from minesweep.statistics.tables import Choice, band, choose, compare, summarise
from minesweep.units import lower_is_better


@dataclass(frozen=True)
class Report(Comparison):
    """A study's report.

    Attributes:
        measures: The columns that are averaged and compared, with their headings; the main one
            first.
        table: One row an arm, indexed by label: its columns, ``seeds``, and mean, half width,
            difference, low, high, p, p_holm and answer of each measure.
        comparisons: One row a measure and an arm.
        choices: What ``best_by`` chose.
        answers: The answers on the main measure.
        prices: By each compared arm's label, what it spent as a multiple of its baseline's.
        headline: The study's answer in one sentence.
        advice: Which arm to train with, and how; empty where none was compared at equal cost.
        views: Surfaces and trade-offs that the study's ``report.yaml`` asks for.
    """

    measures: dict[str, str]
    table: pd.DataFrame
    comparisons: pd.DataFrame
    choices: list[Choice]
    answers: list[Answer]
    prices: dict[str, dict[str, float]]
    headline: str
    advice: str
    views: list[Surface | Tradeoff]

    @property
    def overview(self) -> str:
        """How many arms, runs and seeds count, and how many runs do not."""
        seeds, amiss = self.runs["seed"].nunique(), self.study.amiss
        told = f"{len(self.arms)} arms, {len(self.runs)} runs, {seeds} seeds"
        return told + (f"; amiss: {amiss}" if amiss else "")

    def curve(self, metric: str) -> pd.DataFrame:
        """The mean of a metric of the journals by ``arm`` and ``step``, with its interval."""
        arm_of = dict(zip(self.runs["run"], self.runs["arm"], strict=True))
        return band(self.study.curves, arm_of, metric)


def analyse(
    folder: Path | str,
    baseline: str | Mapping[str, Any] | None = None,
    metric: str | None = None,
    group_by: str | None = None,
) -> Report:
    """Reads a study and compares its arms.

    The arguments go before ``report.yaml`` in the study's folder, which goes before the defaults
    of :class:`Settings`.

    Args:
        folder: The study, ``runs/<study>``.
        baseline: What to compare with: ``miner=random_k``, ``n=512,k=512``, or a miner's name.
        metric: A metric of the summaries.
        group_by: Keys, divided by commas.

    Raises:
        UserError: No finished runs, or a metric, key or baseline that the study does not have.
    """
    study = read_study(folder)
    settings = read_settings(study.folder, baseline, metric, group_by)
    design = read_design(study.folder)
    if design is not None and metric not in (None, design.metric):
        design = None  # other metrics were not declared: they get the rule of fixed seeds
    if design is not None:
        settings = declared_settings(settings, design, study.metrics)
    check_settings(study, settings)
    notes = [f"Warning: {warning}." for warning in study.warnings]
    known = []
    for key in settings.group_by:
        # A sweep that has only begun may not differ yet in what its report.yaml names.
        with noted(notes, f"Not grouped by {key}", unless=bool(group_by)):
            known.append(resolve_key(key, study.keys))
    settings = replace(settings, group_by=known)
    runs, tried, arms, choices = _arms(study, settings, notes)
    baselines: dict[str, str] = {}
    # Nor has a run of the baseline finished yet.
    with noted(notes, "Nothing is compared", unless=bool(baseline or group_by)):
        baselines = _baselines(arms, settings, notes)
    for choice in choices:
        next(a for a in arms if a.label == choice.arm).values[choice.key] = choice.value
    step_seconds = read_step_seconds(study.folder, arms, notes)
    compared = Comparison(study, settings, runs, arms, baselines, step_seconds, notes)
    measures = make_measures(compared)
    comparisons = pd.concat([compare(runs, m, baselines) for m in measures], ignore_index=True)
    main, smaller = settings.metric, settings.smaller_wins(settings.metric)
    if design is not None:
        declared_answers(tried, comparisons, design, notes)
    rows = comparisons.to_dict("records")
    kinds = pd.Series([fixed(row, settings.smaller_wins(row["measure"])) for row in rows])
    comparisons["answer"] = comparisons.get("answer", kinds).fillna(kinds).astype(object)
    of_main = comparisons[comparisons["measure"] == main]
    least = math.nan if design is None or design.rule.care is None else design.rule.care
    fields = ["arm", "baseline", "answer", "difference", "low", "high", "n"]
    found = of_main[fields].assign(least=least).itertuples(index=False, name=None)
    answers = [Answer(*row) for row in found]
    table = _table(compared, list(measures), comparisons)
    # Seeds of a declared design are unequal on purpose.
    notes += of_seeds(runs, arms, main, complete=design is None)
    if design is None:
        notes += of_comparisons(of_main, main)
    prices = _prices(runs, baselines)
    means = {str(arm): float(x) for arm, x in table[f"{main} mean"].items()}
    commands = {} if design is None else design.commands
    return Report(
        **vars(compared),
        measures=measures,
        table=table,
        comparisons=comparisons,
        choices=choices,
        answers=answers,
        prices=prices,
        headline=headline(answers, arms, main, prices, smaller),
        advice="" if settings.group_by else advise(answers, arms, means, smaller, commands),
        views=make_views(compared),
    )


def _arms(
    study: Study, settings: Settings, notes: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame, list[Arm], list[Choice]]:
    """The runs that count; these and those that were tried beside them; the arms; what was chosen.

    Keys to group by come first, so that a group's arms stand together.
    """
    keys = [*dict.fromkeys([*settings.group_by, *study.keys])]
    chosen = None
    if settings.best_by:
        # A sweep that has only begun may hold one value so far: it is reported all the same.
        with noted(notes, "Nothing is chosen by best_by"):
            others = [key for key in keys if key not in settings.group_by]
            chosen = resolve_key(settings.best_by, others)
    keys = [key for key in keys if key != chosen]
    arms, labels = make_arms(study.runs, keys)
    runs = study.runs.assign(arm=labels)
    label_of = {tuple(arm.values.values()): arm.label for arm in arms}
    rows = study.failed.to_dict("records")
    of_failed = [label_of.get(tuple(row[key] for key in keys)) for row in rows]
    failed = study.failed.assign(arm=pd.Series(of_failed, dtype=object)).dropna(subset=["arm"])
    tried = pd.concat([runs, failed], ignore_index=True)
    if chosen is None:
        return runs, tried, arms, []
    smaller = lower_is_better(settings.validation)
    runs, choices = choose(tried, chosen, settings.validation, smaller)
    notes += of_choices(choices, settings.validation)
    left = {choice.arm for choice in choices}
    if dropped := [arm.label for arm in arms if arm.label not in left]:
        notes.append(f"Left out, without {settings.validation}: {'; '.join(dropped)}.")
    return runs, tried, [arm for arm in arms if arm.label in left], choices


def _baselines(arms: list[Arm], settings: Settings, notes: list[str]) -> dict[str, str]:
    wanted = wanted_baseline(arms, settings.baseline)
    if wanted is None:
        if len(arms) > 1:
            notes.append("No arm is an obvious baseline: name one with --baseline.")
        return {}
    found = find_baselines(arms, wanted, settings.group_by)
    told = ", ".join(f"{key}={show(value)}" for key, value in wanted.items())
    notes.append(f"Baseline: {told}, on the same seeds.")
    held = {*found, *found.values()}
    alone = [
        arm.label
        for arm in arms
        if arm.label not in held and any(arm.values.get(k) != v for k, v in wanted.items())
    ]
    if alone:
        notes.append(f"No baseline of the same settings for: {'; '.join(alone)}.")
    return found


def _table(compared: Comparison, measures: list[str], comparisons: pd.DataFrame) -> pd.DataFrame:
    arms, runs = compared.arms, compared.runs
    labels = pd.Index([arm.label for arm in arms], name="arm")
    table = pd.DataFrame([arm.values for arm in arms], index=labels, dtype=object)
    counted = runs.dropna(subset=[measures[0]])
    table["seeds"] = counted.groupby("arm")["seed"].nunique().reindex(labels, fill_value=0)
    columns = ["difference", "low", "high", "p", "p_holm", "without", "answer"]
    for name in measures:
        means = summarise(runs, name)[["mean", "half"]]
        own = comparisons[comparisons["measure"] == name].set_index("arm")[columns]
        table = table.join(means.join(own).add_prefix(f"{name} "))
    if compared.step_seconds:
        table["seconds per step"] = pd.Series(compared.step_seconds)
    return table


def _prices(runs: pd.DataFrame, baselines: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """What each compared arm spent, as a multiple of its baseline's."""
    spent = runs.reindex(columns=["arm", FORWARD, BACKWARD]).groupby("arm").mean().astype(float)
    ratios = {arm: spent.loc[arm] / spent.loc[base] for arm, base in baselines.items()}
    names = ("scored", "backpropagated")
    return {arm: dict(zip(names, map(float, x), strict=True)) for arm, x in ratios.items()}
