"""Answers: it helps, it costs, no difference, not sure. The headline, and what to train with."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from minesweep.reporting.analyse.arms import AT_EQUAL_COST, controls
from minesweep.reporting.read.study import EQUAL_COST
from minesweep.statistics.sequential import ALPHA, COSTS, HELPS, SAME, UNSURE
from minesweep.units import unit, words

NONE, UNKNOWN = "no difference seen", "cannot be said"
MOST_WORDS = 25
"""Of a headline."""
TOLD = {
    HELPS: ("{} helps", "it helps"),
    UNSURE: ("Not sure yet", "not sure"),
    SAME: ("{} makes no difference of {} or more", "it makes none"),
    NONE: ("No difference seen", "none seen"),
    COSTS: ("{} costs", "it costs"),
    UNKNOWN: ("Nothing can be said", "unknown"),
}
"""How an answer is told, and how that at equal cost is, the most favourable one first."""


Answer = Any
"""One answer: a row of :attr:`minesweep.reporting.analyse.report.Report.answers`."""


def fixed(row: Mapping[Any, Any], smaller_wins: bool = False) -> str:
    """The kind of an answer after a number of seeds that was fixed in advance.

    A difference is seen if its interval leaves out zero and its corrected p is below ``ALPHA``.
    ``row`` is one of :func:`minesweep.statistics.tables.compare`.
    """
    if math.isnan(row["low"]):
        return UNKNOWN
    if row["low"] <= 0 <= row["high"]:
        return NONE
    if row["p_holm"] >= ALPHA:
        return UNSURE
    return HELPS if (row["difference"] > 0) != smaller_wins else COSTS


def headline(
    answers: pd.DataFrame,
    arms: pd.DataFrame,
    metric: str,
    prices: pd.DataFrame,
    smaller_wins: bool = False,
) -> str:
    """The study's answer in at most ``MOST_WORDS`` words: the best arm, its gain, its price.

    Where arms that look for hard examples are compared with controls, those comparisons count
    alone.

    Args:
        answers: One row a comparison on ``metric``, the main one.
        arms: All arms.
        prices: See :attr:`minesweep.reporting.analyse.report.Report.prices`.
    """
    if answers.empty:
        why = "no arm has a baseline" if len(arms) > 1 else "there is one arm"
        return f"Nothing is compared: {why}. Name a baseline with --baseline."
    gains = -answers["difference"] if smaller_wins else answers["difference"]
    # A loss that is not sure is no reason to lead with it.
    kinds = answers["answer"].mask((answers["answer"] == UNSURE) & (gains < 0), COSTS)
    ranked = answers.assign(place=kinds.map(list(TOLD).index), loss=-gains.fillna(-math.inf))
    control = controls(arms)
    mining = ranked[ranked["baseline"].isin(control) & ~ranked["arm"].isin(control)]
    subject = "" if mining.empty else "Mining"
    counting: list[Answer] = list((mining if subject else ranked).itertuples(index=False))
    # Each arm that was also run at its baseline's cost: at equal samples, and at equal cost.
    twins = {a.arm: a for a in counting}
    pairs = [(a, twin) for a in counting if (twin := twins.get(f"{a.arm} {AT_EQUAL_COST}"))]
    if pairs:
        pair = min(pairs, key=lambda pair: (pair[0].place + pair[1].place, pair[0].loss))
        return _two_answers(*pair, subject, metric)
    best = min(counting, key=lambda answer: (answer.place, answer.loss))
    spent = prices.loc[best.arm].items()
    told = [f"{x:.3g} x the examples {what}" for what, x in spent if abs(x - 1) >= 0.01]
    price = f", for {' and '.join(told)}" if told else ""
    if EQUAL_COST in arms and arms.at[best.arm, EQUAL_COST] is not None:
        price = " at equal cost"
    return _one_answer(best, subject, metric, _counts(counting, best.answer), price)


def _counts(answers: Sequence[Answer], kind: str) -> str:
    """``in 3 of 8 comparisons, costs in 2``; empty for one comparison."""
    held = Counter(row.answer for row in answers)
    told = f" in {held[kind]} of {len(answers)} comparisons" if len(answers) > 1 else ""
    return told + (f", costs in {held[COSTS]}" if held[COSTS] and kind != COSTS else "")


def _one_answer(best: Answer, subject: str, metric: str, counts: str, price: str) -> str:
    """``Mining helps in 3 of 8 comparisons: ohem k=64 +1.7 points over random_k, 5 seeds.``"""
    gain = unit(metric).interval(best.difference, best.low, best.high)
    named = gain.replace(" [", f" of {words(metric)} [", 1)
    seeds = f", {best.n} seed{'s' if best.n != 1 else ''}"
    first, arm = _told(best, subject, metric)
    text, over = "", _other(best) or "its baseline"
    shorter = ((counts, named, seeds), (counts, gain, seeds), (counts, gain, ""), ("", gain, ""))
    for counted, gained, of_seeds in shorter:
        text = f"{first}{counted}: {arm}{gained} over {over}{of_seeds}{price}."
        if len(text.split()) <= MOST_WORDS:
            return text
    return " ".join(text.split()[: MOST_WORDS - 1]) + " ..."


def _two_answers(samples: Answer, cost: Answer, subject: str, metric: str) -> str:
    """``Mining helps: ohem k=64 +1.7 points at equal samples; at equal cost it helps: +0.8.``"""
    u = unit(metric)
    gain = u.interval(samples.difference, samples.low, samples.high)
    at_cost = u.interval(cost.difference, cost.low, cost.high, word=False)
    told = TOLD[cost.answer][1]
    if samples.answer != SAME and cost.answer == SAME:
        told = f"no difference of {u.size(cost.least)}"
    first, arm = _told(samples, subject, metric)
    end = f" at equal samples; at equal cost {told}: {at_cost}."
    control = f" over {other}" if (other := _other(samples)) else ""
    full = f"{first}: {arm}{gain}{control}{end}"
    return full if len(full.split()) <= MOST_WORDS else f"{first}: {arm}{gain}{end}"


def _told(row: Answer, subject: str, metric: str) -> tuple[str, str]:
    """How the answer begins, and the arm where that does not name it."""
    told = TOLD[row.answer][0].format(subject or row.arm, unit(metric).size(row.least))
    return told, "" if told.startswith(row.arm) else f"{row.arm} "


def _other(row: Answer) -> str:
    """The words of the baseline that the arm lacks: ``ohem k=64`` over ``random_k``."""
    return " ".join(word for word in row.baseline.split() if word not in row.arm.split())


def advise(
    answers: pd.DataFrame,
    arms: pd.DataFrame,
    means: pd.Series,
    smaller_wins: bool,
    commands: Mapping[str, str],
) -> str:
    """``Use ohem k=64: python src/train.py ...``, or ``Use none``; empty without equal cost.

    An arm that is compared at equal cost can be used if it helps. So can each control. Of these the
    best mean is taken: a miner that beats its own control can still lose to another control.

    Args:
        answers: One row a comparison on the main metric.
        arms: All arms.
        means: Of the main metric, by the arm's label.
        commands: How to train each arm, where that is known.
    """
    at_cost = {*arms.index[arms[EQUAL_COST].notna()]} if EQUAL_COST in arms else set()
    fair = answers[answers["arm"].isin(at_cost)]
    unmined = controls(arms) | {*answers["baseline"]}
    usable = unmined | {*fair.loc[fair["answer"] == HELPS, "arm"]}
    known = means[means.index.isin(usable)].dropna()
    if fair.empty or known.empty:
        return ""
    best = str(known.idxmin() if smaller_wins else known.idxmax())
    told = f"Use {best.removesuffix(f' {AT_EQUAL_COST}')}"
    if best in unmined:
        told = f"Use none: {best} is best without mining"
        if unsure := ((fair["answer"] == UNSURE) & ~fair["arm"].isin(unmined)).sum():
            told += f" ({unsure} of {len(fair)} comparisons at equal cost are not sure)"
    return f"{told}. To train with it: {commands[best]}" if best in commands else f"{told}."
