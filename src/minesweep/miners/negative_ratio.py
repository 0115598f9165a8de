"""All objects, and the hardest of the background."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from minesweep.miners.base import Context, Miner
from minesweep.miners.pixels import IMAGE, check_per, grouped, window


class NegativeRatio(Miner):
    """Learns from all positives, and from the hardest negatives up to ``ratio`` for each positive.

    The rule of SSD (Liu et al., arXiv 1512.02325, section 2.2), for pixels: a positive is a pixel
    of any class but ``background``.

    Args:
        ratio: Negatives for each positive of the group.
        min_negatives: How many negatives of a group at least. SSD as torchvision has it
            selects none where there is no positive: 0.
        background: Class index of negatives.
        per: What is counted and ranked together: ``image`` or ``batch``.
        **schedule: ``start``, ``end``, ``interrupt`` of :class:`~minesweep.miners.base.Miner`.
    """

    candidate = "pixel"

    def __init__(
        self,
        ratio: float = 3.0,
        min_negatives: int = 0,
        background: int = 0,
        per: str = IMAGE,
        **schedule: Any,
    ) -> None:
        super().__init__(**schedule)
        self.ratio, self.min_negatives = ratio, min_negatives
        self.background, self.per = background, check_per(per)

    def select(self, scores: Tensor, **context: Unpack[Context]) -> Tensor:
        """Weights 1 and 0, shaped like ``scores`` ``[n, H, W]``.

        Args:
            scores: Losses.
            **context: ``labels`` shaped like the scores, and ``valid``.
        """
        labels, valid = context["labels"], context.get("valid")
        valid = torch.ones_like(scores, dtype=torch.bool) if valid is None else valid
        negative = valid & (labels == self.background)
        positive = valid & ~negative
        counts = iter(grouped(positive, self.per).sum(1).tolist())

        def chosen(negatives: int) -> tuple[int, int]:
            return 0, min(negatives, max(self.min_negatives, int(self.ratio * next(counts))))

        return window(scores, negative, self.per, chosen) + positive.to(scores.dtype)
