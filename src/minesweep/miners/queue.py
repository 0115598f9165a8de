"""All negatives of the queue, as in momentum contrast; a window and an oracle over them."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from minesweep.miners.base import Context, Miner


class Queue(Miner):
    """Learns from every entry of the queue that is not of the query's own image.

    Source: MoCo, He et al., arXiv 1911.05722, section 3.1; with the projection head, the
    augmentations and the schedule of arXiv 2003.04297 this is MoCo-v2.

    Args:
        skip_hardest: Share of the queue, in [0, 1), that is left out: what is most similar to
            the query. On ImageNet the hardest 0.1 % were found unnecessary or harmful.
        oracle: Whether negatives of the query's own class are left out. It looks at the
            labels: an upper bound, not a method (MoCHi, arXiv 2010.01028, section 3).
        **schedule: ``start``, ``end``, ``interrupt`` of :class:`~minesweep.miners.base.Miner`.
    """

    candidate = "queue_negative"

    def __init__(self, skip_hardest: float = 0.0, oracle: bool = False, **schedule: Any) -> None:
        super().__init__(**schedule)
        self.skip_hardest, self.oracle = skip_hardest, oracle

    def select(self, scores: Tensor, **context: Unpack[Context]) -> Tensor:
        """``[B, K]`` weights, 1 or 0.

        Args:
            scores: ``[B, K]`` similarities of the queries and the queue.
            **context: ``labels`` of the queries, ``queue_labels`` of the entries, and ``valid``,
                False at the query's own image.
        """
        weights = torch.ones_like(scores)
        if self.oracle:
            weights *= context["labels"][:, None] != context["queue_labels"]
        count = round(self.skip_hardest * scores.shape[1])
        if count:
            left = (weights > 0) & context.get("valid", torch.ones_like(scores, dtype=torch.bool))
            hardest = scores.masked_fill(~left, -torch.inf).topk(count, dim=1, sorted=False)
            weights.scatter_(1, hardest.indices, 0.0)
        return weights
