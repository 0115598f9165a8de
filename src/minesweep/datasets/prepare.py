"""From raw images to the three splits that the trainer sees: classes, limit, noise, scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from minesweep.datasets.base import Data, Dataset, Split
from minesweep.datasets.layout import PARTS
from minesweep.datasets.options import Options
from minesweep.errors import UserError
from minesweep.seeding import generator


class ArrayDataset(Dataset):
    """What datasets of arrays that are held in memory share.

    Args:
        normalize: See :class:`~minesweep.datasets.options.Options`, as for all of these.
        label_noise: Share in [0, 1].
        limit: Training rows at most.
        split_seed: Fixes splits and noise.
        held_out_classes: Class indices for validation and test alone.

    Raises:
        UserError: An argument is out of range.
    """

    class_names: ClassVar[Sequence[str]] = ()
    """Empty where only the file knows the classes."""

    def __init__(
        self,
        *,
        normalize: str = "unit",
        label_noise: float = 0.0,
        limit: int | None = None,
        split_seed: int = 0,
        held_out_classes: Sequence[int] = (),
    ) -> None:
        self.options = Options(normalize, label_noise, limit, split_seed, held_out_classes)
        if self.class_names:
            self.options.check_held_out(len(self.class_names))


@dataclass(frozen=True)
class Images:
    """Raw examples, images or others.

    Attributes:
        pixels: ``[N, channels, height, width]`` uint8, or ``[N, ...]`` of another type.
        labels: ``[N]`` int64.
    """

    pixels: Tensor
    labels: Tensor

    def __getitem__(self, rows: Tensor | slice) -> Images:
        return Images(self.pixels[rows], self.labels[rows])


def split(images: Images, sizes: Sequence[int], split_seed: int) -> list[Images]:
    """Deals shuffled rows to parts of the given sizes; the same rows for the same seed."""
    order = training_order(len(images.labels), split_seed)
    return [images[rows] for rows in order.split(list(sizes))]


def deal(
    classes: Sequence[str],
    given: Sequence[str],
    val_share: float,
    test_share: float,
    split_seed: int,
) -> list[str]:
    """The split of each example: as given, else dealt by shares of each class.

    What is given as ``train``, or all that is left where that is not given, is dealt on to the
    splits that are not given. Where ``train`` is given, an example given to no split is in none.

    Args:
        classes: The class of each example.
        given: The split of each; empty where none is given.
        val_share: Of the examples of a class that may be dealt.
        test_share: Of the same.
        split_seed: Fixes what is dealt.
    """
    shares = {"val": val_share, "test": test_share}
    shares = {part: share for part, share in shares.items() if part not in given}
    rest = "" if "train" in given else "train"
    splits = [part or rest for part in given]
    free: dict[str, list[int]] = {}
    for row, (name, part) in enumerate(zip(classes, splits, strict=True)):
        if part == "train":
            free.setdefault(name, []).append(row)
    for name, rows in free.items():
        # A class of its own generator: another class more or less changes nothing here.
        order = torch.randperm(len(rows), generator=generator(split_seed, f"split/{name}"))
        turn = iter(order.tolist())
        for part, share in shares.items():
            for _ in range(round(share * len(rows))):
                splits[rows[next(turn)]] = part
    return splits


def deal_rows(
    where: object,
    classes: Sequence[str],
    given: Sequence[str],
    *,
    val_share: float,
    test_share: float,
    split_seed: int,
    limit: int | None = None,
) -> dict[str, Tensor]:
    """The rows of each split by :func:`deal`; those of training shuffled, and at most ``limit``.

    Args:
        where: The data's name, for the message.
        classes: As there, and so the rest.

    Raises:
        UserError: A split would be empty.
    """
    splits = deal(classes, given, val_share, test_share, split_seed)
    rows = {}
    for part in PARTS:
        rows[part] = torch.tensor([row for row, split in enumerate(splits) if split == part])
        if not len(rows[part]):
            raise UserError(f"{where} leaves no examples for the {part} split")
    rows["train"] = rows["train"][training_order(len(rows["train"]), split_seed)][:limit]
    return rows


def training_order(count: int, split_seed: int) -> Tensor:
    """A shuffled order: a limit must not keep the first classes alone."""
    return torch.randperm(count, generator=generator(split_seed, "split"))


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
    maximum: int | None,
    class_names: Sequence[str],
    options: Options,
) -> Data:
    """Applies the options to raw splits.

    Args:
        train: What ``limit``, ``label_noise`` and the statistics of ``zscore`` look at.
        val: Left alone but for the scale, and for ``held_out_classes``.
        test: Left alone but for the scale, and for ``held_out_classes``.
        maximum: The largest value that a pixel can have, e.g. 255; None where values have no
            known bounds: ``unit`` then scales those of the training split to [0, 1].
        class_names: One name for each class.
        options: See :class:`Options`.

    Returns:
        Splits of float32 inputs in the shape of the raw ones, and int64 labels.
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


def _affine(pixels: Tensor, maximum: int | None, normalize: str) -> tuple[Tensor, Tensor]:
    """``(x - offset) * scale`` per channel or feature, as float32 ``[C, 1, ...]``."""
    channels = pixels.shape[1]
    if normalize == "zscore":
        if pixels.dtype == torch.uint8 and pixels.ndim == 4:
            offset, deviation = channel_moments(pixels)
        else:
            rest = [dim for dim in range(pixels.ndim) if dim != 1]
            values = pixels.double()
            offset, deviation = values.mean(rest), values.std(rest, correction=0)
    elif maximum is None and normalize == "unit":
        low, high = (bound.double() for bound in pixels.aminmax())
        offset, deviation = low.expand(channels), (high - low).expand(channels)
    else:
        offset = torch.zeros(channels, dtype=torch.float64)
        deviation = torch.full((channels,), float(maximum or 1), dtype=torch.float64)
    # A channel of one value becomes zeros; rounding leaves it a deviation, too.
    constant = deviation <= 1e-12 * offset.abs()
    deviation = deviation.masked_fill(constant, 1.0)
    shape = (-1, *[1] * (pixels.ndim - 2))
    return offset.float().view(shape), (1 / deviation).float().view(shape)
