"""Arms: the runs that differ in the seed alone, their names, and the baseline of each."""

from __future__ import annotations

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
class Arm:
    """Runs that differ in the seed alone.

    Attributes:
        label: Short and unique in the study, such as ``ohem n=512 k=384``.
        values: The value of each column of the study's ``keys``.
    """

    label: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """What is compared with what.

    Attributes:
        study: What was read.
        settings: What was asked.
        runs: The runs that count, with their ``arm`` and the measures.
        arms: In reading order.
        baselines: The baseline's label by the arm's label.
        step_seconds: Seconds per step by arm, from a quiet benchmark; empty where none is known.
        notes: What a reader has to know, one sentence each.
    """

    study: Study
    settings: Settings
    runs: pd.DataFrame
    arms: list[Arm]
    baselines: dict[str, str]
    step_seconds: dict[str, float]
    notes: list[str]


def make_arms(runs: pd.DataFrame, keys: Sequence[str]) -> tuple[list[Arm], pd.Series]:
    """Groups runs by all of ``keys``.

    Returns:
        The arms in reading order (controls first, then by value), and each run's arm label.
    """
    # Without keys, the rows of itertuples are none in pandas 2.
    settings = [tuple(row) for row in runs[list(keys)].to_numpy(dtype=object).tolist()]
    order = sorted(dict.fromkeys(settings), key=lambda row: _order(keys, row))
    labels = dict(zip(order, _labels(keys, order), strict=True))
    arms = [Arm(labels[row], dict(zip(keys, row, strict=True))) for row in order]
    return arms, pd.Series([labels[row] for row in settings], index=runs.index, dtype=object)


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """``optimizer.lr`` as ``lr`` where no other key ends alike."""
    leaves = [key.rsplit(".", 1)[-1] for key in keys]
    return {k: leaf if leaves.count(leaf) == 1 else k for k, leaf in zip(keys, leaves, strict=True)}


def resolve_key(name: str, keys: Iterable[str]) -> str:
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


def default_baseline(arms: Sequence[Arm]) -> dict[str, Any] | None:
    """The baseline where nobody names one: the first of these that fits, else None.

    1. the miner ``random_k``, 2. the miner ``all``, each only beside other miners;
    3. where some arms learn from all they score (k = n) and others do not: the smallest such n.
    """
    miners = {arm.values.get("miner") for arm in arms}
    for control in ("random_k", "all"):
        if control in miners and len(miners) > 1:
            return {"miner": control}
    held = [arm for arm in arms if arm.values.get("k")]
    whole = [arm for arm in held if "n" not in arm.values or arm.values["k"] == arm.values["n"]]
    if whole and len(whole) < len(arms):
        smallest = min(whole, key=lambda arm: arm.values.get("n", 0))
        return {key: smallest.values[key] for key in ("n", "k") if key in smallest.values}
    return None


def wanted_baseline(
    arms: Sequence[Arm], asked: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
) -> dict[str, Any] | None:
    """The values of the baseline, by keys in full.

    Args:
        arms: The study's arms.
        asked: The values; of several the first that an arm has; None for the default.

    Raises:
        UserError: A key means no column.
    """
    keys = list(arms[0].values)
    if isinstance(asked, Mapping):
        return {k if k in DERIVED else resolve_key(k, keys): v for k, v in asked.items()}
    for values in asked or ():
        # Of several, a key may mean nothing in this study.
        if {*values} <= {*DERIVED, *keys} and any(_has(arm, values) for arm in arms):
            return dict(values)
    return default_baseline(arms)


def find_baselines(
    arms: Sequence[Arm], baseline: Mapping[str, Any], within: Sequence[str] = ()
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
    if not any(_has(arm, baseline) for arm in arms):
        wanted = ", ".join(f"{key}={show(value)}" for key, value in baseline.items())
        known = "; ".join(arm.label for arm in arms[:12])
        raise UserError(f"baseline {wanted}: no such arm. Arms: {known}")
    found: dict[str, str] = {}
    for group in _by_values(arms, within).values():
        candidates = {arm.label: arm for arm in group if _has(arm, baseline)}
        held = {k: {repr(arm.values[k]) for arm in candidates.values()} for k in group[0].values}
        matched = [key for key in held if len(held[key]) > 1 and key not in baseline]
        fitting = _by_values(candidates.values(), matched)
        for arm in group:
            fits = fitting.get(tuple(arm.values[key] for key in matched), [])
            if arm.label not in candidates and len(fits) == 1:
                found[arm.label] = fits[0].label
    return found


def _by_values(arms: Iterable[Arm], keys: Sequence[str]) -> dict[tuple[Any, ...], list[Arm]]:
    """The arms by their values of some keys."""
    found: dict[tuple[Any, ...], list[Arm]] = {}
    for arm in arms:
        found.setdefault(tuple(arm.values[key] for key in keys), []).append(arm)
    return found


def _has(arm: Arm, values: Mapping[str, Any]) -> bool:
    pairs = [(arm.values.get(key), value) for key, value in values.items()]
    return all(held == wanted or show(held) == show(wanted) for held, wanted in pairs)


def _labels(keys: Sequence[str], settings: Sequence[tuple[Any, ...]]) -> list[str]:
    """Names from as few columns as tell all settings apart, taken from the left."""
    if not keys or len(settings) == 1:
        return ["all runs"] * len(settings)
    short = short_names(keys)
    used: list[int] = []
    told = 1
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
