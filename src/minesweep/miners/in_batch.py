"""What the miners of negatives within the batch share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Unpack

import torch
from torch import Tensor

from minesweep.errors import UserError
from minesweep.miners.base import Context, Miner, Pool

MEAN, HARD = "mean", "hard"
"""The loss terms that these miners serve."""
CACHED = 2**16
"""Scores that are worked on together."""


class Balanced(Miner):
    """Proposes class-balanced batches where ``per_class`` is given.

    Args:
        per_class: K of P x K class-balanced batches: P = B / K classes, K examples of each
            (Hermans et al., arXiv 1703.07737, section 2); None for uniform batches.
        **schedule: ``start``, ``end``, ``interrupt`` of :class:`~minesweep.miners.base.Miner`.
    """

    def __init__(self, per_class: int | None = None, **schedule: Any) -> None:
        super().__init__(**schedule)
        self.per_class = per_class
        self._members: list[Tensor] = []

    def setup(self, pool: Pool) -> None:
        super().setup(pool)
        if self.per_class is None:
            return
        labels, counts = pool.labels.unique(return_counts=True)
        classes, rest = divmod(pool.batch_size, self.per_class)
        if rest or not 2 <= classes <= len(labels):
            raise UserError(
                f"miner.per_class={self.per_class} must divide trainer.batch_size="
                f"{pool.batch_size} into 2 to {len(labels)} classes (there are {len(labels)})"
            )
        self._members = list(pool.labels.argsort(stable=True).split(counts.tolist()))

    def propose(self, pool: Pool, step: int) -> Tensor:
        """A uniform batch, or P classes and K examples of each, neither drawn twice.

        A class of fewer than K examples gives some of them again.
        """
        return self.uniform(pool, step)

    def uniform(self, pool: Pool, step: int) -> Tensor:
        """What is proposed, mining or not: a batch without classes would have no positives."""
        if self.per_class is None:
            return super().uniform(pool, step)
        draws = self.generator(step, purpose="classes")
        count = pool.batch_size // self.per_class
        classes = torch.randperm(len(self._members), generator=draws)[:count].tolist()
        return torch.cat([self._some(self._members[label], draws) for label in classes])

    def _some(self, members: Tensor, draws: torch.Generator) -> Tensor:
        assert self.per_class is not None
        order = torch.randperm(len(members), generator=draws)
        places = torch.arange(self.per_class) % len(members)
        return members[order[places].to(members.device)]


class InBatch(Balanced):
    """Gives each anchor two sets of weights over the batch: its mean negative and its hard one.

    A subclass says what hard means in :meth:`hard`. Weights of a row sum to 1, or to 0 where
    the row has no such negative. Time and memory are O(B^2) (log B more where ranks are needed).

    Args:
        per_class: See :class:`Balanced`.
        **schedule: ``start``, ``end``, ``interrupt`` of :class:`~minesweep.miners.base.Miner`.
    """

    candidate = "batch_negative"

    def select(self, scores: Tensor, **context: Unpack[Context]) -> dict[str, Tensor]:
        """Weights of the mean negative and of the hard one.

        Args:
            scores: ``[B, m]`` similarities of anchors and candidates.
            **context: ``valid`` is False at what is no negative of the anchor, ``positive`` is
                the similarity ``[B]`` of its positive.
        """
        valid = context.get("valid")
        valid = torch.ones_like(scores, dtype=torch.bool) if valid is None else valid
        hard = self.hard(scores, context["positive"][:, None], valid, context)
        return {MEAN: even(valid, scores.dtype), HARD: hard}

    @abstractmethod
    def hard(self, scores: Tensor, positive: Tensor, valid: Tensor, context: Context) -> Tensor:
        """``[B, m]`` weights of the hard negative; ``positive`` is ``[B, 1]``."""


def even(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Equal weights for what is True in each row, 0 for a row without any."""
    weights = mask.to(dtype)
    return weights.div_(weights.sum(1, keepdim=True).clamp(min=1))


def hardest(scores: Tensor, mask: Tensor) -> Tensor:
    """Weight 1 for each row's largest score where ``mask`` is True, the first of equals."""
    weights = torch.zeros_like(scores)
    # On the CPU a few rows at a time, so that the masked scores stay in the cache. At B = 4,096
    # this is three times faster than one piece.
    rows = max(1, CACHED // scores.shape[1]) if scores.device.type == "cpu" else len(scores)
    for chosen, part, allowed in zip(
        *(x.split(rows) for x in (weights, scores, mask)), strict=True
    ):
        best, place = torch.where(allowed, part, -torch.inf).max(1, keepdim=True)
        # A row without any has its "largest" anywhere: weight 0.
        chosen.scatter_(1, place, (best > -torch.inf).to(scores.dtype))
    return weights
