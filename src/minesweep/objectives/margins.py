"""What a margin means: a number, or one that follows the dimension, the data or the step."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from minesweep.errors import UserError
from minesweep.words import check_word

DISTANCES = ("euclidean", "squared_euclidean", "cosine")
POLICIES = ("fixed", "sqrt_dim", "relative", "scheduled")
LEAST = 1e-3
"""A relative margin is never smaller, or it would shrink with distances that collapse."""


class Margin:
    """How far apart a negative pair has to be, in units of the objective's distance.

    Args:
        value: m, above 0.
        policy: ``fixed``: m at every step. ``sqrt_dim``: m * sqrt(dim), as distances between
            unnormalised vectors grow (m * dim where distances are squared). ``relative``: m times a
            quantile of the negative distances in the batch before. With m = 1 the share of active
            negatives is about that quantile. ``scheduled``: on a line from m to ``end``.
        quantile: Of ``relative``, in [0, 1].
        end: Of ``scheduled``, above 0.
        steps: Of ``scheduled``: how many steps the line takes.
        squared: Whether the objective's distance is squared.

    Raises:
        UserError: A value is out of range, or ``scheduled`` lacks one.
    """

    def __init__(
        self,
        value: float,
        policy: str = "fixed",
        quantile: float = 0.5,
        end: float | None = None,
        steps: int | None = None,
        squared: bool = False,
    ) -> None:
        self.value = _positive("objective.margin", value)
        self.policy = check_word("objective.margin_policy", policy, POLICIES)
        self.quantile, self.squared = quantile, squared
        if not 0 <= quantile <= 1:
            raise UserError(f"objective.margin_quantile={quantile} must be in [0, 1]")
        if policy == "scheduled":
            if end is None or steps is None:
                raise UserError(
                    "objective.margin_policy=scheduled goes from objective.margin to "
                    "objective.margin_end in objective.margin_steps steps: give both"
                )
            self.end = _positive("objective.margin_end", end)
            self.steps = _positive("objective.margin_steps", steps)

    def __call__(self, step: int, dim: int, negatives: Tensor, last: Tensor) -> Tensor:
        """The margin of one step.

        Args:
            step: The training step, from 0.
            dim: Of the vectors that are compared.
            negatives: Distances of the batch's negative pairs, detached; there may be none.
            last: What :meth:`following` gave in the step before; NaN at the first.
        """
        if self.policy == "sqrt_dim":
            return last.new_tensor(self.value * (dim if self.squared else math.sqrt(dim)))
        if self.policy == "scheduled":
            progress = min(1.0, step / self.steps)
            return last.new_tensor(self.value + (self.end - self.value) * progress)
        if self.policy == "relative":
            return torch.where(last.isnan(), self.following(negatives, last), last)
        return last.new_tensor(self.value)

    def following(self, negatives: Tensor, margin: Tensor) -> Tensor:
        """The margin that ``relative`` takes in the next step; elsewhere ``margin``.

        One step late, so that the loss of a pair does not depend on those beside it.
        """
        if self.policy != "relative":
            return margin
        if not len(negatives):
            return margin.nan_to_num(LEAST)
        found = torch.quantile(negatives.to(margin.dtype), self.quantile)
        return (self.value * found).clamp(min=LEAST)


def _positive(key: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise UserError(f"{key}={value} must be a number above 0")
    return float(value)


def largest_feasible(classes: int, distance: str) -> float:
    """The largest distance that ``classes`` points on the unit sphere can all have to each other.

    That of a regular simplex, sqrt(2 C / (C - 1)); in fewer than C - 1 dimensions it is smaller.
    """
    squared = 2 * classes / (classes - 1) if classes > 1 else 4.0
    return from_squared(squared, distance)


def from_squared(squared: float, distance: str) -> float:
    """A squared Euclidean distance in other units; cosine distance is that of unit vectors."""
    return {"euclidean": math.sqrt(squared), "cosine": squared / 2}.get(distance, squared)


def to_euclidean(value: float, distance: str) -> float:
    """A distance in Euclidean units."""
    return {"euclidean": value, "cosine": math.sqrt(2 * value)}.get(distance, math.sqrt(value))
