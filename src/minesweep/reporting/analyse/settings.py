"""The settings of a report: arguments win over ``report.yaml``, which wins over the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from minesweep.config.places import SWEEPS
from minesweep.errors import UserError
from minesweep.reporting.analyse.views import View, parse_views
from minesweep.reporting.read.files import UnreadableError, number, read_yaml
from minesweep.reporting.read.study import Study
from minesweep.reporting.units import lower_is_better
from minesweep.words import nearest

BACKWARD = "samples/backward"
FORWARD = "samples/forward"
KINDS: dict[str, type] = {"baseline": dict, "at_step": dict, "reach": dict, "at_budget": bool}
KINDS |= {"group_by": list, "further": list, "views": list}
SAID = {dict: "a mapping", list: "a list", bool: "true or false", str: "a name"}


@dataclass(frozen=True)
class Settings:
    """The settings of a report; the keys of ``report.yaml`` in a study's folder.

    Attributes:
        metric: The summary's metric that decides.
        goal: ``maximize``, ``minimize``, or None for what the metric's name says.
        baseline: Values of the arm to compare with; of several, the first that the study has;
            None for a default (:func:`minesweep.reporting.analyse.arms.default_baseline`).
        group_by: Columns that the table is split by and in which an arm and its baseline agree.
        best_by: A swept key of which each arm keeps the value best on validation data.
        validation: The metric that ``best_by`` chooses on.
        further: Further metrics of the summary that are averaged and compared.
        budget: The curve that says what a run had spent by a step.
        at_budget: Whether arms are compared at an equal budget, too; of no use beside a
            reference that spends nothing.
        at_step: Curves to compare at a step before the end, ``{val/accuracy: 900}``.
        reach: Curves of which to compare the first step at a value, ``{val/roc_auc: 0.72}``.
        views: Further figures, see :mod:`minesweep.reporting.analyse.views`.
    """

    metric: str = "test/accuracy"
    goal: str | None = None
    baseline: dict[str, Any] | list[dict[str, Any]] | None = None
    group_by: list[str] = field(default_factory=list)
    best_by: str | None = None
    validation: str = "val/accuracy"
    further: list[str] = field(default_factory=list)
    budget: str = BACKWARD
    at_budget: bool = True
    at_step: dict[str, int] = field(default_factory=dict)
    reach: dict[str, float] = field(default_factory=dict)
    views: list[View] = field(default_factory=list)


def read_settings(
    folder: Path,
    baseline: str | Mapping[str, Any] | None,
    metric: str | None,
    group_by: str | None,
) -> Settings:
    """Reads the settings: arguments win over the study's ``report.yaml``, which wins over defaults.

    Raises:
        UserError: ``report.yaml`` cannot be read, or a key or value in it means nothing.
    """
    arguments = {"baseline": baseline, "metric": metric, "group_by": group_by}
    given: dict[str, Any] = {
        **{key: value for key, value in read_given(folder).items() if value is not None},
        **{key: value for key, value in arguments.items() if value},
    }
    known = list(Settings.__dataclass_fields__)
    for key in given:
        if key not in known:
            told = f"{nearest(str(key), known) or '.'} Known: {', '.join(known)}"
            raise UserError(f"report.yaml: no key {key}{told}")
    if isinstance(given.get("group_by"), str):
        given["group_by"] = [key.strip() for key in given["group_by"].split(",")]
    if isinstance(given.get("baseline"), str):
        given["baseline"] = parse_baseline(given["baseline"])
    if given.get("goal") not in (None, "maximize", "minimize"):
        raise UserError(f"report.yaml: goal={given['goal']} is neither maximize nor minimize")
    for key, value in given.items():
        kind = KINDS.get(key, str)
        several = key == "baseline" and isinstance(value, list)  # the first that the study has
        if not several and not isinstance(value, kind):
            raise UserError(f"report.yaml: {key}={value} must be {SAID[kind]}")
        if several and not all(isinstance(part, dict) for part in value):
            raise UserError(f"report.yaml: {key}={value} must be a list of mappings")
        if key in ("group_by", "further") and not all(isinstance(x, str) and x for x in value):
            raise UserError(f"report.yaml: {key}={value} must be a list of names")
        if key in ("at_step", "reach") and any(number(x) is None for x in given[key].values()):
            raise UserError(f"report.yaml: {key}={value} must map metrics to numbers")
    given["views"] = parse_views(given.get("views", []))
    return Settings(**given)


def read_given(folder: Path) -> dict[str, Any]:
    """Reads ``report.yaml`` of the study's folder, else the one beside the sweep of its name.

    Raises:
        UserError: It cannot be read.
    """
    beside = SWEEPS / "report" / f"{folder.name}.yaml"
    path = next((path for path in (folder / "report.yaml", beside) if path.exists()), None)
    try:
        return read_yaml(path) if path else {}
    except UnreadableError as error:
        raise UserError(f"{folder}: {error}") from None


def parse_baseline(text: str) -> dict[str, Any]:
    """``n=512,k=384`` as ``{"n": 512, "k": 384}``; a bare word is a miner."""
    values = {}
    for part in text.split(","):
        key, equals, value = part.strip().partition("=")
        try:
            values[key if equals else "miner"] = yaml.safe_load(value) if equals else key
        except yaml.YAMLError:
            raise UserError(f"baseline: cannot read {part.strip()}: write KEY=VALUE") from None
    return values


def check_settings(study: Study, settings: Settings) -> None:
    """Raises a UserError where the study has no finished run, or not the metrics asked for."""
    if study.runs.empty:
        kinds = pd.Series([p.kind for p in study.problems]).value_counts()
        told = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
        first = study.problems[0]
        raise UserError(
            f"{study.folder}: no finished run to report ({told}); "
            f"the first: {first.run}: {first.detail}"
        )
    for metric in [
        settings.metric,
        *settings.further,
        *([settings.validation] if settings.best_by else []),
    ]:
        if metric not in study.metrics:
            known = ", ".join(study.metrics) or "none"
            raise UserError(
                f"{metric}: no finished run has this metric"
                f"{nearest(metric, study.metrics) or '.'} Metrics: {known}"
            )


def smaller_wins(settings: Settings, measure: str) -> bool:
    """Whether the smallest value of a measure is the best."""
    if settings.goal and measure.startswith(settings.metric):
        return settings.goal == "minimize"
    return lower_is_better(measure.split(" at equal ")[0])
