"""A negative from a band below the closest: by rank, or by its distance to the positive."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from minesweep.miners.base import Context
from minesweep.miners.in_batch import InBatch


class Band(InBatch):
    """Learns from the mean negative and one drawn from a band of each anchor's negatives.

    The closest negatives of a real dataset are often unlabelled positives; a band leaves them
    out. Words and order as in ``mine_hard_negatives`` of sentence-transformers: the margins
    come first, ranks are counted among the negatives that they leave.

    Args:
        range_min: How many of the closest are left out.
        range_max: Ranks end before this one; None for the farthest.
        relative_margin: The cosine is at most the positive's less this share of its size
            (TopK-PercPos of NV-Retriever, arXiv 2407.15831); None for off.
        absolute_margin: The cosine is at most the positive's less this; None for off.
        per_class: See :class:`~minesweep.miners.in_batch.InBatch`.
        **schedule: ``start``, ``end``, ``interrupt`` of :class:`~minesweep.miners.base.Miner`.
    """

    def __init__(
        self,
        range_min: int = 0,
        range_max: int | None = 10,
        relative_margin: float | None = None,
        absolute_margin: float | None = None,
        per_class: int | None = None,
        **schedule: Any,
    ) -> None:
        super().__init__(per_class, **schedule)
        self.range_min, self.range_max = range_min, range_max
        self.relative_margin, self.absolute_margin = relative_margin, absolute_margin

    def hard(self, scores: Tensor, positive: Tensor, valid: Tensor, context: Context) -> Tensor:
        left = valid
        if self.relative_margin is not None:
            left = left & (scores <= positive - self.relative_margin * positive.abs())
        if self.absolute_margin is not None:
            left = left & (scores <= positive - self.absolute_margin)
        end = min(scores.shape[1], self.range_max or scores.shape[1])
        closest = scores.masked_fill(~left, -torch.inf).topk(end, dim=1).indices
        width = (left.sum(1).clamp(max=end) - self.range_min).clamp(min=0)
        draw = torch.rand(len(scores), generator=self.generator(context.get("step", 0)))
        rank = self.range_min + (draw.to(scores.device) * width).long()
        place = closest.gather(1, rank.clamp(max=end - 1)[:, None])
        there = (width > 0)[:, None]
        return torch.zeros_like(scores).scatter_(1, place, there.to(scores.dtype))
