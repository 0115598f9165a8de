"""Answers: it helps, it costs, no difference, not sure. And the headline over all of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minesweep.reporting.analyse.arms import AT_EQUAL_COST, CONTROLS, Arm
from minesweep.reporting.read.study import EQUAL_COST
from minesweep.reporting.units import unit, words
from minesweep.statistics.sequential import ALPHA, COSTS, HELPS, SAME, UNSURE

NONE, UNKNOWN = "no difference seen", "cannot be said"
MOST_WORDS = 25
"""Of a headline."""


@dataclass(frozen=True)
class Answer:
    """The answer to one comparison of an arm with its baseline.

    Every rule returns this: the one for a fixed number of seeds (:func:`fixed`) and the one that
    adds seeds until the answer is sure.

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


@dataclass(frozen=True)
class Price:
    """What an arm spent, as a multiple of its baseline's; NaN if the runs do not say.

    Attributes:
        scored: Examples scored (forward passes).
        learned: Examples backpropagated.
    """

    scored: float = math.nan
    learned: float = math.nan

    def __str__(self) -> str:
        """``4 x the examples scored``; empty if the price is the baseline's."""
        told = [
            f"{ratio:.3g} x the examples {what}"
            for ratio, what in ((self.scored, "scored"), (self.learned, "backpropagated"))
            if abs(ratio - 1) >= 0.01
        ]
        return " and ".join(told)


def fixed(row: Mapping[Any, Any], smaller_wins: bool = False) -> Answer:
    """The answer after a number of seeds that was fixed in advance.

    Args:
        row: A row of :func:`minesweep.statistics.tables.compare`.
        smaller_wins: Whether a smaller value of the measure is better.
    """
    low, high, difference = row["low"], row["high"], row["difference"]
    if math.isnan(low):
        kind = UNKNOWN
    elif low <= 0 <= high:
        kind = NONE
    elif row["p_holm"] >= ALPHA:
        kind = UNSURE
    else:
        kind = HELPS if (difference > 0) != smaller_wins else COSTS
    return Answer(row["arm"], row["baseline"], kind, difference, low, high, int(row["n"]))


def headline(
    answers: Sequence[Answer],
    arms: Sequence[Arm],
    metric: str,
    prices: Mapping[str, Price],
    smaller_wins: bool = False,
) -> str:
    """The study's answer in at most ``MOST_WORDS`` words: the best arm, its gain, its price.

    Where arms that look for hard examples are compared with controls, those comparisons count
    alone.

    Args:
        answers: One for each comparison on the main metric.
        arms: All arms.
        metric: The main metric.
        prices: By the arm's label.
        smaller_wins: Whether a smaller value of the metric is better.
    """
    if not answers:
        why = "no arm has a baseline" if len(arms) > 1 else "there is one arm"
        return f"Nothing is compared: {why}. Name a baseline with --baseline."
    miners = {arm.label: arm.values.get("miner") for arm in arms}
    mining = [
        a for a in answers if miners[a.baseline] in CONTROLS and miners[a.arm] not in CONTROLS
    ]
    counting = mining or list(answers)
    if pairs := _cost_pairs(counting):
        return _two_answers(
            min(pairs, key=lambda pair: _rank_of_two(pair, smaller_wins)), mining, metric
        )
    best = _best(counting, smaller_wins)
    spent = str(prices.get(best.arm, ""))
    price = f", for {spent}" if spent else ""
    if any(arm.label == best.arm and arm.values.get(EQUAL_COST) is not None for arm in arms):
        price = " at equal cost"
    counts = _counts(counting, best.kind)
    for of_metric, seeds, told in ((1, 1, 1), (0, 1, 1), (0, 0, 1), (0, 0, 0)):
        text = _sentence(
            best,
            bool(mining),
            metric,
            counts if told else "",
            f" of {words(metric)}" if of_metric else "",
            f", {best.n} seed{'s' if best.n != 1 else ''}" if seeds else "",
            price,
        )
        if len(text.split()) <= MOST_WORDS:
            return text
    return " ".join(text.split()[: MOST_WORDS - 1]) + " ..."


