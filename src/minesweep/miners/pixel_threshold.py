"""Pixels whose true class is not yet sure."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from minesweep.errors import UserError
from minesweep.miners.base import Context, Miner
from minesweep.miners.pixels import BATCH, check_per, grouped, sizes


class PixelThreshold(Miner):
    """Learns from the pixels whose true class has a low probability.

    The rule of mmsegmentation's ``OHEMPixelSampler`` and of HRNet's and PIDNet's OHEM loss: a pixel
    is selected where the probability of its true class is below ``max(thresh, p)``, p being the
    ``min_kept``-th smallest of its group, counted from 0 (the largest, if there are fewer).
    So about ``min_kept`` pixels are selected early in training, and more while many are unsure.
    Where all probabilities are equal and above ``thresh``, none is selected and the loss is 0.

    Args:
        thresh: Probability in [0, 1]; None selects the ``min_kept`` pixels of highest loss.
        min_kept: How many pixels of a group are selected at least; below 1, a share of its valid
            pixels. The number of mmsegmentation is for each image: n times as many here.
        per: What is ranked together: ``batch`` or ``image``.
        **schedule: ``start``, ``end``, ``interrupt`` of :class:`~minesweep.miners.base.Miner`.
    """

    candidate = "pixel"

    def __init__(
        self,
        thresh: float | None = 0.7,
        min_kept: float = 0.0625,
        per: str = BATCH,
        **schedule: Any,
    ) -> None:
        super().__init__(**schedule)
        if min_kept < 0 or (min_kept >= 1 and min_kept != int(min_kept)):
            raise UserError(
                f"miner.min_kept={min_kept} must be a whole number of pixels, or a share below 1"
            )
        self.thresh, self.min_kept, self.per = thresh, min_kept, check_per(per)

    def select(self, scores: Tensor, **context: Unpack[Context]) -> Tensor:
        """Weights 1 and 0, shaped like ``scores`` ``[n, H, W]``.

        Args:
            scores: Losses; looked at only where there is no ``thresh``.
            **context: ``probability`` of the true class, and ``valid``.
        """
        probability = -scores if self.thresh is None else context["probability"]
        valid = context.get("valid")
        valid = torch.ones_like(scores, dtype=torch.bool) if valid is None else valid
        flat, allowed = grouped(probability, self.per), grouped(valid, self.per)
        counts = sizes(flat, allowed)
        ordered, order = torch.where(allowed, flat, torch.inf).sort(dim=1, stable=True)
        kept = [self._kept(count) for count in counts]
        if self.thresh is None:
            rank = torch.arange(flat.shape[1], device=flat.device)
            inside = rank < torch.tensor(kept, device=flat.device)[:, None]
            chosen = torch.zeros_like(allowed).scatter_(1, order, inside)
        else:
            last = [max(0, min(k, count - 1)) for k, count in zip(kept, counts, strict=True)]
            least = ordered.gather(1, torch.tensor(last, device=flat.device)[:, None])
            chosen = flat < least.clamp(min=self.thresh)
        return (chosen & allowed).view_as(scores).to(scores.dtype)

    def _kept(self, count: int) -> int:
        return round(self.min_kept * count) if self.min_kept < 1 else int(self.min_kept)
