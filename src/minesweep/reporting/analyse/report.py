"""A study's folder, turned into a report: what is compared with what, the numbers, the files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from minesweep.errors import UserError
from minesweep.reporting.analyse.answer import Answer, Price, fixed, headline
from minesweep.reporting.analyse.arms import (
    Arm,
    default_baseline,
    find_baselines,
    make_arms,
    resolve_key,
    show,
)
from minesweep.reporting.analyse.declared import declared_answers, declared_settings
from minesweep.reporting.analyse.design import read_design
from minesweep.reporting.analyse.measures import Measure, make_measures, read_step_seconds
from minesweep.reporting.analyse.notes import of_choices, of_comparisons, of_seeds
from minesweep.reporting.analyse.settings import (
    BACKWARD,
    FORWARD,
    Settings,
    check_settings,
    read_settings,
    smaller_wins,
)
from minesweep.reporting.analyse.statistics import (
    Choice,
    choose,
    compare,
    summarise,
)
from minesweep.reporting.analyse.views import Made, make_views
from minesweep.reporting.read.study import DERIVED, Study, read_study
from minesweep.reporting.units import lower_is_better


@dataclass(frozen=True)
class Report:
    """A study's report.

    Attributes:
        study: What was read.
        settings: What was asked.
        runs: The runs that count, with their ``arm`` and the measures.
        arms: In reading order.
        baselines: The baseline's label by the arm's label.
        measures: The main one first.
        table: One row an arm, indexed by label: its columns, ``seeds``, and mean, half width,
            difference, low, high, p, p_holm and answer of each measure.
        comparisons: One row a measure and an arm.
        choices: What ``best_by`` chose.
        answers: The answers on the main measure.
        prices: What each compared arm spent, by its label.
        headline: The study's answer in one sentence.
        notes: What a reader has to know, one sentence each.
        step_seconds: Seconds per step by arm, from a quiet benchmark; empty where none is known.
        views: Further figures that the study's ``report.yaml`` asks for.
    """

    study: Study
    settings: Settings
    runs: pd.DataFrame
    arms: list[Arm]
    baselines: dict[str, str]
    measures: list[Measure]
    table: pd.DataFrame
    comparisons: pd.DataFrame
    choices: list[Choice]
    answers: list[Answer]
    prices: dict[str, Price]
    headline: str
    notes: list[str]
    step_seconds: dict[str, float]
    views: list[Made] = field(default_factory=list)

    @property
    def overview(self) -> str:
        """How many arms, runs and seeds count, and how many runs do not."""
        seeds = self.runs["seed"].nunique()
        told = f"{len(self.arms)} arms, {len(self.runs)} runs, {seeds} seeds"
        amiss = Counter(problem.kind for problem in self.study.problems)
        left_out = ", ".join(f"{count} {kind}" for kind, count in sorted(amiss.items()))
        return told + (f"; amiss: {left_out}" if left_out else "")

    @property
    def smaller_wins(self) -> bool:
        """Whether the smallest value of the main metric is the best."""
        return smaller_wins(self.settings, self.settings.metric)


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
    if design is not None and metric in (None, design.metric):
        settings = declared_settings(settings, design, study.metrics)
    elif design is not None:
        design = None  # other metrics were not declared: they get the rule of fixed seeds
    check_settings(study, settings)
    notes = [f"Warning: {warning}." for warning in study.warnings]
    if not group_by:
        settings = _known_groups(study, settings, notes)
    runs, keys, arms, choices = _arms(study, settings, notes)
    try:
        baselines = _baselines(arms, settings, keys, notes)
    except UserError as error:
        if baseline or group_by:
            raise
        # The study's own report.yaml names an arm of which no run has finished yet.
        notes.append(f"Nothing is compared: {error}.")
        baselines = {}
    for choice in choices:
        next(a for a in arms if a.label == choice.arm).values[choice.key] = choice.value
    step_seconds = read_step_seconds(study.folder, arms, runs, notes)
    measures = make_measures(study, settings, runs, step_seconds, notes)
    comparisons = pd.concat(
        [compare(runs, measure.name, baselines) for measure in measures],
        ignore_index=True,
    )
    answers = [
        fixed(row, smaller_wins(settings, row["measure"])) for row in comparisons.to_dict("records")
    ]
    if design is not None:
        declared = iter(declared_answers(runs, comparisons, design, notes))
        main_rows = comparisons["measure"] == settings.metric
        answers = [
            next(declared) if main else a for a, main in zip(answers, main_rows, strict=True)
        ]
        fragile = comparisons.loc[main_rows, "fragile"].fillna(False).astype(bool)
        comparisons.loc[main_rows, "without"] = ["yes" if told else "" for told in fragile]
    comparisons["answer"] = pd.Series([answer.kind for answer in answers], dtype=object)
    table = _table(runs, arms, measures, comparisons, step_seconds)
    # Seeds of a declared design are unequal on purpose.
    notes += of_seeds(runs, arms, settings.metric, complete=design is None)
    if design is None:
        rows = comparisons[comparisons["measure"] == settings.metric]
        notes += of_comparisons(rows, settings.metric)
    main = [a for a, m in zip(answers, comparisons["measure"], strict=True) if m == settings.metric]
    prices = _prices(runs, baselines)
    views = make_views(
        settings.views,
        study,
        runs,
        arms,
        step_seconds,
        (settings.metric, settings.validation),
        notes,
    )
    return Report(
        study=study,
        settings=settings,
        runs=runs,
        arms=arms,
        baselines=baselines,
        measures=measures,
        table=table,
        comparisons=comparisons,
        choices=choices,
        answers=main,
        prices=prices,
        headline=headline(
            main, arms, settings.metric, prices, smaller_wins(settings, settings.metric)
        ),
        notes=notes,
        step_seconds=step_seconds,
        views=views,
    )


def _known_groups(study: Study, settings: Settings, notes: list[str]) -> Settings:
    """A sweep that has only begun may not differ yet in what its report.yaml groups by."""
    known = []
    for key in settings.group_by:
        try:
            known.append(resolve_key(key, study.keys))
        except UserError as error:
            notes.append(f"Not grouped by {key}: {error}.")
    return replace(settings, group_by=known)


def _arms(
    study: Study, settings: Settings, notes: list[str]
) -> tuple[pd.DataFrame, list[str], list[Arm], list[Choice]]:
    """The runs that count, with their arm; keys to group by come first, so that a group's arms
    stand together."""
    within = [resolve_key(key, study.keys) for key in settings.group_by]
    keys = within + [key for key in study.keys if key not in within]
    try:
        chosen = resolve_key(settings.best_by, keys) if settings.best_by else None
    except UserError as error:
        # A sweep that has only begun may hold one value so far: it is reported all the same.
        notes.append(f"Nothing is chosen by best_by: {error}.")
        chosen = None
    keys = [key for key in keys if key != chosen]
    arms, labels = make_arms(study.runs, keys)
    runs = study.runs.assign(arm=labels)
    if chosen is None:
        return runs, keys, arms, []
    failed = _failed_values(study, arms, keys, chosen)
    smaller = lower_is_better(settings.validation)
    runs, choices = choose(runs, chosen, settings.validation, smaller, failed)
    notes += of_choices(choices, settings.validation)
    left = {choice.arm for choice in choices}
    dropped = [arm.label for arm in arms if arm.label not in left]
    if dropped:
        notes.append(f"Left out, without {settings.validation}: {'; '.join(dropped)}.")
    return runs, keys, [arm for arm in arms if arm.label in left], choices


def _failed_values(
    study: Study, arms: list[Arm], keys: list[str], chosen: str
) -> Counter[tuple[str, object]]:
    """How many runs failed, by arm and value of the key that is chosen."""
    labels = {tuple(arm.values[key] for key in keys): arm.label for arm in arms}
    return Counter(
        (labels[setting], row[chosen])
        for row in study.failed.to_dict("records")
        if (setting := tuple(row[key] for key in keys)) in labels
    )


def _baselines(
    arms: list[Arm], settings: Settings, keys: list[str], notes: list[str]
) -> dict[str, str]:
    within = [resolve_key(key, keys) for key in settings.group_by]
    wanted = settings.baseline
    if wanted is None:
        wanted = default_baseline(arms)
        if wanted is None:
            if len(arms) > 1:
                notes.append("No arm is an obvious baseline: name one with --baseline.")
            return {}
    else:
        wanted = {
            key if key in DERIVED else resolve_key(key, keys): value
            for key, value in wanted.items()
        }
    found = find_baselines(arms, wanted, within)
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


def _table(
    runs: pd.DataFrame,
    arms: list[Arm],
    measures: list[Measure],
    comparisons: pd.DataFrame,
    step_seconds: dict[str, float],
) -> pd.DataFrame:
    labels = pd.Index([arm.label for arm in arms], name="arm")
    table = pd.DataFrame(index=labels)
    for key in arms[0].values:
        table[key] = pd.Series([arm.values[key] for arm in arms], index=labels, dtype=object)
    counted = runs.dropna(subset=[measures[0].name])
    table["seeds"] = counted.groupby("arm")["seed"].nunique().reindex(labels, fill_value=0)
    for measure in measures:
        means = summarise(runs, measure.name)
        table[f"{measure.name} mean"], table[f"{measure.name} half"] = (
            means["mean"],
            means["half"],
        )
        rows = comparisons[comparisons["measure"] == measure.name].set_index("arm")
        for column in ("difference", "low", "high", "p", "p_holm", "without", "answer"):
            table[f"{measure.name} {column}"] = rows[column]
    if step_seconds:
        table["seconds per step"] = pd.Series(step_seconds)
    return table


def _prices(runs: pd.DataFrame, baselines: Mapping[str, str]) -> dict[str, Price]:
    """What each compared arm spent, as a multiple of its baseline's."""
    spent = {
        name: runs.groupby("arm")[name].mean() if name in runs else pd.Series(dtype=float)
        for name in (FORWARD, BACKWARD)
    }
    return {
        arm: Price(*(float(s.get(arm, math.nan) / s.get(base, math.nan)) for s in spent.values()))
        for arm, base in baselines.items()
    }