def _cost_pairs(answers: Sequence[Answer]) -> list[tuple[Answer, Answer]]:
    """Each arm that was also run at its baseline's cost: at equal samples, and at equal cost."""
    by_arm = {answer.arm: answer for answer in answers}
    return [
        (answer, by_arm[f"{answer.arm} {AT_EQUAL_COST}"])
        for answer in answers
        if f"{answer.arm} {AT_EQUAL_COST}" in by_arm
    ]


def _rank(answer: Answer, smaller_wins: bool) -> tuple[int, float]:
    """Orders by how favourable the answer is, then by the gain."""
    order = (HELPS, UNSURE, SAME, NONE, COSTS, UNKNOWN)
    gain = -answer.difference if smaller_wins else answer.difference
    # A loss that is not sure is no reason to lead with it.
    kind = COSTS if answer.kind == UNSURE and gain < 0 else answer.kind
    return order.index(kind), math.inf if math.isnan(gain) else -gain


def _rank_of_two(pair: tuple[Answer, Answer], smaller_wins: bool) -> tuple[int, float]:
    (samples, loss), (cost, _) = (_rank(answer, smaller_wins) for answer in pair)
    return samples + cost, loss


def _best(answers: Sequence[Answer], smaller_wins: bool) -> Answer:
    """The largest gain of the most favourable kind."""
    return min(answers, key=lambda answer: _rank(answer, smaller_wins))


def _counts(answers: Sequence[Answer], kind: str) -> str:
    """``in 3 of 8 comparisons, costs in 2``; empty for one comparison."""
    if len(answers) == 1:
        return ""
    held = Counter(answer.kind for answer in answers)
    told = f" in {held[kind]} of {len(answers)} comparisons"
    return told + (f", costs in {held[COSTS]}" if held[COSTS] and kind != COSTS else "")


def _two_answers(pair: tuple[Answer, Answer], mining: Sequence[Answer], metric: str) -> str:
    """``Mining helps: ohem k=64 +1.7 points at equal samples; at equal cost it helps: +0.8.``"""
    u = unit(metric)
    samples, cost = pair
    gain = u.interval(samples.difference, samples.low, samples.high)
    at_cost = u.interval(cost.difference, cost.low, cost.high, word=False)
    told = {
        HELPS: "it helps",
        COSTS: "it costs",
        SAME: "it makes none",
        NONE: "none seen",
        UNSURE: "not sure",
        UNKNOWN: "unknown",
    }[cost.kind]
    if samples.kind != SAME and cost.kind == SAME:
        told = f"no difference of {u.size(cost.least)}"
    first, arm = _told(samples, bool(mining), metric)
    other = [word for word in samples.baseline.split() if word not in samples.arm.split()]
    over = f" over {' '.join(other)}" if other else ""
    end = f" at equal samples; at equal cost {told}: {at_cost}."
    full, short = (f"{first}: {arm}{gain}{control}{end}" for control in (over, ""))
    return full if len(full.split()) <= MOST_WORDS else short


def _told(answer: Answer, mining: bool, metric: str) -> tuple[str, str]:
    """How the answer begins, and the arm where that does not name it."""
    subject = "Mining" if mining else answer.arm
    told = {
        HELPS: f"{subject} helps",
        COSTS: f"{subject} costs",
        SAME: f"{subject} makes no difference of {unit(metric).size(answer.least)} or more",
        NONE: "No difference seen",
        UNSURE: "Not sure yet",
        UNKNOWN: "Nothing can be said",
    }[answer.kind]
    return told, "" if told.startswith(answer.arm) else f"{answer.arm} "


def _sentence(
    best: Answer, mining: bool, metric: str, counts: str, of_metric: str, seeds: str, price: str
) -> str:
    u = unit(metric)
    gain = u.interval(best.difference, best.low, best.high).replace(" [", f"{of_metric} [", 1)
    # "ohem k=64 over random_k": the words in which the two differ tell which baseline it is.
    other = [word for word in best.baseline.split() if word not in best.arm.split()]
    end = f"{gain} over {' '.join(other) or 'its baseline'}{seeds}{price}."
    told, arm = _told(best, mining, metric)
    return f"{told}{counts}: {arm}{end}"
