"""Selective backprop."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from minesweep.miners.base import Context, Miner, Pool


class SelectiveBackprop(Miner):
    """Keeps an example with chance ``percentile(loss)^beta`` (Jiang et al., arXiv 1910.00762).

    The percentile is taken over the losses of the last ``history`` examples, those of the
    present batch included (section 3.1). The number kept changes from step to step; its mean
    is n / (1 + beta).

    Args:
        beta: Exponent; 0 keeps everything.
        history: How many losses are remembered. Of a batch of more (pixels), so many are, evenly
            spaced.
        **schedule: ``start``, ``end``, ``interrupt`` of :class:`~minesweep.miners.base.Miner`.
    """

    also: ClassVar[tuple[str, ...]] = ("pixel",)

    losses: Tensor
    written: Tensor

    def __init__(self, beta: float = 1.0, history: int = 1024, **schedule: Any) -> None:
        super().__init__(**schedule)
        self.beta = beta
        # Unwritten places hold +inf, which sorts behind every loss.
        self.register_buffer("losses", torch.full((history,), torch.inf))
        self.register_buffer("written", torch.zeros((), dtype=torch.long))

    def setup(self, pool: Pool) -> None:
        super().setup(pool)
        self.to(pool.device)

    def select(self, scores: Tensor, **context: Unpack[Context]) -> Tensor:
        """Weights 1 for the kept and 0 for the others, shaped like ``scores``.

        Args:
            scores: ``[n]`` losses, or ``[n, H, W]`` of pixels.
            **context: ``valid`` is False at pixels without a label; ``step``.
        """
        valid = context.get("valid")
        self._remember(scores if valid is None else scores[valid], scores.dim() > 1)
        known = self.written.clamp(min=1, max=len(self.losses))
        rank = torch.searchsorted(self.losses.sort().values, scores.float(), right=True)
        chance = (rank / known).clamp(max=1) ** self.beta
        draw = torch.rand(
            scores.shape,
            generator=self.generator(context.get("step", 0), scores.device),
            device=scores.device,
        )
        kept = draw < chance
        return (kept if valid is None else kept & valid).to(scores.dtype)

    def _remember(self, scores: Tensor, spaced: bool) -> None:
        recent = scores.flatten().float()
        if not spaced:
            recent = recent[-len(self.losses) :]
        elif len(recent) > len(self.losses):
            # The last pixels would be those of one image.
            even = torch.linspace(0, len(recent) - 1, len(self.losses), device=recent.device)
            recent = recent[even.round().long()]
        places = (self.written + torch.arange(len(recent), device=scores.device)) % len(self.losses)
        self.losses[places] = recent
        self.written += len(recent)
