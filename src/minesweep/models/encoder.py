"""A timm model as an encoder: pooled features, and a projection head on top of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from minesweep.models.mlp import ACTIVATIONS
from minesweep.models.timm import Timm
from minesweep.words import check_word


class Encoder(Timm):
    """Any timm model without its classifier, and an MLP that projects its features.

    The head is applied to what the network returns, not put in the place of its classifier,
    whose name differs from family to family: so it is in use in every architecture.

    Args:
        name: A name of ``timm.list_models()``.
        dim: Of the embedding.
        hidden: Units of the head's hidden layer; None for as many as there are features, as
            in MoCo-v2 (arXiv 2003.04297).
        activation: Between the head's two layers.
        input_shape: ``(channels, height, width)`` of the data.
        num_classes: Not looked at: an embedding knows no classes.
        **network: See :class:`~minesweep.models.timm.Timm`.

    Maps ``[n, channels, height, width]`` to ``[n, dim]``.
    """

    def __init__(
        self,
        name: str,
        dim: int = 128,
        hidden: int | None = None,
        activation: str = "relu",
        *,
        input_shape: Sequence[int],
        num_classes: int,
        **network: Any,
    ) -> None:
        check_word("model.activation", activation, ACTIVATIONS)
        super().__init__(
            name,
            input_shape=input_shape,
            num_classes=0,  # timm's word for pooled features
            **network,
        )
        self.net.eval()
        with torch.no_grad():
            width = self.net(torch.zeros(1, self.in_chans, *self.size)).shape[1]
        self.net.train()
        hidden = hidden or width
        self.head = nn.Sequential(
            nn.Linear(width, hidden), ACTIVATIONS[activation](), nn.Linear(hidden, dim)
        )

    def embed(self, images: Tensor) -> Tensor:
        """``[n, width]`` pooled features, below the head: what is evaluated and reused."""
        return super().forward(images)

    def forward(self, images: Tensor, resolution: float = 1.0) -> Tensor:
        return self.head(super().forward(images, resolution))
