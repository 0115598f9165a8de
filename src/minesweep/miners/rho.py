"""Learnability: what is hard for this model, and not for one that has not seen it."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from minesweep.errors import UserError
from minesweep.miners.base import Context, Pool
from minesweep.miners.ohem import Ohem


class Rho(Ohem):
    """Learns from the k of n examples of highest *reducible* loss (RHO-Loss, arXiv 2206.07137).

    That is the loss minus the loss that a reference model has on the same example and label. The
    reference is trained on held-out data. A wrong label is hard for both models, so it is not
    selected; what is learned already is easy for both.

    Args:
        reference: Folder of a finished run, e.g. one with ``trainer.train_on=val``; or of a study
            with one run, or one for each seed.
        k: How many are selected; wins over ``ratio``.
        ratio: k / n, where ``k`` is None.
        **schedule: ``start``, ``end``, ``interrupt`` of :class:`~minesweep.miners.base.Miner`.
    """

    also: ClassVar[tuple[str, ...]] = ()
    reference: Tensor
    """``[N]`` loss of each training example by the reference model."""

    def __init__(
        self,
        reference: str | None = None,
        k: int | None = None,
        ratio: float | None = 0.25,
        **schedule: Any,
    ) -> None:
        super().__init__(k, ratio, **schedule)
        self.path = reference
        self.register_buffer("reference", torch.zeros(0))

    def setup(self, pool: Pool) -> None:
        """Asks the reference for its losses.

        Raises:
            UserError: There is no reference, or no finished run at its place.
        """
        super().setup(pool)
        if self.path is None or pool.reference is None:
            raise UserError(
                "miner=rho needs a reference: train one with trainer.train_on=val "
                "study=reference, then give miner.reference=runs/reference"
            )
        self.reference = pool.reference(self.path)

    def select(self, scores: Tensor, **context: Unpack[Context]) -> Tensor:
        """Weights 1 for the selected and 0 for the others.

        Args:
            scores: ``[n]`` losses.
            **context: ``rows`` of the pool.
        """
        known = self.reference[context["rows"]].to(scores.dtype)
        return super().select(scores - known, **context)

    def selected(self, n: int) -> int | None:
        return self._window(n)[1]
