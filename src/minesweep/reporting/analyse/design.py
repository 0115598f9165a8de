"""What a study that runs until it is sure declared before its first trial: ``until_sure.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from minesweep.errors import UserError
from minesweep.reporting.units import unit
from minesweep.statistics.sequential import Rule

FILE = "until_sure.json"


@dataclass(frozen=True)
class Design:
    """The looks of a study and what they decide on.

    Attributes:
        metric: The summary's metric that decides.
        goal: ``maximize`` or ``minimize``.
        care: The smallest difference that matters, in points where the metric is a share, else in
            the metric's own unit; None for none.
        seeds: All seeds that may be used, in order.
        looks: Numbers of seeds at which an arm is looked at.
        levels: The two-sided nominal level of each look, for each comparison.
        alpha: Chance of any wrong answer in a study without differences.
        shape: w of Wang and Tsiatis.
        baselines: The arm that each compared arm is compared with.
        finished_before: Runs of the study that were finished when this was declared.
        commands: How to train each arm, by its label.
    """

    metric: str
    goal: str
    care: float | None
    seeds: tuple[int, ...]
    looks: tuple[int, ...]
    levels: tuple[float, ...]
    alpha: float
    shape: float
    baselines: Mapping[str, str]
    finished_before: int = 0
    commands: Mapping[str, str] = field(default_factory=dict)

    @property
    def rule(self) -> Rule:
        """The rule, with ``care`` in the unit in which runs store the metric."""
        care = None if self.care is None else self.care / unit(self.metric).factor
        return Rule(self.looks, len(self.baselines), care, self.alpha, self.shape, self.levels)

    @property
    def sign(self) -> float:
        """1 where more is better, -1 where less is."""
        return 1.0 if self.goal == "maximize" else -1.0


def read_design(folder: Path) -> Design | None:
    """What the study in a folder declared; None where it declared nothing.

    Raises:
        UserError: The file is there, but cannot be read.
    """
    path = folder / FILE
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        lists = {key: tuple(tree[key]) for key in ("seeds", "looks", "levels")}
        return Design(**{**tree, **lists})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} cannot be read: {error}; take it from a copy") from None


def to_json(design: Design) -> dict[str, Any]:
    """The design as it is stored."""
    return asdict(design)
