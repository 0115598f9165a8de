"""Augmentation of a whole batch at once, each image by its own draws.

torchvision's transforms take one image at a time, or give a whole batch the same draw; one
image at a time costs more here than a small encoder's step. So a view is two linear maps:

- *where*: crop, flip, resize and blur weigh rows and columns of pixels, ``V @ image @ H.T``;
- *which colour*: brightness, contrast, saturation, hue and grey are one affine map of RGB.

Differences to torchvision: values are clamped once, at the end; hue turns in the YIQ plane, not
in HSV; blur comes before the colours, which changes nothing but what is clamped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

TRIES = 10
"""Boxes that are drawn until one lies inside the image, as in torchvision."""
GREY = (0.299, 0.587, 0.114)
"""Luma of R, G and B (ITU-R BT.601)."""
_YIQ = (GREY, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


def boxes(draws: Tensor, scale: Sequence[float], ratio: Sequence[float]) -> Tensor:
    """Random boxes inside the unit square (Szegedy et al., arXiv 1409.4842, section 6).

    Args:
        draws: ``[n, 2 * TRIES + 2]`` in [0, 1).
        scale: Bounds of the area.
        ratio: Bounds of width / height, drawn evenly in its logarithm.

    Returns:
        ``[n, 4]``: left, top, width, height.
    """
    area = scale[0] + (scale[1] - scale[0]) * draws[:, :TRIES]
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shape = torch.exp(low + (high - low) * draws[:, TRIES : 2 * TRIES])
    widths, heights = (area * shape).sqrt(), (area / shape).sqrt()
    fits = (widths <= 1) & (heights <= 1)
    first = fits.int().argmax(1, keepdim=True)
    # Where none fits (once in a million), the first is cut to the image.
    width, height = (side.gather(1, first).clamp(max=1) for side in (widths, heights))
    corner = draws[:, 2 * TRIES :] * (1 - torch.cat([width, height], 1))
    return torch.cat([corner, width, height], 1)


def resampling(start: Tensor, length: Tensor, source: int, size: int) -> Tensor:
    """Weights that resize a stretch of ``source`` pixels to ``size``, bilinear with antialias.

    Args:
        start: ``[n]`` where the stretch begins, as a share of the whole.
        length: ``[n]`` its length; negative to run backwards from ``start`` (a flip).
        source: Pixels of the whole.
        size: Pixels of the result.

    Returns:
        ``[n, size, source]``, rows of sum 1.
    """
    step = length[:, None, None] * source / size  # source pixels for one of the result
    places = torch.arange(size, device=start.device) + 0.5
    centre = start[:, None, None] * source + places[:, None] * step
    pixels = torch.arange(source, device=start.device) + 0.5
    weights = (1 - (pixels - centre).abs() / step.abs().clamp(min=1)).clamp(min=0)
    # No pixel outside the box is looked at; one that it cuts is inside, but for rounding.
    ends = torch.stack([start, start + length]).sort(0).values[..., None] * source
    inside = (pixels > ends[0] - 0.499) & (pixels < ends[1] + 0.499)
    weights = weights * inside[:, None]
    return weights / weights.sum(2, keepdim=True)


def blurring(sigma: Tensor, size: int) -> Tensor:
    """``[n, size, size]`` weights of a Gaussian blur of ``sigma`` ``[n]`` pixels; 0 for none."""
    places = torch.arange(size, device=sigma.device, dtype=sigma.dtype)
    distance = ((places[:, None] - places) / sigma.clamp(min=1e-2)[:, None, None]).abs()
    # Cut at five deviations: far tails are denormal numbers, with which a CPU is slow.
    weights = torch.exp(-0.5 * distance.clamp(max=5).square()).masked_fill(distance > 5, 0)
    return weights / weights.sum(2, keepdim=True)


def resample(images: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """``V @ image @ H.T`` of each channel of ``[n, C, h, w]`` images."""
    n, channels, height, width = images.shape
    # All rows of an image in one product: three times fewer and larger ones.
    rows = images.reshape(n, channels * height, width) @ horizontal.mT
    return vertical[:, None] @ rows.view(n, channels, height, -1)


def colour_maps(factors: Tensor, order: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """One affine map of RGB for each image: brightness, contrast, saturation, hue in any order.

    Args:
        factors: ``[n, 4]``: factors of brightness, contrast and saturation (1 for no change),
            and the turn of the hue, as a share of the circle.
        order: ``[n, 4]``: a permutation of the four.
        mean: ``[n, 3]`` mean colours, from which contrast takes its grey.

    Returns:
        Matrices ``[n, 3, 3]`` and offsets ``[n, 3]``.
    """
    n = len(factors)
    grey = mean.new_tensor(GREY)
    one = torch.eye(3, device=mean.device).expand(n, 3, 3)
    brightness, contrast, saturation, turn = factors[:, :, None, None].unbind(1)
    maps = torch.stack(
        [
            brightness * one,
            contrast * one,
            saturation * one + (1 - saturation) * grey.expand(3, 3),
            _hue(turn.flatten()),
        ],
        1,
    )
    matrix, offset = one, torch.zeros_like(mean)
    for effect in order.unbind(1):
        chosen = maps[torch.arange(n, device=mean.device), effect]
        level = torch.where(effect == 1, (1 - factors[:, 1]) * (mean @ grey), 0)[:, None]
        matrix = chosen @ matrix
        offset, mean = ((chosen @ v[:, :, None]).squeeze(2) + level for v in (offset, mean))
    return matrix, offset


def _hue(turn: Tensor) -> Tensor:
    """``[n, 3, 3]``: turns the chroma plane of YIQ by ``turn`` ``[n]`` circles."""
    yiq = turn.new_tensor(_YIQ)
    angle = 2 * math.pi * turn
    rotation = torch.zeros(len(turn), 3, 3, device=turn.device)
    rotation[:, 0, 0] = 1
    rotation[:, 1, 1] = rotation[:, 2, 2] = angle.cos()
    rotation[:, 1, 2] = angle.sin()  # from red by yellow to green, as HSV counts
    rotation[:, 2, 1] = -rotation[:, 1, 2]
    return torch.linalg.inv(yiq) @ rotation @ yiq


def outside(box: Tensor, size: int) -> Tensor:
    """``[n, 1, size, size]`` bool: True at the pixels whose centre is not in ``box`` ``[n, 4]``."""
    centres = (torch.arange(size, device=box.device) + 0.5) / size
    (left, top), (width, height) = box[:, :2].T[..., None], box[:, 2:].T[..., None]
    columns = (centres >= left) & (centres < left + width)
    rows = (centres >= top) & (centres < top + height)
    return ~(rows[:, :, None] & columns[:, None, :])[:, None]
