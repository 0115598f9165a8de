"""The notes of a report: what a reader has to know, one sentence each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd

from minesweep.errors import UserError
from minesweep.reporting.analyse.arms import show, shown_values
from minesweep.statistics.samples import POWER, resolvable, two_groups
from minesweep.tracking.reading import UnreadableError
from minesweep.units import unit, words


@contextmanager
def noted(notes: list[str], told: str, unless: bool = False) -> Iterator[None]:
    """Makes a note of what cannot be done; ``unless`` it has to be."""
    try:
        yield
    except (UserError, UnreadableError) as error:
        if unless:
            raise
        notes.append(f"{told}: {error}.")


def of_choices(table: pd.DataFrame, key: str, validation: str) -> list[str]:
    """Which values were tried, and where the best of them may not be the best there is."""
    choices: list[Any] = list(table.itertuples())
    tried = shown_values(value for c in choices for value in c.tried)
    notes = [
        f"{key} was chosen for each arm on {words(validation)} among "
        f"{', '.join(tried)}; only the runs of the chosen value are in the table."
    ]
    counts = {c.arm: len({*c.tried, *c.lost}) for c in choices}
    if len(set(counts.values())) > 1:
        held = "; ".join(f"{arm} {count}" for arm, count in counts.items())
        notes.append(
            f"Unequal numbers of values of {key} were tried, which favours the arms with more: "
            f"{held}."
        )
    for c in choices:
        lost = {value: f"{show(value)} ({n} seeds failed)" for value, n in c.lost.items()}
        if c.value in lost:
            notes.append(f"Warning: {c.arm}: the chosen {key} has failed seeds: {lost[c.value]}.")
        elif c.better in lost:
            notes.append(
                f"{c.arm}: {key} {lost[c.better]} has the best mean of the seeds that finished, "
                "and was not chosen."
            )
        if gone := [told for value, told in lost.items() if value not in c.tried]:
            notes.append(f"{c.arm}: no seed of {key} finished with a result at {', '.join(gone)}.")
    if edge := [f"{c.arm} ({show(c.value)})" for c in choices if c.at_edge]:
        notes.append(f"Chosen at the edge of what was tried: {'; '.join(edge)}.")
    if apart := [c.arm for c in choices if not c.seeds]:
        notes.append(f"Values were compared on no shared seeds: {'; '.join(apart)}.")
    return notes


def of_seeds(
    runs: pd.DataFrame, arms: Iterable[str], metric: str, complete: bool = True
) -> list[str]:
    """Seeds that agree, or fall into two groups; those that arms lack, if all are to have them."""
    every, notes = set(runs["seed"]), []
    counted = runs.dropna(subset=[metric]).set_index("seed").astype({metric: float})
    by_arm = dict(list(counted.groupby("arm")[metric]))
    held = {arm: by_arm.get(arm, counted[metric][:0]) for arm in arms}
    lacking = {label: sorted(every - set(own.index)) for label, own in held.items()}
    short = [f"{arm} lacks {', '.join(map(str, seeds))}" for arm, seeds in lacking.items() if seeds]
    if short and complete:
        notes.append(f"Not every arm has all {len(every)} seeds: {'; '.join(short)}.")
    if len(every) == 1 and complete:
        notes.append("One seed: there are no intervals, and nothing can be concluded.")
    if equal := [arm for arm, x in held.items() if len(x) > 1 and x.nunique() == 1]:
        notes.append(
            f"No interval, because the result is the same on every seed: {'; '.join(equal)}."
        )
    u = unit(metric)
    for arm, values in held.items():
        if (apart := two_groups(values.to_numpy())) is not None:
            told = ", ".join(f"seed {seed} has {u.value(x)}" for seed, x in values[apart].items())
            rest = values[~apart]
            notes.append(
                f"Warning: the seeds of {arm} fall into two groups, and its interval means little: "
                f"{told}, the others {u.value(rest.min())} to {u.value(rest.max())}."
            )
    return notes


def of_comparisons(main: pd.DataFrame, metric: str) -> list[str]:
    """Answers that hang on one seed, and what the comparisons could have shown."""
    notes = []
    without = main.set_index("arm")["without"].items()
    if hanging := [f"{arm} (seed {seeds})" for arm, seeds in without if seeds]:
        notes.append(f"The answer changes if one seed is left out: {'; '.join(hanging)}.")
    halves = zip((main["high"] - main["low"]) / 2, main["n"], strict=True)
    if least := [resolvable(half, n) for half, n in halves if half > 0]:
        low, high = (unit(metric).size(f(least)) for f in (min, max))
        notes.append(
            f"With the spread and the number of seeds seen here, the difference that would be seen "
            f"{POWER:.0%} of the time, uncorrected, is "
            + (f"{low}." if low == high else f"{low} to {high}, by the arm.")
        )
    return notes
