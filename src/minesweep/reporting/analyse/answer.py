"""Answers: it helps, it costs, no difference, not sure. The headline, and what to train with."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minesweep.reporting.analyse.arms import AT_EQUAL_COST, CONTROLS, Arm
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


@dataclass(frozen=True)
class Answer:
    """The answer to one comparison of an arm with its baseline.

    Attributes:
        arm: The arm's label.
        baseline: The baseline's label.
        kind: ``HELPS``, ``COSTS``, ``SAME`` (the interval lies within the smallest difference
            that matters), ``NONE`` (the interval holds zero), ``UNSURE`` or ``UNKNOWN`` (there is
            no interval).
        difference: Mean paired difference, in the metric's own unit.
        low: Lower end of its interval; NaN if there is none.
        high: Upper end.
        n: Number of seeds.
        least: The smallest difference that matters, of the rules that have one.
    """

    arm: str
    baseline: str
    kind: str
    difference: float
    low: float
    high: float
    n: int
    least: float = math.nan

    @property
    def other(self) -> str:
        """The words of the baseline that the arm lacks: ``ohem k=64`` over ``random_k``."""
        return " ".join(word for word in self.baseline.split() if word not in self.arm.split())


def fixed(row: Mapping[Any, Any], smaller_wins: bool = False) -> str:
    """The kind of an answer after a number of seeds that was fixed in advance.

    A difference is seen if its interval leaves out zero and its corrected p is below ``ALPHA``.

    Args:
        row: A row of :func:`minesweep.statistics.tables.compare`.
        smaller_wins: Whether a smaller value of the measure is better.
    """
    if math.isnan(row["low"]):
        return UNKNOWN
    if row["low"] <= 0 <= row["high"]:
        return NONE
    if row["p_holm"] >= ALPHA:
        return UNSURE
    return HELPS if (row["difference"] > 0) != smaller_wins else COSTS


def headline(
    answers: Sequence[Answer],
    arms: Sequence[Arm],
    metric: str,
    prices: Mapping[str, Mapping[str, float]],
    smaller_wins: bool = False,
) -> str:
    """The study's answer in at most ``MOST_WORDS`` words: the best arm, its gain, its price.

    Where arms that look for hard examples are compared with controls, those comparisons count
    alone.

    Args:
        answers: One for each comparison on the main metric.
        arms: All arms.
        metric: The main metric.
        prices: By the arm's label, the multiple of its baseline's examples that it spent, by what
            was done with them: ``scored`` (forward passes) or ``backpropagated``; NaN if unknown.
        smaller_wins: Whether a smaller value of the metric is better.
    """
    if not answers:
        why = "no arm has a baseline" if len(arms) > 1 else "there is one arm"
        return f"Nothing is compared: {why}. Name a baseline with --baseline."
    by_label = {arm.label: arm.values for arm in arms}
    controls = {label for label, values in by_label.items() if values.get("miner") in CONTROLS}
    mining = [a for a in answers if a.baseline in controls and a.arm not in controls]
    counting, subject = mining or list(answers), "Mining" if mining else ""
    # Each arm that was also run at its baseline's cost: at equal samples, and at equal cost.
    twins = {a.arm: a for a in counting}
    pairs = [(a, twin) for a in counting if (twin := twins.get(f"{a.arm} {AT_EQUAL_COST}"))]
    if pairs:
        samples, cost = min(pairs, key=lambda pair: _rank_of_two(pair, smaller_wins))
        return _two_answers(samples, cost, subject, metric)
    best = min(counting, key=lambda answer: _rank(answer, smaller_wins))
    spent = prices.get(best.arm, {}).items()
    told = [f"{x:.3g} x the examples {what}" for what, x in spent if abs(x - 1) >= 0.01]
    price = f", for {' and '.join(told)}" if told else ""
    if by_label.get(best.arm, {}).get(EQUAL_COST) is not None:
        price = " at equal cost"
    return _one_answer(best, subject, metric, _counts(counting, best.kind), price)


def _rank(answer: Answer, smaller_wins: bool) -> tuple[int, float]:
    """Orders by how favourable the answer is, then by the gain."""
    gain = -answer.difference if smaller_wins else answer.difference
    # A loss that is not sure is no reason to lead with it.
    kind = COSTS if answer.kind == UNSURE and gain < 0 else answer.kind
    return list(TOLD).index(kind), math.inf if math.isnan(gain) else -gain


def _rank_of_two(pair: tuple[Answer, Answer], smaller_wins: bool) -> tuple[int, float]:
    """Orders by both answers; of equal ones by the gain at equal samples."""
    (samples, loss), (cost, _) = (_rank(answer, smaller_wins) for answer in pair)
    return samples + cost, loss


def _counts(answers: Sequence[Answer], kind: str) -> str:
    """``in 3 of 8 comparisons, costs in 2``; empty for one comparison."""
    if len(answers) == 1:
        return ""
    held = Counter(answer.kind for answer in answers)
    told = f" in {held[kind]} of {len(answers)} comparisons"
    return told + (f", costs in {held[COSTS]}" if held[COSTS] and kind != COSTS else "")


def _one_answer(best: Answer, subject: str, metric: str, counts: str, price: str) -> str:
    """``Mining helps in 3 of 8 comparisons: ohem k=64 +1.7 points over random_k, 5 seeds.``"""
    gain = unit(metric).interval(best.difference, best.low, best.high)
    named = gain.replace(" [", f" of {words(metric)} [", 1)
    seeds = f", {best.n} seed{'s' if best.n != 1 else ''}"
    first, arm = _told(best, subject, metric)
    text, over = "", best.other or "its baseline"
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
    told = TOLD[cost.kind][1]
    if samples.kind != SAME and cost.kind == SAME:
        told = f"no difference of {u.size(cost.least)}"
    first, arm = _told(samples, subject, metric)
    end = f" at equal samples; at equal cost {told}: {at_cost}."
    control = f" over {samples.other}" if samples.other else ""
    full = f"{first}: {arm}{gain}{control}{end}"
    return full if len(full.split()) <= MOST_WORDS else f"{first}: {arm}{gain}{end}"


def _told(answer: Answer, subject: str, metric: str) -> tuple[str, str]:
    """How the answer begins, and the arm where that does not name it."""
    told = TOLD[answer.kind][0].format(subject or answer.arm, unit(metric).size(answer.least))
    return told, "" if told.startswith(answer.arm) else f"{answer.arm} "


def advise(
    answers: Sequence[Answer],
    arms: Sequence[Arm],
    means: Mapping[str, float],
    smaller_wins: bool,
    commands: Mapping[str, str],
) -> str:
    """``Use ohem k=64: python src/train.py ...``, or ``Use none``; empty without equal cost.

    An arm that is compared at equal cost can be used if it helps. So can each control. Of these the
    best mean is taken: a miner that beats its own control can still lose to another control.

    Args:
        answers: Those on the main metric.
        arms: All arms.
        means: Of the main metric, by the arm's label.
        smaller_wins: Whether a smaller value is better.
        commands: How to train each arm, where that is known.
    """
    costly = {arm.label for arm in arms if arm.values.get(EQUAL_COST) is None}
    fair = [answer for answer in answers if answer.arm not in costly]
    controls = {arm.label for arm in arms if arm.values.get("miner") in CONTROLS}
    controls |= {answer.baseline for answer in answers}
    usable = controls | {answer.arm for answer in fair if answer.kind == HELPS}
    known = {label: means[label] for label in usable if not math.isnan(means.get(label, math.nan))}
    if not fair or not known:
        return ""
    best = (min if smaller_wins else max)(known, key=known.__getitem__)
    told = f"Use {best.removesuffix(f' {AT_EQUAL_COST}')}"
    if best in controls:
        told = f"Use none: {best} is best without mining"
        if unsure := sum(a.kind == UNSURE for a in fair if a.arm not in controls):
            told += f" ({unsure} of {len(fair)} comparisons at equal cost are not sure)"
    return f"{told}. To train with it: {commands[best]}" if best in commands else f"{told}."
