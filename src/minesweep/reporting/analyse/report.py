"""A study's folder, turned into a report: what is compared with what, and the numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from minesweep.reporting.analyse.answer import advise, fixed, headline
from minesweep.reporting.analyse.arms import (
    Comparison,
    agreeing,
    find_baselines,
    having,
    make_arms,
    resolve_key,
    show,
    wanted_baseline,
)
from minesweep.reporting.analyse.declared import (
    Design,
    declared_answers,
    declared_settings,
    read_design,
)
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
from minesweep.statistics.tables import band, choose, compare, summarise
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
        choices: What ``best_by`` chose (:func:`minesweep.statistics.tables.choose`), if anything.
        answers: The comparisons on the main measure; ``least`` is the smallest difference that
            matters, of the rules that have one.
        prices: By each compared arm's label, the multiple of its baseline's examples that it
            ``scored`` (forward passes) and ``backpropagated``; NaN if unknown.
        headline: The study's answer in one sentence.
        advice: Which arm to train with, and how; empty where none was compared at equal cost.
        views: Surfaces and trade-offs that the study's ``report.yaml`` asks for.
    """

    measures: dict[str, str]
    table: pd.DataFrame
    comparisons: pd.DataFrame
    choices: pd.DataFrame
    answers: pd.DataFrame
    prices: pd.DataFrame
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
    """Reads a study and compares its arms, as its ``report.yaml`` and the arguments say.

    Args:
        folder: The study, ``runs/<study>``.
        baseline: What to compare with: ``miner=random_k``, ``n=512,k=512``, or a miner's name.
        metric: A metric of the summaries.
        group_by: Keys, divided by commas.

    Raises:
        UserError: No finished runs, or a metric, key or baseline that the study does not have.
    """
    study = read_study(folder)
    notes = [f"Warning: {warning}." for warning in study.warnings]
    settings, design = _settings(study, baseline, metric, group_by, notes)
    runs, tried, arms, choices = _arms(study, settings, notes)
    baselines: dict[str, str] = {}
    # A sweep that has only begun may have no run of the baseline yet.
    with noted(notes, "Nothing is compared", unless=bool(baseline or group_by)):
        baselines = _baselines(arms, settings, notes)
    if len(choices):
        arms = arms.assign(**{choices["key"].iloc[0]: choices.set_index("arm")["value"]})
    step_seconds = read_step_seconds(study.folder, arms.index, notes)
    compared = Comparison(study, settings, runs, arms, baselines, step_seconds, notes)
    measures = make_measures(compared)
    comparisons, answers = _comparisons(compared, measures, design, tried)
    main, smaller = settings.metric, settings.smaller_wins(settings.metric)
    table, prices = _table(compared, list(measures), comparisons), _prices(runs, baselines)
    means, commands = table[f"{main} mean"], {} if design is None else design.commands
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


def _comparisons(
    compared: Comparison, measures: Iterable[str], design: Design | None, tried: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The paired differences, answered by declared looks or else by fixed seeds; the main ones."""
    runs, settings, notes = compared.runs, compared.settings, compared.notes
    tables = [compare(runs, measure, compared.baselines) for measure in measures]
    comparisons = pd.concat(tables, ignore_index=True)
    if design is not None:
        declared_answers(tried, comparisons, design, notes)
    rows = comparisons.to_dict("records")
    kinds = pd.Series([fixed(row, settings.smaller_wins(row["measure"])) for row in rows])
    comparisons["answer"] = comparisons.get("answer", kinds).fillna(kinds).astype(object)
    main, care = settings.metric, design.rule.care if design is not None else None
    answers = comparisons[comparisons["measure"] == main].assign(least=care or math.nan)
    # Seeds of a declared design are unequal on purpose.
    notes += of_seeds(runs, compared.arms.index, main, complete=design is None)
    notes += of_comparisons(answers, main) if design is None else []
    return comparisons, answers


def _settings(
    study: Study, baseline: Any, metric: str | None, group_by: str | None, notes: list[str]
) -> tuple[Settings, Design | None]:
    """What was asked for, and what the study declared of it before its first trial."""
    settings = read_settings(study.folder, baseline, metric, group_by)
    design = read_design(study.folder)
    if design is not None and metric in (None, design.metric):
        settings = declared_settings(settings, design, study.metrics)
    else:
        design = None  # other metrics were not declared: they get the rule of fixed seeds
    check_settings(study, settings)
    known = []
    for key in settings.group_by:
        # A sweep that has only begun may not differ yet in what its report.yaml names.
        with noted(notes, f"Not grouped by {key}", unless=bool(group_by)):
            known.append(resolve_key(key, study.keys))
    return replace(settings, group_by=known), design


def _arms(
    study: Study, settings: Settings, notes: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
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
    failed = agreeing(study.failed, arms.reset_index(), keys)
    tried = pd.concat([runs, failed], ignore_index=True)
    if chosen is None:
        return runs, tried, arms, pd.DataFrame()
    smaller = lower_is_better(settings.validation)
    runs, choices = choose(tried, chosen, settings.validation, smaller)
    notes += of_choices(choices, chosen, settings.validation) if len(choices) else []
    if dropped := [arm for arm in arms.index if arm not in {*choices["arm"]}]:
        notes.append(f"Left out, without {settings.validation}: {'; '.join(dropped)}.")
    return runs, tried, arms.drop(dropped), choices


def _baselines(arms: pd.DataFrame, settings: Settings, notes: list[str]) -> dict[str, str]:
    wanted = wanted_baseline(arms, settings.baseline)
    if wanted is None:
        if len(arms) > 1:
            notes.append("No arm is an obvious baseline: name one with --baseline.")
        return {}
    found = find_baselines(arms, wanted, settings.group_by)
    told = ", ".join(f"{key}={show(value)}" for key, value in wanted.items())
    notes.append(f"Baseline: {told}, on the same seeds.")
    baselines = having(arms, wanted).index
    if alone := [arm for arm in arms.index if arm not in found and arm not in baselines]:
        notes.append(f"No baseline of the same settings for: {'; '.join(alone)}.")
    return found


def _table(compared: Comparison, measures: list[str], comparisons: pd.DataFrame) -> pd.DataFrame:
    table, runs = compared.arms.copy(), compared.runs
    counted = runs.dropna(subset=[measures[0]])
    table["seeds"] = counted.groupby("arm")["seed"].nunique().reindex(table.index, fill_value=0)
    columns = ["difference", "low", "high", "p", "p_holm", "without", "answer"]
    for name in measures:
        means = summarise(runs, name)[["mean", "half"]]
        own = comparisons[comparisons["measure"] == name].set_index("arm")[columns]
        table = table.join(means.join(own).add_prefix(f"{name} "))
    if compared.step_seconds:
        table["seconds per step"] = pd.Series(compared.step_seconds)
    return table


def _prices(runs: pd.DataFrame, baselines: Mapping[str, str]) -> pd.DataFrame:
    names = {FORWARD: "scored", BACKWARD: "backpropagated"}
    spent = runs.reindex(columns=["arm", *names]).groupby("arm").mean().astype(float)
    of_baselines = spent.loc[list(baselines.values())].to_numpy()
    return spent.loc[list(baselines)].div(of_baselines).rename(columns=names)
