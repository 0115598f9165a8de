"""A cheaper scoring pass, where the selected rows go forward again anyway (``backward=again``).

Each option trades the rank of an example for operations; the learning pass, and so the gradient
of what was selected, stays exact.
"""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from minesweep.errors import UserError
from minesweep.words import check_word

NEVER = -1


class Selecting(nn.Module):
    """How the scoring pass is made cheaper than the forward pass of a training step.

    Args:
        every: Steps between two scoring passes; at the others the last known losses decide, and
            only examples that never had one are scored.
        stale: A loss of at most this many steps ago is used again; 0 for never. Jiang et al. (arXiv
            1910.00762, section 3.3) reuse losses for some epochs.
        resolution: Share of the images' side, in (0, 1]; 1 for full.
        precision: ``32``, or ``bf16`` for autocast.
    """

    losses: Tensor
    scored_at: Tensor

    def __init__(
        self, every: int = 1, stale: int = 0, resolution: float = 1.0, precision: str | int = 32
    ) -> None:
        super().__init__()
        self.every, self.stale, self.resolution = every, stale, resolution
        self.precision = check_word("objective.selecting.precision", str(precision), ("32", "bf16"))

    @property
    def remembers(self) -> bool:
        """Whether losses are used again."""
        return self.every > 1 or self.stale > 0

    @property
    def cheaper(self) -> bool:
        """Whether the scoring pass differs from a forward pass of training at all."""
        return self.remembers or self.resolution != 1.0 or self.precision != "32"

    def setup(self, size: int, device: torch.device) -> None:
        """Makes room for the last loss of each of ``size`` examples."""
        if self.remembers:
            self.register_buffer("losses", torch.zeros(size, device=device))
            self.register_buffer("scored_at", torch.full((size,), NEVER, device=device))

    def due(self, rows: Tensor, step: int) -> Tensor:
        """Places in ``rows`` ``[n]`` of the examples that are to be scored in this step."""
        if rows.ndim != 1:
            raise UserError(
                "objective.selecting.every and stale remember losses of examples; pairs hardly "
                "ever come twice: set every=1 stale=0"
            )
        scored_at = self.scored_at[rows]
        old = step - scored_at > self.stale if step % self.every == 0 else False
        # Waits for the device: how many are scored is the size of the next tensors.
        return ((scored_at == NEVER) | old).nonzero().squeeze(1)

    def remember(self, rows: Tensor, losses: Tensor, step: int) -> None:
        """Keeps ``losses`` ``[m]`` of examples ``rows`` ``[m]``, for which there is now a loss."""
        self.losses[rows] = losses.detach().to(self.losses.dtype)
        self.scored_at[rows] = step

    def pass_over(self, model: nn.Module, inputs: Any) -> Any:
        """The outputs of a cheaper forward pass, without a graph."""
        settings = {}
        if self.resolution != 1.0:
            inner = getattr(model, "module", model)
            if "resolution" not in inspect.signature(inner.forward).parameters:
                raise UserError(
                    f"objective.selecting.resolution={self.resolution}: {type(inner).__name__} "
                    "takes no resolution; model=timm does, with a convolutional net"
                )
            settings["resolution"] = self.resolution
        with torch.no_grad(), self._autocast(model):
            return model(inputs, **settings)

    def _autocast(self, model: nn.Module) -> AbstractContextManager[Any]:
        if self.precision == "32":
            return nullcontext()
        return torch.autocast(next(model.parameters()).device.type, torch.bfloat16)
