"""The closest negative of each anchor, with or without the mask of those beyond the positive."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from minesweep.miners.base import Context
from minesweep.miners.in_batch import InBatch, hardest
from minesweep.words import check_word

MASKS = ("harder_than_positive", "semi_hard", "annealed", "none")


class ClosestNegative(InBatch):
    """Learns from the mean negative and the closest one that the mask leaves.

    A negative is *violated* where it is more similar to the anchor than the positive is.

    - ``mask=harder_than_positive`` hides the violated ones, as the assignment C3_W4 of
      DeepLearning.AI does; a negative that is as similar as the positive stays.
    - ``mask=semi_hard`` hides that one too: a semi-hard negative is strictly farther than the
      positive (FaceNet, arXiv 1503.03832, section 3.2, eq. 4, and pytorch-metric-learning). The
      closest of these has a loss exactly where it lies within the margin.
    - ``mask=none`` hides nothing: the hardest negative.
    - ``mask=annealed`` goes from ``harder_than_positive`` to ``none``: at step t it admits the
      share ``t / (anneal * steps)`` of each row's violated negatives, the easiest of them first.

    Args:
        mask: ``harder_than_positive``, ``semi_hard``, ``annealed`` or ``none``.
        anneal: Share of the run's steps after which all are admitted, in (0, 1].
        per_class: See :class:`~minesweep.miners.in_batch.InBatch`.
        **schedule: ``start``, ``end``, ``interrupt`` of :class:`~minesweep.miners.base.Miner`.
    """

    def __init__(
        self,
        mask: str = "harder_than_positive",
        anneal: float = 0.2,
        per_class: int | None = None,
        **schedule: Any,
    ) -> None:
        super().__init__(per_class, **schedule)
        self.mask, self.anneal = check_word("miner.mask", mask, MASKS), anneal

    def admitted(self, step: int) -> float:
        """Share of the violated negatives that the mask lets through at ``step``."""
        if self.mask != "annealed":
            return float(self.mask == "none")
        return min(1.0, step / (self.anneal * (self._steps or 1)))

    def hard(self, scores: Tensor, positive: Tensor, valid: Tensor, context: Context) -> Tensor:
        step = context.get("step", 0)
        share = self.admitted(step)
        if self.mask == "semi_hard":
            return hardest(scores, valid & (scores < positive))
        if share == 0:
            return hardest(scores, valid & (scores <= positive))
        if share == 1:
            return hardest(scores, valid)
        violated = valid & (scores > positive)
        order = scores.masked_fill(~valid, -torch.inf).argsort(dim=1, descending=True, stable=True)
        count = violated.sum(1)
        # Rounded by chance, so that a row's only violated negative has that share as its chance.
        chance = torch.rand(len(scores), generator=self.generator(step)).to(scores.device)
        hidden = count - (share * count + chance).floor().long()
        place = order.gather(1, hidden.clamp(max=scores.shape[1] - 1)[:, None])
        left = (hidden < valid.sum(1))[:, None]
        return torch.zeros_like(scores).scatter_(1, place, left.to(scores.dtype))
