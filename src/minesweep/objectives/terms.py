"""Terms of the triplet loss: each is a weight and a loss for each anchor.

A term of your own is any callable with :class:`Term`'s call and a ``weight``; name it in
``objective.terms`` by its ``_target_``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from minesweep.errors import UserError
from minesweep.words import nearest


@dataclass(frozen=True)
class Similarities:
    """What a term sees of a batch of B anchors and m candidates.

    Attributes:
        scores: ``[B, m]`` similarities, with a gradient.
        positive: ``[B]`` similarity of each anchor's positive, with a gradient.
        valid: ``[B, m]`` bool, True at the anchor's negatives.
        weights: ``[B, m]`` weights of the miner, by the name of the set; see :meth:`chosen`.
    """

    scores: Tensor
    positive: Tensor
    valid: Tensor
    weights: Mapping[str, Tensor]

    def chosen(self, name: str) -> Tensor:
        """The miner's weights of one name.

        Raises:
            UserError: The miner has none of that name.
        """
        if name not in self.weights:
            known = ", ".join(self.weights)
            guess = nearest(name, self.weights)
            raise UserError(
                f"objective.terms: the miner gives no '{name}' negative, but {known}{guess}"
            )
        return self.weights[name]


class Term(ABC):
    """One part of the loss.

    Args:
        weight: What it is multiplied by in the sum of all terms.
    """

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    @abstractmethod
    def __call__(self, similarities: Similarities) -> Tensor:
        """``[B]`` losses, 0 for an anchor that has nothing to learn from."""


class Hinge(Term):
    """``max(0, margin - positive + negative)``, the negative being a weighted mean.

    Args:
        negative: Which of the miner's negatives: ``mean`` or ``hard``.
        margin: In units of similarity.
        weight: See :class:`Term`.
    """

    def __init__(self, negative: str, margin: float = 0.25, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.negative, self.margin = negative, margin

    def __call__(self, similarities: Similarities) -> Tensor:
        weights = similarities.chosen(self.negative)
        negative = (weights * similarities.scores).sum(1)
        hinge = (self.margin - similarities.positive + negative).clamp(min=0)
        # A row without such a negative (all of them masked) has no such loss.
        return hinge * (weights.sum(1) > 0)
