"""From raw images to the three splits that the trainer sees: classes, limit, noise, scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from minesweep.datasets.base import Data, Split
from minesweep.datasets.options import Options
from minesweep.seeding import generator


@dataclass(frozen=True)
class Images:
    """Raw examples.

    Attributes:
        pixels: ``[N, channels, height, width]`` uint8.
        labels: ``[N]`` int64.
    """

    pixels: Tensor
    labels: Tensor

    def __getitem__(self, rows: Tensor | slice) -> Images:
        return Images(self.pixels[rows], self.labels[rows])


def split(images: Images, sizes: Sequence[int], split_seed: int) -> list[Images]:
    """Deals shuffled rows to parts of the given sizes; the same rows for the same seed."""
    order = torch.randperm(len(images.labels), generator=generator(split_seed, "split"))
    return [images[rows] for rows in order.split(list(sizes))]


def flip_labels(
    labels: Tensor, share: float, num_classes: int, split_seed: int
) -> tuple[Tensor, Tensor]:
    """Symmetric label noise: a share of the rows gets a uniformly drawn other class.

    The rows flipped at a smaller share are among those flipped at a larger one, and go to
    the same class there: two amounts of noise differ in nothing else.

    Args:
        labels: ``[N]`` int64.
        share: In [0, 1]; ``round(share * N)`` rows are flipped.
        num_classes: Number of classes, at least 2.
        split_seed: Fixes rows and classes.

    Returns:
        The ``[N]`` labels with noise, and ``[N]`` bool, True where flipped.
    """
    draws = generator(split_seed, "label_noise")
    order = torch.randperm(len(labels), generator=draws)
    shift = torch.randint(1, num_classes, (len(labels),), generator=draws)
    flipped = torch.zeros(len(labels), dtype=torch.bool)
    flipped[order[: round(share * len(labels))]] = True
    return torch.where(flipped, (labels + shift) % num_classes, labels), flipped


def channel_moments(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of uint8 ``[N, C, H, W]`` per channel, each ``[C]`` float64.

    From exact integer counts, so that they do not depend on the number of threads.
    """
    values = torch.arange(256, dtype=torch.float64)
    counts = torch.stack(
        [torch.bincount(c.flatten(), minlength=256) for c in pixels.unbind(1)]
    ).double()
    counts /= counts.sum(1, keepdim=True)
    mean = counts @ values
    variance = (counts * (values - mean[:, None]) ** 2).sum(1)
    return mean, variance.sqrt()


def prepare(
    train: Images,
    val: Images,
    test: Images,
    *,
    maximum: int,
    class_names: Sequence[str],
    options: Options,
) -> Data:
    """Applies the options to raw splits.

    Args:
        train: What ``limit``, ``label_noise`` and the statistics of ``zscore`` look at.
        val: Left alone but for the scale, and for ``held_out_classes``.
        test: Left alone but for the scale, and for ``held_out_classes``.
        maximum: The largest value that a pixel can have, e.g. 255.
        class_names: One name for each class.
        options: See :class:`Options`.

    Returns:
        Splits of float32 ``[N, channels, height, width]`` and int64 labels.
    """
    held = torch.tensor(list(options.held_out_classes), dtype=torch.long)
    if len(held):
        train = train[~torch.isin(train.labels, held)]
        val, test = (part[torch.isin(part.labels, held)] for part in (val, test))
    train = train[: options.limit]
    labels, flipped = train.labels, None
    if options.label_noise:
        # Only to a class that is trained on.
        classes = torch.arange(len(class_names))
        trained = classes[~torch.isin(classes, held)]
        places, flipped = flip_labels(
            torch.searchsorted(trained, train.labels),
            options.label_noise,
            len(trained),
            options.split_seed,
        )
        labels = trained[places]
    offset, scale = _affine(train.pixels, maximum, options.normalize)

    def inputs(images: Images) -> Tensor:
        pixels = images.pixels.float()
        return pixels if options.normalize == "none" else pixels.sub_(offset).mul_(scale)

    return Data(
        train=Split(inputs(train), labels, flipped),
        val=Split(inputs(val), val.labels),
        test=Split(inputs(test), test.labels),
        num_classes=len(class_names),
        input_shape=tuple(train.pixels.shape[1:]),
        class_names=list(class_names),
    )


def _affine(pixels: Tensor, maximum: int, normalize: str) -> tuple[Tensor, Tensor]:
    """``(x - offset) * scale`` per channel, as ``[C, 1, 1]`` float32."""
    channels = pixels.shape[1]
    offset = torch.zeros(channels, dtype=torch.float64)
    deviation = torch.full((channels,), float(maximum), dtype=torch.float64)
    if normalize == "zscore":
        offset, deviation = channel_moments(pixels)
        deviation[deviation == 0] = 1.0  # a channel of one value becomes zeros
    return offset.float().view(-1, 1, 1), (1 / deviation).float().view(-1, 1, 1)
