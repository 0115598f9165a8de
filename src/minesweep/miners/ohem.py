"""Online hard example mining."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from minesweep.errors import UserError
from minesweep.miners.base import Context, Miner
from minesweep.sizes import chosen_k


class Ohem(Miner):
    """Learns from the k of n examples whose loss is highest (Shrivastava et al., arXiv 1604.03540).

    Args:
        k: How many are selected; wins over ``ratio``.
        ratio: k / n, where ``k`` is None.
        skip_hardest: Share of the n that is passed over at the hard end, in [0, 1): the
            selection is then the window of ranks ``[skip_hardest * n, skip_hardest * n + k)``,
            a guard against wrong labels, whose losses are the highest.
        **schedule: ``start``, ``end``, ``interrupt`` of :class:`~minesweep.miners.base.Miner`.
    """

    def __init__(
        self,
        k: int | None = None,
        ratio: float | None = 0.75,
        skip_hardest: float = 0.0,
        **schedule: Any,
    ) -> None:
        super().__init__(**schedule)
        self.k, self.ratio, self.skip_hardest = k, ratio, skip_hardest

    def select(self, scores: Tensor, **context: Unpack[Context]) -> Tensor:
        """Weights 1 for the selected and 0 for the others, shaped like ``scores`` ``[n]``.

        Of equal losses the one that stands first in the batch counts as harder.

        Raises:
            UserError: There are fewer than k candidates.
        """
        n = len(scores)
        k = chosen_k(n, self.k, self.ratio)
        first = round(self.skip_hardest * n)
        if first + k > n:
            raise UserError(f"k={k} after the hardest {first} is more than the n={n} candidates")
        # A stable sort, not topk, whose order among equal losses is left open.
        hardest = torch.argsort(scores, descending=True, stable=True)
        return torch.zeros_like(scores).index_fill_(0, hardest[first : first + k], 1)

    def selected(self, n: int) -> int | None:
        return chosen_k(n, self.k, self.ratio) if type(self).select is Ohem.select else None
