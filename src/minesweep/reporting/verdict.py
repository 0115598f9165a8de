"""The answer in sentences: it helps by so much, it costs so much, or no difference seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from minesweep.reporting.arms import CONTROLS, Arm
from minesweep.reporting.units import lower_is_better, probability, unit, words

ALPHA = 0.05
"""A difference counts as seen where its interval leaves out zero and Holm's p is below this."""

UNEQUAL = "at unequal samples backpropagated"
HELPS, COSTS, NONE, UNSURE, UNKNOWN = (
    "helps",
    "costs",
    "no difference seen",
    "not sure",
    "cannot be said",
)


@dataclass(frozen=True)
class Verdict:
    """What the study says.

    Attributes:
        overall: One sentence over the comparisons that count.
        sentences: One sentence for each arm that has a baseline.
    """

    overall: str
    sentences: list[str]


def answer(row: Mapping[Any, Any], smaller_wins: bool = False) -> str:
    """One of helps, costs, no difference seen, not sure (its interval leaves out zero, but not
    after Holm's correction over the table), cannot be said (one seed, or no spread)."""
    low, high = row["low"], row["high"]
    if math.isnan(low):
        return UNKNOWN
    if low <= 0 <= high:
        return NONE
    if row["p_holm"] >= ALPHA:
        return UNSURE
    return HELPS if (row["difference"] > 0) != smaller_wins else COSTS


def conclude(
    comparisons: pd.DataFrame,
    arms: Sequence[Arm],
    goal: str | None = None,
    spent: Mapping[str, float] | None = None,
    where: str = "",
) -> Verdict:
    """The sentences on one measure.

    Args:
        comparisons: As from :func:`minesweep.reporting.statistics.compare`, of one measure.
        arms: All arms.
        goal: ``maximize`` or ``minimize``; None for what the measure's name says.
        spent: Mean samples backpropagated by arm, to say whether a comparison is one at an
            equal number of them.
        where: Where the measure was read, where that was not at the end of the runs.
    """
    if comparisons.empty:
        told = "no arm has a baseline" if len(arms) > 1 else "there is one arm"
        return Verdict(f"Nothing is compared: {told}. Name one with --baseline.", [])
    metric = str(comparisons["measure"].iloc[0]).split(" at equal ")[0]
    smaller_wins = lower_is_better(metric) if goal is None else goal == "minimize"
    rows = comparisons.to_dict("records")
    for row in rows:
        row["answer"] = answer(row, smaller_wins)
    sentences = [_sentence(row, metric, len(rows), spent or {}, where) for row in rows]
    return Verdict(_overall(rows, arms, metric, sentences, spent or {}, where), sentences)


def _sentence(
    row: Mapping, metric: str, comparisons: int, spent: Mapping[str, float], where: str
) -> str:
    budget = where or _budget([row], spent)
    return f"{row['arm']} against {row['baseline']}{budget}: {_finding(row, metric, comparisons)}."


def _finding(row: Mapping, metric: str, comparisons: int = 1) -> str:
    u = unit(metric)
    seeds = f"{row['n']} seed{'s' if row['n'] != 1 else ''}"
    ends = f"[{u.difference(row['low'], word=False)}, {u.difference(row['high'], word=False)}]"
    difference = u.difference(row["difference"])
    if row["answer"] == UNKNOWN:
        if row["n"] == 0:
            return "cannot be said (no seed in common)"
        why = "one seed gives no interval" if row["n"] == 1 else "the same on every seed"
        return f"cannot be said (difference {difference}, {seeds}: {why})"
    if row["answer"] == NONE:
        return f"no difference seen (difference {difference} {ends}, {seeds})"
    holm = f" after Holm over {comparisons} comparisons" if comparisons > 1 else ""
    p = ("p " if row["p_holm"] < 1e-4 else "p = ") + probability(row["p_holm"]) + holm
    if row["answer"] == UNSURE:
        return f"not sure (difference {difference} {ends}, {seeds}, but {p})"
    verb = "it helps by" if row["answer"] == HELPS else "it costs"
    return f"{verb} {u.size(row['difference'])} {ends} of {words(metric)} ({seeds}, {p})"


