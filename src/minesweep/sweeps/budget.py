"""``--budget 2h`` or ``--budget 100``: what a study may spend."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from minesweep.errors import UserError
from minesweep.units import duration

if TYPE_CHECKING:
    from minesweep.sweeps.plan import Trial

UNITS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
}
"""Seconds."""


@dataclass(frozen=True)
class Budget:
    """What the trials of a study may take, those of earlier calls included; None for no limit.

    Attributes:
        trials: Their number.
        seconds: Their training times added up, divided by the number that run at a time.
    """

    trials: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """``100`` for trials; ``90s``, ``30m``, ``2h``, ``1h30m`` or ``1.5h`` for time.

        Raises:
            UserError: It is neither.
        """
        if text is None:
            return cls()
        text = str(text).strip().lower()
        if re.fullmatch(r"\d+", text) and int(text) > 0:
            return cls(trials=int(text))
        parts = re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text)
        whole = bool(re.fullmatch(r"(\d+(\.\d+)?\s*[a-z]+\s*)+", text))
        whole = whole and all(word in UNITS for _, word in parts)
        seconds = sum(float(number) * UNITS.get(word, 0) for number, word in parts)
        if not whole or seconds <= 0:
            raise UserError(
                f"--budget {text} is neither a time, such as 2h, 30m or 90s, "
                "nor a number of trials, such as 100"
            )
        return cls(seconds=seconds)

    def refuses(self, begun: Collection[Trial], further: int, expected: float, jobs: int) -> str:
        """Why further trials do not fit; empty where they do.

        Args:
            begun: The trials so far.
            further: How many more.
            expected: Seconds that they will take, added up.
            jobs: Trials at a time.
        """
        if self.trials is not None:
            count = sum(trial.finished for trial in begun)
            if count + further > self.trials:
                return (
                    f"{further} more trials do not fit into the budget of {self.trials} trials, "
                    f"{count} of which are spent"
                )
        if self.seconds is not None:
            spent = seconds_of(begun) / jobs
            if spent + expected / jobs > self.seconds:
                return (
                    f"{further} more trials, about {duration(expected / jobs)}, do not fit into "
                    f"the budget of {duration(self.seconds)}, {duration(spent)} of which are spent"
                )
        return ""


def seconds_of(trials: Collection[Trial]) -> float:
    """The training times of trials, added up; of unfinished ones up to their last checkpoint."""
    return sum(float(trial.status.get("seconds") or 0) for trial in trials)
