"""The random control."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from minesweep.errors import UserError
from minesweep.miners.base import Context, Miner, Pool, uniform_batch
from minesweep.sizes import chosen_k


class RandomK(Miner):
    """Learns from k of n examples drawn at random: the control of every claim about mining.

    The draw needs no scores, so it is made before the forward pass and the other n - k are
    never scored: its cost is that of a uniform batch of k, of which it is a sample.

    Args:
        k: How many are drawn; wins over ``ratio``.
        ratio: k / n, where ``k`` is None.
        **schedule: ``start``, ``end``, ``interrupt`` of :class:`~minesweep.miners.base.Miner`.
    """

    def __init__(self, k: int | None = None, ratio: float | None = 0.75, **schedule: Any) -> None:
        super().__init__(**schedule)
        self.k, self.ratio = k, ratio
        self._proposed_k = False

    def propose(self, pool: Pool, step: int) -> Tensor:
        """``[k]`` rows out of the uniform batch of n."""
        self._proposed_k = True
        rows = uniform_batch(pool, step)
        return rows[self._draw(len(rows), step).to(pool.device)]

    def select(self, scores: Tensor, **context: Unpack[Context]) -> Tensor:
        """All that was proposed; in a training loop of one's own, k of ``scores`` at random."""
        if self._proposed_k:
            return torch.ones_like(scores)
        weights = torch.zeros_like(scores)
        weights[self._draw(len(scores), context.get("step", 0)).to(scores.device)] = 1
        return weights

    def selected(self, n: int) -> int | None:
        if type(self).select is not RandomK.select:
            return None
        return n if self._proposed_k else chosen_k(n, self.k, self.ratio)

    def _draw(self, n: int, step: int) -> Tensor:
        k = chosen_k(n, self.k, self.ratio)
        if k > n:
            raise UserError(f"k={k} is more than the n={n} candidates")
        return torch.randperm(n, generator=self.generator(step))[:k]
