"""The image itself in the place of an encoder's features: what an encoder has to be better than."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from minesweep.models.inputs import check_images


class Pixels(nn.Module):
    """A small copy of the image as its features, and a linear head.

    Args:
        side: Of the copy, in pixels.
        dim: Of the embedding.
        input_shape: ``(channels, height, width)`` of the data.
        num_classes: Not looked at.

    Raises:
        UserError: The data is no images.

    Maps ``[n, channels, height, width]`` to ``[n, dim]``.
    """

    def __init__(
        self, side: int = 16, dim: int = 128, *, input_shape: Sequence[int], num_classes: int
    ) -> None:
        super().__init__()
        check_images("model=pixels", input_shape)
        self.side = side
        self.head = nn.Linear(input_shape[0] * side**2, dim)

    def embed(self, images: Tensor) -> Tensor:
        """``[n, channels * side * side]``: what is evaluated."""
        return functional.adaptive_avg_pool2d(images, self.side).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.embed(images))
