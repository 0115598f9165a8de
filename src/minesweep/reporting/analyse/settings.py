"""The settings of a report: arguments win over ``report.yaml``, which wins over the defaults.

``docs/how-to/report.md`` shows how a study's ``report.yaml`` asks for views.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import yaml

from minesweep.config.kinds import allowed, read_note
from minesweep.config.places import SWEEPS
from minesweep.errors import UserError
from minesweep.reporting.read.study import Study
from minesweep.tracking.reading import UnreadableError, number, read_yaml
from minesweep.units import lower_is_better
from minesweep.words import check_word, nearest

BACKWARD = "samples/backward"
FORWARD = "samples/forward"
VIEWS = {
    "surface": (("x", "y"), ("by", "where", "value", "title")),
    "tradeoff": (("x", "y"), ("by", "where", "title", "slope")),
    "curve": (("value",), ()),
}
"""The keys that a view of each kind must have, and those that it may have."""


@dataclass(frozen=True)
class View:
    """One entry of ``views``. Each type says what the key may hold."""

    kind: str
    x: Annotated[str, "text"] = ""
    y: Annotated[str, "text"] = ""
    by: Annotated[Sequence[str], "text or list of text"] = ()
    where: Annotated[Mapping[str, Any], "mapping"] = field(default_factory=dict)
    value: Annotated[str, "text"] = ""
    slope: Annotated[bool, "bool"] = False
    title: Annotated[str, "text"] = ""


@dataclass(frozen=True)
class Settings:
    """The settings of a report; the keys of ``report.yaml`` in a study's folder.

    Each type says what the key may hold, as :mod:`minesweep.config.kinds` writes it.

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
        views: Further figures.
    """

    metric: Annotated[str, "text"] = "test/accuracy"
    goal: Annotated[str | None, "maximize | minimize"] = None
    baseline: Annotated[Any, "mapping or list of mapping"] = None
    group_by: Annotated[list[str], "list of text"] = field(default_factory=list)
    best_by: Annotated[str | None, "text"] = None
    validation: Annotated[str, "text"] = "val/accuracy"
    further: Annotated[list[str], "list of text"] = field(default_factory=list)
    budget: Annotated[str, "text"] = BACKWARD
    at_budget: Annotated[bool, "bool"] = True
    at_step: Annotated[dict[str, int], "mapping"] = field(default_factory=dict)
    reach: Annotated[dict[str, float], "mapping"] = field(default_factory=dict)
    views: Annotated[list[View], "list of mapping"] = field(default_factory=list)

    def smaller_wins(self, measure: str) -> bool:
        """Whether the smallest value of a measure is the best."""
        if self.goal and measure.startswith(self.metric):
            return self.goal == "minimize"
        return lower_is_better(measure.split(" at equal ")[0])


def read_settings(
    folder: Path,
    baseline: str | Mapping[str, Any] | None = None,
    metric: str | None = None,
    group_by: str | None = None,
) -> Settings:
    """Reads the settings: arguments win over the study's ``report.yaml``, which wins over defaults.

    Raises:
        UserError: ``report.yaml`` cannot be read, or a key or value in it means nothing.
    """
    arguments = {"baseline": baseline, "metric": metric, "group_by": group_by}
    given = read_given(folder) | {key: value for key, value in arguments.items() if value}
    given = {key: value for key, value in given.items() if value is not None}
    if isinstance(given.get("group_by"), str):
        given["group_by"] = [key.strip() for key in given["group_by"].split(",")]
    if isinstance(given.get("baseline"), str):
        given["baseline"] = parse_baseline(given["baseline"])
    _check("", given, list(Settings.__dataclass_fields__), Settings)
    for key in ("at_step", "reach"):
        if any(number(x) is None for x in given.get(key, {}).values()):
            raise UserError(f"report.yaml: {key}={given[key]} must map metrics to numbers")
    given["views"] = [_view(view) for view in given.get("views", [])]
    return Settings(**given)


def _check(place: str, given: Mapping[str, Any], known: Sequence[str], of: type) -> None:
    """Raises a UserError where a key or its value means nothing to the class ``of``."""
    types = get_type_hints(of, include_extras=True)
    for key, value in given.items():
        if key not in known:
            told = f"{nearest(str(key), known) or '.'} Known: {', '.join(known)}"
            raise UserError(f"report.yaml: {place}no key {key}{told}")
        kinds = read_note(types[key].__metadata__[0])
        if not any(kind.allows(value) for kind in kinds):
            raise UserError(f"report.yaml: {place}{key}={value} must be {allowed(kinds)}")


def _view(given: Mapping[str, Any]) -> View:
    kind = check_word("report.yaml: views: kind", given.get("kind"), VIEWS)
    needed, further = VIEWS[kind]
    keys = {key: value for key, value in given.items() if key != "kind"}
    _check(f"views: {kind}: ", keys, (*needed, *further), View)
    if missing := [key for key in needed if key not in given]:
        raise UserError(f"report.yaml: views: {kind} needs {missing[0]}")
    if isinstance(keys.get("by"), str):
        keys["by"] = [keys["by"]]
    return View(kind, **keys)


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
        told, first = study.amiss, study.problems.iloc[0]
        raise UserError(
            f"{study.folder}: no finished run to report ({told}); "
            f"the first: {first['run']}: {first['detail']}"
        )
    judging = [settings.validation] if settings.best_by else []
    for metric in (settings.metric, *settings.further, *judging):
        if metric not in study.metrics:
            known = ", ".join(study.metrics) or "none"
            raise UserError(
                f"{metric}: no finished run has this metric"
                f"{nearest(metric, study.metrics) or '.'} Metrics: {known}"
            )
