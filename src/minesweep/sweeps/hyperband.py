"""``early_terminate: hyperband``: a stop rule inside the run that reads its siblings' journals.

Li et al., Hyperband (arXiv 1603.06560), as Weights & Biases runs it: no rounds and no waiting, a
run is compared with whatever its siblings have reached so far. So it holds under every launcher.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from minesweep.errors import UserError
from minesweep.sweeps.history import History
from minesweep.words import nearest


@dataclass(frozen=True)
class Rule:
    """When to compare, and how many go on.

    Attributes:
        min_iter: The first bracket: brackets are ``min_iter * eta**i``.
        max_iter, s: Or counted from the end: the s brackets ``max_iter / eta**i``.
        eta: At a bracket the best 1/eta of the runs go on.
        strict: Judge a run by its value at the bracket; else by its best value so far.

    An iteration is one logged value of the metric, not an update.
    """

    min_iter: int | None = None
    max_iter: int | None = None
    s: int | None = None
    eta: float = 3.0
    strict: bool = False

    def __post_init__(self) -> None:
        if self.eta <= 1:
            raise UserError(f"early_terminate.eta={self.eta} must be more than 1")
        if (self.min_iter is None) == (self.max_iter is None):
            raise UserError("early_terminate: give min_iter, or max_iter with s")
        if self.max_iter is not None and self.s is None:
            raise UserError("early_terminate: max_iter needs s, how many brackets there are")
        if not self.reached(max(self.min_iter or 0, self.max_iter or 0)):
            raise UserError("early_terminate has no bracket: raise min_iter or max_iter")

    def reached(self, iterations: int) -> list[int]:
        """The brackets that a run with that many iterations has reached, ascending."""
        if self.min_iter is not None:
            first = self.min_iter
            if not 1 <= first <= iterations:
                return []
            # One more than the logarithm says, because the logarithm rounds.
            count = int(math.log(iterations / first, self.eta)) + 2
            brackets = [int(first * self.eta**i) for i in range(count)]
        else:
            assert self.max_iter is not None
            assert self.s is not None
            brackets = [int(self.max_iter / self.eta**i) for i in range(self.s, 0, -1)]
        return [bracket for bracket in brackets if 1 <= bracket <= iterations]


def should_stop(
    history: Sequence[float], siblings: Iterable[Sequence[float]], rule: Rule, goal: str
) -> bool:
    """Whether a run is outside the best 1/eta of those that reached its last bracket.

    Args:
        history: The run's values of the metric, one an iteration. NaN counts as the worst.
        siblings: The same of every other run of the sweep, finished or not.
        rule: The brackets.
        goal: ``"minimize"`` or ``"maximize"``.

    The threshold is W&B's: of m values in order, the one at place floor(m / eta), counted from
    0. Equal values go on.
    """
    reached = rule.reached(len(history))
    if not reached:
        return False
    bracket = reached[-1]
    own = _losses(history, goal)
    others = [_losses(values, goal) for values in siblings]
    at_bracket = sorted([own[bracket - 1]] + [h[bracket - 1] for h in others if len(h) >= bracket])
    threshold = at_bracket[int(len(at_bracket) / rule.eta)]
    return (own[bracket - 1] if rule.strict else min(own)) > threshold


def _losses(history: Sequence[float], goal: str) -> list[float]:
    sign = -1.0 if goal == "maximize" else 1.0
    return [math.inf if math.isnan(value) else sign * value for value in history]


@dataclass
class Hyperband:
    """The rule over the runs of one study folder: ``trainer.early_terminate``.

    Siblings are the runs in the same folder with the same rule and the same data.

    Args:
        folder: The run's own folder; its siblings lie beside it.
        metric: A metric of the journal.
        goal: ``"minimize"`` or ``"maximize"``.
        min_iter, max_iter, s, eta, strict: See ``Rule``.
    """

    folder: Path
    metric: str
    goal: str = "minimize"
    min_iter: int | None = None
    max_iter: int | None = None
    s: int | None = None
    eta: float = 3.0
    strict: bool = False
    _siblings: dict[Path, History | None] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.folder = Path(self.folder)
        self._rule = Rule(self.min_iter, self.max_iter, self.s, self.eta, self.strict)
        self._own = History(self.folder, self.metric)

    def stop(self, step: int, row: Mapping[str, float]) -> bool:
        """Whether to stop the run, which is about to log ``row`` at ``step``.

        Raises:
            UserError: The row does not hold the metric.
        """
        if self.metric not in row:
            known = [name for name, value in row.items() if isinstance(value, int | float)]
            guess = nearest(self.metric, known) or f"; known: {', '.join(known)}"
            raise UserError(f"early_terminate: metric {self.metric} is not logged{guess}")
        # The journal holds the history also of a run that was resumed.
        history = {**self._own.read(), step: float(row[self.metric])}
        others = [list(sibling.read().values()) for sibling in self._find_siblings()]
        return should_stop(list(history.values()), others, self._rule, self.goal)

    def _find_siblings(self) -> list[History]:
        own = None
        for config in self.folder.parent.glob("*/config.yaml"):
            folder = config.parent
            if folder == self.folder or folder in self._siblings:
                continue
            own = own or _comparable(self.folder / "config.yaml")
            same = own is not None and own == _comparable(config)
            self._siblings[folder] = History(folder, self.metric) if same else None
        return [history for history in self._siblings.values() if history is not None]


def _comparable(config: Path) -> object:
    """What two runs must share so that their values can be compared."""
    try:
        tree = yaml.safe_load(config.read_text()) or {}
        return tree["trainer"]["early_terminate"], tree["dataset"]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return None
