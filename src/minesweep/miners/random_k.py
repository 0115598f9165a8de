"""The random control."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from minesweep.errors import UserError
from minesweep.miners.base import Context, Miner, Pool, uniform_batch
from minesweep.miners.pixels import BATCH, PIXEL, check_per, check_pool, grouped, window
from minesweep.sizes import chosen_k


class RandomK(Miner):
    """Learns from k of n examples drawn at random: the control of every claim about mining.

    The draw needs no scores, so it is made before the forward pass. The other n - k are never
    scored: the cost is that of a uniform batch of k. Pixels are drawn after the forward pass, which
    makes all of an image's pixels at once.

    Args:
        k: How many are drawn; wins over ``ratio``.
        ratio: k / n, where ``k`` is None.
        per: Of pixels: whether n are those of the ``batch`` or of each ``image``. Pixels without a
            label are not counted.
        **schedule: ``start``, ``end``, ``interrupt`` of :class:`~minesweep.miners.base.Miner`.
    """

    also: ClassVar[tuple[str, ...]] = ("pixel",)

    def __init__(
        self,
        k: int | None = None,
        ratio: float | None = 0.75,
        per: str = BATCH,
        **schedule: Any,
    ) -> None:
        super().__init__(**schedule)
        self.k, self.ratio, self.per = k, ratio, check_per(per)
        self._proposed_k = False

    def setup(self, pool: Pool) -> None:
        super().setup(pool)
        check_pool(self.per, pool)

    def propose(self, pool: Pool, step: int) -> Tensor:
        """``[k]`` rows out of the uniform batch of n; all of it where pixels are mined."""
        if pool.candidate == PIXEL:
            return uniform_batch(pool, step)
        self._proposed_k = True
        rows = uniform_batch(pool, step)
        return rows[self._draw(len(rows), step).to(pool.device)]

    def select(self, scores: Tensor, **context: Unpack[Context]) -> Tensor:
        """All that was proposed; in a training loop of one's own, k of ``scores`` at random."""
        if self._proposed_k:
            return torch.ones_like(scores)
        if scores.dim() > 1:
            draws = self.generator(context.get("step", 0), scores.device)
            keys = torch.rand(scores.shape, generator=draws, device=scores.device)
            self._enough(grouped(keys, self.per).shape[1])
            chosen = window(keys, context.get("valid"), self.per, self._window)
            return chosen.to(scores.dtype)
        weights = torch.zeros_like(scores)
        weights[self._draw(len(scores), context.get("step", 0)).to(scores.device)] = 1
        return weights

    def selected(self, n: int) -> int | None:
        if type(self).select is not RandomK.select:
            return None
        return n if self._proposed_k else chosen_k(n, self.k, self.ratio)

    def _window(self, n: int) -> tuple[int, int]:
        return 0, chosen_k(n, self.k, self.ratio)

    def _enough(self, n: int) -> int:
        if (k := chosen_k(n, self.k, self.ratio)) > n:
            raise UserError(f"k={k} is more than the n={n} candidates")
        return k

    def _draw(self, n: int, step: int) -> Tensor:
        k = self._enough(n)
        return torch.randperm(n, generator=self.generator(step))[:k]
