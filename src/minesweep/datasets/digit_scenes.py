"""Scenes of handwritten digits among clutter, with a label for each pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from minesweep.datasets.base import Data, Dataset, Split
from minesweep.datasets.digits import Digits
from minesweep.datasets.mnist import Mnist
from minesweep.errors import UserError
from minesweep.seeding import generator
from minesweep.words import check_word

SOURCES = {"mnist": Mnist, "digits": Digits}
INK = 0.3
"""A pixel belongs to a digit where it is brighter than this, of 0 to 1."""


class DigitScenes(Dataset):
    """Images of up to ``objects`` digits, fragments of other digits, and noise.

    Class 0 is the background, to which the fragments belong; the others are ``digits`` in their
    order. The splits are made of different digits: those of the source's own splits.

    Args:
        source: ``mnist``, or ``digits`` (scikit-learn's, which need no file).
        digits: Which digits are objects; all others are clutter.
        scenes: How many training scenes.
        held_out: How many scenes for validation; and twice as many for the test.
        size: Side of a scene in pixels.
        objects: At most so many digits in a scene; how many is drawn uniformly from 0.
        least: Least side of a digit in pixels.
        most: Largest side of a digit in pixels.
        clutter: Fragments in each scene.
        noise: Standard deviation of the noise, the ink being 1.
        split_seed: Fixes the scenes.

    Raises:
        UserError: An argument is out of range.
    """

    def __init__(
        self,
        *,
        source: str = "mnist",
        digits: Sequence[int] = (0, 1),
        scenes: int = 1500,
        held_out: int = 250,
        size: int = 20,
        objects: int = 2,
        least: int = 12,
        most: int = 16,
        clutter: int = 1,
        noise: float = 0.1,
        split_seed: int = 0,
    ) -> None:
        self.source = check_word("dataset.source", source, SOURCES)
        if not 1 <= len(set(digits)) == len(digits) <= 9 or not set(digits) <= set(range(10)):
            raise UserError(
                f"dataset.digits={list(digits)} must be 1 to 9 different digits, e.g. [0,1]"
            )
        if not 4 <= least <= most <= size:
            raise UserError(
                f"dataset.least={least} and dataset.most={most} must be sides of digits, "
                f"4 <= least <= most <= dataset.size={size}"
            )
        self.digits, self.scenes, self.held_out = list(digits), scenes, held_out
        self.size, self.objects, self.sides = size, objects, (least, most)
        self.clutter, self.noise, self.split_seed = clutter, noise, split_seed

    def load(self, data_dir: Path) -> Data:
        """Draws the scenes; ``data_dir`` holds the source's files."""
        source = SOURCES[self.source](split_seed=self.split_seed).load(data_dir)
        names = ["background", *map(str, self.digits)]
        return Data(
            train=self._draw(source.train, self.scenes, "scenes/train"),
            val=self._draw(source.val, self.held_out, "scenes/val"),
            test=self._draw(source.test, 2 * self.held_out, "scenes/test"),
            num_classes=len(names),
            input_shape=(1, self.size, self.size),
            class_names=names,
        )

    def _draw(self, source: Split, count: int, purpose: str) -> Split:
        draws = generator(self.split_seed, purpose)
        wanted = torch.tensor(self.digits)
        inside = torch.isin(source.labels, wanted)
        digits, others = (mask.nonzero().squeeze(1).tolist() for mask in (inside, ~inside))
        images = torch.zeros(count, 1, self.size, self.size)
        masks = torch.zeros(count, self.size, self.size, dtype=torch.uint8)

        def whole(low: int, high: int) -> int:
            return int(torch.randint(low, high + 1, (), generator=draws))

        def one(rows: list[int]) -> int:
            return rows[whole(0, len(rows) - 1)]

        for image, mask in zip(images[:, 0], masks, strict=True):
            for _ in range(self.clutter):
                piece = self._digit(source.inputs[one(others)], whole(*self.sides))
                half = len(piece) // 2
                top, left = (whole(0, len(piece) - half) for _ in range(2))
                self._paste(image, piece[top : top + half, left : left + half], whole)
            for _ in range(whole(0, self.objects)):
                row = one(digits)
                piece = self._digit(source.inputs[row], whole(*self.sides))
                spot = self._paste(image, piece, whole)
                label = self.digits.index(int(source.labels[row])) + 1
                mask[spot][piece > INK] = label
        images += self.noise * torch.randn(images.shape, generator=draws)
        return Split(images, masks)

    def _digit(self, image: Tensor, side: int) -> Tensor:
        """``[side, side]`` in [0, 1], the darkest 0."""
        resized = functional.interpolate(image[None], (side, side), mode="bilinear", antialias=True)
        return resized[0, 0].clamp(0, 1)

    def _paste(
        self, image: Tensor, piece: Tensor, whole: Callable[[int, int], int]
    ) -> tuple[slice, slice]:
        top, left = (whole(0, self.size - len(piece)) for _ in range(2))
        spot = slice(top, top + len(piece)), slice(left, left + len(piece))
        image[spot] = torch.maximum(image[spot], piece)
        return spot
