"""A U-Net for labels of pixels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from minesweep.errors import UserError
from minesweep.models.inputs import check_images

GROUPS = 8


class UNet(nn.Module):
    """An encoder and a decoder with skip connections (Ronneberger et al., arXiv 1505.04597).

    Each level has two 3 x 3 convolutions with GroupNorm, whose statistics do not depend on the
    batch, and ReLU. Any size of image will do; the output has the image's size.

    Args:
        widths: Channels of each level, the finest first.
        auxiliary: Whether a second head, on the coarsest level, is trained too. A training pass
            then returns two tensors; see :mod:`minesweep.objectives.pixels`.
        input_shape: ``(channels, height, width)`` of the data.
        num_classes: Number of classes of a pixel.

    Raises:
        UserError: A width below 1, or data that are no images.

    Maps ``[n, channels, height, width]`` to ``[n, num_classes, height, width]``.
    """

    def __init__(
        self,
        widths: Sequence[int] = (16, 32, 64),
        auxiliary: bool = False,
        *,
        input_shape: Sequence[int],
        num_classes: int,
    ) -> None:
        super().__init__()
        if not widths or not all(isinstance(w, int) and w > 0 for w in widths):
            raise UserError(
                f"model.widths={widths} must be a list of whole numbers of at least 1, "
                "e.g. [16,32,64]"
            )
        check_images("model=unet", input_shape)
        sizes = [input_shape[0], *widths]
        self.down = nn.ModuleList(_Level(a, b) for a, b in itertools.pairwise(sizes))
        upwards = list(itertools.pairwise(reversed(widths)))
        self.up = nn.ModuleList(_Level(below + skip, skip) for below, skip in upwards)
        self.head = nn.Conv2d(widths[0], num_classes, 1)
        self.auxiliary = nn.Conv2d(widths[-1], num_classes, 1) if auxiliary else None

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        found = [self.down[0](images)]
        for level in self.down[1:]:
            found.append(level(functional.max_pool2d(found[-1], 2, ceil_mode=True)))
        coarsest = x = found.pop()
        for level in self.up:
            skip = found.pop()
            x = level(torch.cat([_to(x, skip), skip], 1))
        outputs: Tensor = self.head(x)
        if self.auxiliary is None or not self.training:
            return outputs
        further = functional.interpolate(
            self.auxiliary(coarsest), images.shape[-2:], mode="bilinear", align_corners=False
        )
        return outputs, further


class _Level(nn.Sequential):
    def __init__(self, before: int, after: int) -> None:
        groups = math.gcd(GROUPS, after)
        super().__init__(
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.GroupNorm(groups, after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.GroupNorm(groups, after),
            nn.ReLU(),
        )


def _to(x: Tensor, like: Tensor) -> Tensor:
    """Nearest neighbours: each number of the coarser level over a square of the finer one."""
    height, width = like.shape[-2:]
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, :height, :width]
