"""Online hard example mining."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

from torch import Tensor

from minesweep.errors import UserError
from minesweep.miners.base import Context, Miner, Pool
from minesweep.miners.pixels import BATCH, check_per, check_pool, grouped, window
from minesweep.sizes import chosen_k


class Ohem(Miner):
    """Learns from the k of n examples whose loss is highest (Shrivastava et al., arXiv 1604.03540).

    Args:
        k: How many are selected; wins over ``ratio``.
        ratio: k / n, where ``k`` is None.
        skip_hardest: Share of the n that is left out at the hard end, in [0, 1). The selection is
            the window of ranks ``[skip_hardest * n, skip_hardest * n + k)``. It guards against
            wrong labels, whose losses are the highest.
        per: Of pixels: whether n are those of the ``batch`` or of each ``image``. Pixels without a
            label are not counted.
        **schedule: ``start``, ``end``, ``interrupt`` of :class:`~minesweep.miners.base.Miner`.
    """

    also: ClassVar[tuple[str, ...]] = ("pixel",)

    def __init__(
        self,
        k: int | None = None,
        ratio: float | None = 0.75,
        skip_hardest: float = 0.0,
        per: str = BATCH,
        **schedule: Any,
    ) -> None:
        super().__init__(**schedule)
        self.k, self.ratio, self.skip_hardest = k, ratio, skip_hardest
        self.per = check_per(per)

    def setup(self, pool: Pool) -> None:
        super().setup(pool)
        check_pool(self.per, pool)

    def select(self, scores: Tensor, **context: Unpack[Context]) -> Tensor:
        """Weights 1 for the selected and 0 for the others, shaped like ``scores``.

        Of equal losses the one that stands first in the batch counts as harder. Where fewer than k
        pixels have a label, those are selected.

        Args:
            scores: ``[n]`` losses, or ``[n, H, W]`` of pixels.
            **context: ``valid`` is False at pixels without a label.

        Raises:
            UserError: There are fewer than k candidates.
        """
        first, k = self._window(n := grouped(scores, self.per).shape[1])
        if first + k > n:
            raise UserError(f"k={k} after the hardest {first} is more than the n={n} candidates")
        return window(scores, context.get("valid"), self.per, self._window)

    def _window(self, n: int) -> tuple[int, int]:
        return round(self.skip_hardest * n), chosen_k(n, self.k, self.ratio)

    def selected(self, n: int) -> int | None:
        return chosen_k(n, self.k, self.ratio) if type(self).select is Ohem.select else None
