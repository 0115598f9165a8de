"""A smooth maximum over the negatives in the batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from minesweep.miners.base import Context
from minesweep.miners.in_batch import InBatch


class Smooth(InBatch):
    """Learns from the mean negative and a softmax-weighted one.

    The weights ``softmax(s / temperature)`` are the gradient of
    ``temperature * logsumexp(s / temperature)``, a smooth maximum: at temperature 0 the
    closest negative, at a large one the mean negative.

    Args:
        temperature: In units of similarity, above 0.
        per_class: See :class:`~minesweep.miners.in_batch.InBatch`.
        **schedule: ``start``, ``end``, ``interrupt`` of :class:`~minesweep.miners.base.Miner`.
    """

    def __init__(
        self, temperature: float = 0.05, per_class: int | None = None, **schedule: Any
    ) -> None:
        super().__init__(per_class, **schedule)
        self.temperature = temperature

    def hard(self, scores: Tensor, positive: Tensor, valid: Tensor, context: Context) -> Tensor:
        # The lowest number instead of -inf: a row without negatives is then no 0 / 0.
        lowest = torch.finfo(scores.dtype).min
        weights = (scores / self.temperature).masked_fill(~valid, lowest).softmax(1)
        return weights * valid
