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
    size_order,
)
from minesweep.reporting.analyse.declared import declared_answers, declared_settings
from minesweep.reporting.analyse.measures import Measure, make_measures, read_step_seconds
from minesweep.reporting.analyse.settings import (
    BACKWARD,
    FORWARD,
    Settings,
    check_settings,
    read_settings,
    smaller_wins,
)
from minesweep.reporting.analyse.statistics import (
    POWER,
    Choice,
    choose,
    compare,
    resolvable,
    summarise,
)
from minesweep.reporting.analyse.views import Made, make_views
from minesweep.reporting.read.design import read_design
from minesweep.reporting.read.study import DERIVED, Study, read_study
from minesweep.reporting.units import lower_is_better, unit, words


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
    comparisons["answer"] = pd.Series([answer.kind for answer in answers], dtype=object)
    table = _table(runs, arms, measures, comparisons, step_seconds)
    if design is None:
        _note_seeds(runs, arms, notes)
    counts = runs.groupby("arm")[settings.metric].count().reindex(table.index)
    equal = list(table.index[table[f"{settings.metric} half"].isna() & (counts > 1)])
    if equal:
        notes.append(
            f"No interval, because the result is the same on every seed: {'; '.join(equal)}."
        )
    if design is None:
        _note_resolution(comparisons[comparisons["measure"] == settings.metric], settings, notes)
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
    runs, choices = choose(runs, chosen, settings.validation, lower_is_better(settings.validation))
    notes += _choice_notes(choices, settings.validation)
    left = {choice.arm for choice in choices}
    dropped = [arm.label for arm in arms if arm.label not in left]
    if dropped:
        notes.append(f"Left out, without {settings.validation}: {'; '.join(dropped)}.")
    return runs, keys, [arm for arm in arms if arm.label in left], choices


def _choice_notes(choices: list[Choice], validation: str) -> list[str]:
    """Which values were tried, and where the best of them may not be the best there is."""
    if not choices:
        return []
    key = choices[0].key
    tried = sorted({value for choice in choices for value in choice.tried}, key=size_order)
    notes = [
        f"{key} was chosen for each arm on {words(validation)} among "
        f"{', '.join(map(show, tried))}; only the runs of the chosen value are in the table."
    ]
    if edge := [f"{c.arm} ({show(c.value)})" for c in choices if c.at_edge]:
        notes.append(f"Chosen at the edge of what was tried: {'; '.join(edge)}.")
    if apart := [c.arm for c in choices if not c.seeds]:
        notes.append(f"Values were compared on no shared seeds: {'; '.join(apart)}.")
    return notes


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
    table["seeds"] = runs.groupby("arm")["seed"].nunique()
    for measure in measures:
        means = summarise(runs, measure.name)
        table[f"{measure.name} mean"], table[f"{measure.name} half"] = (
            means["mean"],
            means["half"],
        )
        rows = comparisons[comparisons["measure"] == measure.name].set_index("arm")
        for column in ("difference", "low", "high", "p", "p_holm", "answer"):
            table[f"{measure.name} {column}"] = rows[column]
    if step_seconds:
        table["seconds per step"] = pd.Series(step_seconds)
    return table


def _note_seeds(runs: pd.DataFrame, arms: list[Arm], notes: list[str]) -> None:
    every = set(runs["seed"])
    held = {arm: set(group["seed"]) for arm, group in runs.groupby("arm")}
    short = [
        f"{arm.label} lacks {', '.join(map(str, sorted(every - held[arm.label])))}"
        for arm in arms
        if every - held[arm.label]
    ]
    if short:
        notes.append(f"Not every arm has all {len(every)} seeds: {'; '.join(short)}.")
    if len(every) == 1:
        notes.append("One seed: there are no intervals, and nothing can be concluded.")


def _note_resolution(main: pd.DataFrame, settings: Settings, notes: list[str]) -> None:
    """What the comparisons could have shown."""
    rows = [row for row in main.to_dict("records") if row["high"] > row["low"]]
    if not rows:
        return
    least = [resolvable((row["high"] - row["low"]) / 2, row["n"]) for row in rows]
    u = unit(settings.metric)
    low, high = u.size(min(least)), u.size(max(least))
    notes.append(
        f"With the spread and the number of seeds seen here, the difference that would be seen "
        f"{POWER:.0%} of the time, uncorrected, is "
        + (f"{low}." if low == high else f"{low} to {high}, by the arm.")
    )


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
