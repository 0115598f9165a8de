"""Arms: the runs that differ in the seed alone, their names, and the baseline of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from minesweep.errors import UserError
from minesweep.reporting.analyse.settings import Settings
from minesweep.reporting.read.study import DERIVED, EQUAL_COST, Study
from minesweep.units import DASH
from minesweep.words import nearest

CONTROLS = ("all", "random_k", "random", "queue")
"""Miners that do not look for hard examples."""
AT_EQUAL_COST = "at equal cost"
"""Ends the label of an arm that takes as many steps as cost what its baseline costs."""


@dataclass(frozen=True)
class Comparison:
    """What is compared with what.

    Attributes:
        study: What was read.
        settings: What was asked.
        runs: The runs that count, with their ``arm`` and the measures.
        arms: One row an arm, the runs that differ in the seed alone, in reading order: its value
            of each column of the study's ``keys``, by a short label, ``ohem n=512 k=384``.
        baselines: The baseline's label by the arm's label.
        step_seconds: Seconds per step by arm, from a quiet benchmark; empty where none is known.
        notes: What a reader has to know, one sentence each.
    """

    study: Study
    settings: Settings
    runs: pd.DataFrame
    arms: pd.DataFrame
    baselines: dict[str, str]
    step_seconds: dict[str, float]
    notes: list[str]


def make_arms(runs: pd.DataFrame, keys: Sequence[str]) -> tuple[pd.DataFrame, pd.Series]:
    """Groups runs by all of ``keys``.

    Returns:
        The arms in reading order (controls first, then by value), and each run's arm label.
    """
    # Without keys, the rows of itertuples are none in pandas 2.
    settings = [tuple(row) for row in runs[list(keys)].to_numpy(dtype=object).tolist()]
    order = sorted(dict.fromkeys(settings), key=lambda row: _order(keys, row))
    labels = dict(zip(order, _labels(keys, order), strict=True))
    columns = dict(zip(keys, zip(*order, strict=True), strict=True))
    arms = pd.DataFrame(columns, index=pd.Index(labels.values(), name="arm"), dtype=object)
    return arms, pd.Series([labels[row] for row in settings], index=runs.index, dtype=object)


def short_names(keys: Iterable[Any]) -> dict[str, str]:
    """``optimizer.lr`` as ``lr`` where no other key ends alike."""
    leaves = {key: key.rsplit(".", 1)[-1] for key in keys}
    counts = Counter(leaves.values())
    return {key: leaf if counts[leaf] == 1 else key for key, leaf in leaves.items()}


def resolve_key(name: str, keys: Iterable[Any]) -> str:
    """The column that ``name`` means: in full, or its last word.

    Raises:
        UserError: There is no such column, or more than one.
    """
    keys = list(keys)
    if name in keys:
        return name
    matching = [key for key in keys if key.rsplit(".", 1)[-1] == name]
    if len(matching) > 1:
        raise UserError(f"{name} could be any of {', '.join(matching)}: write it in full")
    if not matching:
        told = f"{nearest(name, keys) or '.'} Keys: {', '.join(keys) or 'none'}"
        raise UserError(f"no key {name} differs in this study{told}")
    return matching[0]


def show(value: Any) -> str:
    """A config value as a person writes it; a dash where a run has no such key."""
    if value is None:
        return DASH
    return f"{value:g}" if isinstance(value, float) else str(value)


def shown_values(column: Iterable[Any]) -> list[str]:
    """The different values as shown, numbers by size, then words."""
    return list(dict.fromkeys(map(show, sorted(column, key=size_order))))


def having(arms: pd.DataFrame, values: Mapping[str, Any]) -> pd.DataFrame:
    """The arms that have these values, by keys in full, or values that are shown alike."""
    for key, wanted in values.items():
        held = arms[key] if key in arms else [None] * len(arms)
        arms = arms.loc[[x == wanted or show(x) == show(wanted) for x in held]]
    return arms


def controls(arms: pd.DataFrame) -> set[str]:
    """The arms whose miner does not look for hard examples."""
    return {*arms.index[arms["miner"].isin(CONTROLS)]} if "miner" in arms else set()


def default_baseline(arms: pd.DataFrame) -> dict[str, Any] | None:
    """The baseline where nobody names one: the first of these that fits, else None.

    1. the miner ``random_k``, 2. the miner ``all``, each only beside other miners;
    3. where some arms learn from all they score (k = n) and others do not: the smallest such n.
    """
    rows: list[dict[Any, Any]] = arms.to_dict("records")
    miners = {row.get("miner") for row in rows}
    for control in ("random_k", "all"):
        if control in miners and len(miners) > 1:
            return {"miner": control}
    whole = [row for row in rows if row.get("k") and row["k"] == row.get("n", row["k"])]
    if whole and len(whole) < len(rows):
        smallest = min(whole, key=lambda row: row.get("n", 0))
        return {key: smallest[key] for key in ("n", "k") if key in smallest}
    return None


def wanted_baseline(
    arms: pd.DataFrame, asked: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
) -> dict[str, Any] | None:
    """The values of the baseline, by keys in full.

    Args:
        arms: The study's arms.
        asked: The values; of several the first that an arm has; None for the default.

    Raises:
        UserError: A key means no column.
    """
    if isinstance(asked, Mapping):
        return {k if k in DERIVED else resolve_key(k, arms): v for k, v in asked.items()}
    for values in asked or ():
        # Of several, a key may mean nothing in this study.
        if {*values} <= {*DERIVED, *arms} and len(having(arms, values)):
            return dict(values)
    return default_baseline(arms)


def find_baselines(
    arms: pd.DataFrame, baseline: Mapping[str, Any], within: Sequence[str] = ()
) -> dict[str, str]:
    """The baseline of each arm.

    Candidates are the arms that have the values of ``baseline``. An arm is compared with the
    candidate that agrees with it in ``within`` and in every column in which the candidates left
    differ among themselves (random_k at the same k, all at the same label noise). An arm for
    which there is no such candidate is compared with nothing.

    Returns:
        The baseline's label by the arm's label; the baselines themselves are left out.

    Raises:
        UserError: No arm has these values.
    """
    if having(arms, baseline).empty:
        wanted = ", ".join(f"{key}={show(value)}" for key, value in baseline.items())
        raise UserError(f"baseline {wanted}: no such arm. Arms: {'; '.join(arms.index[:12])}")
    found: dict[str, str] = {}
    grouped = arms.groupby(list(within), sort=False, dropna=False) if within else [("", arms)]
    for _, group in grouped:
        candidates = having(group, baseline)
        held = candidates.map(repr).nunique()
        matched = [key for key in held.index[held > 1] if key not in baseline]
        others = group.drop(candidates.index)
        pairs = agreeing(others.reset_index(), candidates.reset_index(), matched)
        once = pairs.drop_duplicates("arm_x", keep=False)
        found |= dict(zip(once["arm_x"], once["arm_y"], strict=True))
    return found


def agreeing(left: pd.DataFrame, right: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """The pairs of rows that agree in ``keys``; without keys, all pairs."""
    return left.merge(right, on=list(keys)) if keys else left.merge(right, how="cross")


def _labels(keys: Sequence[str], settings: Sequence[tuple[Any, ...]]) -> list[str]:
    """Names from as few columns as tell all settings apart, taken from the left."""
    short, told = short_names(keys), 1
    used: list[int] = []
    for position in range(len(keys)):
        distinct = len({tuple(map(repr, [row[i] for i in [*used, position]])) for row in settings})
        if distinct > told:
            used.append(position)
            told = distinct

    def label(row: tuple[Any, ...], told: Callable[[Any], str]) -> str:
        held = [(keys[i], told(row[i])) for i in used if row[i] is not None]
        words = ({"miner": v, EQUAL_COST: AT_EQUAL_COST}.get(k, f"{short[k]}={v}") for k, v in held)
        return " ".join(words) or "all runs"

    labels = [label(row, show) for row in settings]
    # Numbers that differ after their sixth digit alone are written in full.
    return labels if len(set(labels)) == len(labels) else [label(row, str) for row in settings]


def size_order(value: Any) -> tuple[int, float, str]:
    """A key that sorts numbers by size, then texts; an absent value is an empty text."""
    if isinstance(value, int | float):
        return 0, float(value), ""
    return 1, 0.0, "" if value is None else str(value)


def _order(keys: Sequence[str], row: tuple[Any, ...]) -> list[tuple[int, float, str]]:
    """Orders each column like :func:`size_order`, with controls before the other miners."""
    return [
        (-1, float(CONTROLS.index(value)), "")
        if key == "miner" and value in CONTROLS
        else size_order(value)
        for key, value in zip(keys, row, strict=True)
    ]
