"""A negative drawn so that all distances occur alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from minesweep.miners.base import Context
from minesweep.miners.in_batch import InBatch, hardest


class DistanceWeighted(InBatch):
    """Learns from the mean negative and one drawn with chance ``1 / q(distance)``.

    Points spread evenly on a sphere of many dimensions are nearly all about sqrt(2) apart; q is the
    density of their distances. The inverse of q draws evenly from near to far (Wu et al., "Sampling
    Matters in Deep Embedding Learning", arXiv 1706.07567, section 4).

    Args:
        cutoff: Smaller distances count as this one (the paper's lambda), against noisy gradients.
        nonzero_loss_cutoff: Negatives at this distance or beyond are not drawn. An anchor without
            others learns from its mean negative alone; the authors' code draws one uniformly there.
        per_class: See :class:`~minesweep.miners.in_batch.InBatch`.
        **schedule: ``start``, ``end``, ``interrupt`` of :class:`~minesweep.miners.base.Miner`.
    """

    def __init__(
        self,
        cutoff: float = 0.5,
        nonzero_loss_cutoff: float = 1.4,
        per_class: int | None = None,
        **schedule: Any,
    ) -> None:
        super().__init__(per_class, **schedule)
        self.cutoff, self.nonzero_loss_cutoff = cutoff, nonzero_loss_cutoff

    def hard(self, scores: Tensor, positive: Tensor, valid: Tensor, context: Context) -> Tensor:
        # In bfloat16 a uniform draw can be 1, whose noise below is infinite.
        distance = (2 - 2 * scores.float()).clamp(min=0).sqrt()
        near = valid & (distance < self.nonzero_loss_cutoff)
        chances = -log_density(distance.clamp(min=self.cutoff), context["dim"])
        draws = self.generator(context.get("step", 0))
        uniform = torch.rand(scores.shape, generator=draws).to(distance)
        # Gumbel's trick: the largest of logits and noise is a draw from their softmax. The chances
        # themselves range over more powers of ten than a float holds.
        gumbel = -(-uniform.clamp(min=torch.finfo(distance.dtype).tiny).log()).log()
        return hardest(chances + gumbel, near).to(scores.dtype)


def log_density(distance: Tensor, dim: int) -> Tensor:
    """``log q(d)`` up to a constant: of distances d in (0, 2) on the unit sphere.

    The first equation of section 4.

    Args:
        distance: Any shape.
        dim: Of the space, the paper's n.
    """
    return (dim - 2) * distance.log() + (dim - 3) / 2 * (1 - distance**2 / 4).log()