def _overall(
    rows: list[dict],
    arms: Sequence[Arm],
    metric: str,
    sentences: list[str],
    spent: Mapping[str, float],
    where: str,
) -> str:
    counting, question = _counting(rows, arms)
    if len(counting) == 1:
        return (question + sentences[rows.index(counting[0])]).strip()
    place = where or _budget(counting, spent)
    names = sorted({row["baseline"] for row in counting})
    miners = {arm.label: str(arm.values.get("miner")) for arm in arms}
    if question:
        mined = ", ".join(sorted({miners[row["arm"]] for row in counting}))
        controls = ", ".join(sorted({miners[name] for name in names}))
        head = f"{question[:-2]} ({mined} against {controls}{place}, {words(metric)}): "
    else:
        against = names[0] if len(names) == 1 else "their baselines"
        head = f"{words(metric).capitalize()} against {against}{place}: "
    by_answer = {kind: [r for r in counting if r["answer"] == kind] for kind in _ORDER}
    parts = []
    for kind, told in by_answer.items():
        if told:
            parts.append(_part(kind, told, len(counting), metric, len(rows)))
    depends = "it depends: " if by_answer[HELPS] and by_answer[COSTS] else ""
    return f"{head}{depends}{'; '.join(parts)}."


_ORDER = (HELPS, COSTS, UNSURE, NONE, UNKNOWN)


def _part(kind: str, told: list[dict], total: int, metric: str, corrected: int) -> str:
    u = unit(metric)
    if kind in (HELPS, COSTS):
        verb = "it helps" if kind == HELPS else "it costs"
        best = sorted(told, key=lambda row: -abs(row["difference"]))
        shown = ", ".join(
            f"{u.size(row['difference'])} [{u.difference(row['low'], word=False)}, "
            f"{u.difference(row['high'], word=False)}] with {row['arm']}"
            for row in best[:3]
        )
        more = f" and {len(told) - 3} more" if len(told) > 3 else ""
        by = "by " if kind == HELPS else ""
        return f"{verb} {by}{shown}{more} ({_seeds(told)})"
    if len(told) == 1:
        return f"{_finding(told[0], metric, corrected)} with {told[0]['arm']}"
    every = "all" if len(told) == total else f"{len(told)} of"
    every = f"{every} {total}"
    if kind == UNKNOWN:
        return f"nothing can be said of {every} comparisons (no interval)"
    least, most = min(r["difference"] for r in told), max(r["difference"] for r in told)
    spread = f"{u.difference(least, word=False)} to {u.difference(most)}"
    what = "no difference seen" if kind == NONE else "not sure after Holm's correction"
    widest = (min(r["low"] for r in told), max(r["high"] for r in told))
    ends = f"[{u.difference(widest[0], word=False)}, {u.difference(widest[1], word=False)}]"
    return f"{what} in {every} comparisons ({spread}, intervals within {ends}, {_seeds(told)})"


def _counting(rows: list[dict], arms: Sequence[Arm]) -> tuple[list[dict], str]:
    """The comparisons that answer the question: of miners that look for hard examples with a
    control, where the study has such; otherwise all."""
    miners = {arm.label: arm.values.get("miner") for arm in arms}
    hard = [
        r for r in rows if miners[r["baseline"]] in CONTROLS and miners[r["arm"]] not in CONTROLS
    ]
    return (hard, "Learning from the hard examples: ") if hard else (rows, "")


def _budget(rows: Sequence[Mapping], spent: Mapping[str, float]) -> str:
    """Whether the arms compared had backpropagated as many samples (within 1 %)."""
    pairs = [(spent.get(r["arm"], math.nan), spent.get(r["baseline"], math.nan)) for r in rows]
    if any(math.isnan(x) for pair in pairs for x in pair):
        return ""
    if all(abs(a - b) <= 0.01 * max(a, b) for a, b in pairs):
        amounts = {f"{a:,.0f}" for a, _ in pairs}
        exact = f" ({amounts.pop()})" if len(amounts) == 1 else ""
        return f" at equal samples backpropagated{exact}"
    if len(pairs) == 1:
        a, b = pairs[0]
        return f" {UNEQUAL} ({a:,.0f} against {b:,.0f})"
    return f" {UNEQUAL}"


def _seeds(rows: Sequence[Mapping]) -> str:
    least, most = min(r["n"] for r in rows), max(r["n"] for r in rows)
    return f"{most} seed{'s' if most != 1 else ''}" if least == most else f"{least} to {most} seeds"
