"""What the training sees of an image: a view, differently augmented at each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from minesweep.compat import import_torchvision
from minesweep.datasets import augment
from minesweep.errors import UserError
from minesweep.seeding import derive, uniform

REFERENCE = 224
"""Side in pixels of the images that the published blurs are meant for."""
EFFECTS = ("brightness", "contrast", "saturation", "hue")


@dataclass(frozen=True)
class Views:
    """How an image is augmented. Each effect has draws of its own: one more changes no other.

    Attributes:
        crop_scale: Bounds of the cropped share of the image's area; None for the whole image.
        crop_ratio: Bounds of the crop's width / height.
        flip: Probability of a horizontal flip.
        jitter: Strengths of ``brightness``, ``contrast``, ``saturation`` (factors from 1 - s to
            1 + s) and ``hue`` (a turn by up to s of the circle, either way), in random order.
        jitter_probability: Of the four together.
        grayscale: Probability of a grey image.
        blur: Probability of a Gaussian blur.
        blur_sigma: Bounds of its deviation, in pixels of an image of side 224.
        erase: Probability that a box of 2 to 33 % of the area is erased to the image's mean
            colour (Zhong et al., arXiv 1708.04896).
        rand_augment: ``{ops: 2, magnitude: 9}``: torchvision's RandAugment (Cubuk et al., arXiv
            1909.13719), one image at a time and slow; None for none.

    Raises:
        UserError: A value is out of range.
    """

    crop_scale: Sequence[float] | None = (0.2, 1.0)
    crop_ratio: Sequence[float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: Mapping[str, float] | None = None
    jitter_probability: float = 0.8
    grayscale: float = 0.0
    blur: float = 0.0
    blur_sigma: Sequence[float] = (0.1, 2.0)
    erase: float = 0.0
    rand_augment: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        if self.crop_scale is not None:
            _check_bounds("crop_scale", self.crop_scale, 1.0)
        _check_bounds("crop_ratio", self.crop_ratio, 100.0)
        _check_bounds("blur_sigma", self.blur_sigma, REFERENCE)
        _check_keys("jitter", self.jitter, EFFECTS)
        _check_keys("rand_augment", self.rand_augment, ("ops", "magnitude"))
        for name, value in (self.jitter or {}).items():
            most = 0.5 if name == "hue" else 1.0
            if not 0 <= value <= most:
                raise UserError(f"dataset.views.jitter.{name}={value} must be in [0, {most:g}]")

    def __call__(self, pixels: Tensor, rows: Tensor, size: int, seed: int, purpose: str) -> Tensor:
        """One view of each image.

        Args:
            pixels: ``[n, 3, S, S]`` uint8.
            rows: ``[n]``; what an image draws depends on its row, not on its place.
            size: Side of the views.
            seed: The run's seed.
            purpose: What is drawn for, e.g. ``views/17/0``: equal for equal draws.

        Returns:
            ``[n, 3, size, size]`` float32 in [0, 1].
        """

        def draw(effect: str, count: int = 1) -> Tensor:
            return uniform(seed, f"{purpose}/{effect}", rows, count)

        views = self._resized(pixels, size, draw)
        if self.rand_augment:
            views = self._rand_augmented(views, rows, seed, purpose)
        if self.jitter or self.grayscale:
            views = self._recoloured(views, draw)
        views = views.clamp_(0, 1)
        if self.erase:
            erased = draw("erase") < self.erase
            box = augment.boxes(draw("erase_box", 2 * augment.TRIES + 2), (0.02, 0.33), (0.3, 3.3))
            kept = augment.outside(box, size) | ~erased[:, :, None, None]
            views = torch.where(kept, views, views.mean((2, 3), keepdim=True))
        return views

    def masks(self, masks: Tensor, rows: Tensor, size: int, seed: int, purpose: str) -> Tensor:
        """Masks of the views that the same arguments give: the same crops and flips.

        Args:
            masks: ``[n, S, S]``; each new pixel takes the nearest one's number.

        Returns:
            ``[n, size, size]``.
        """
        left, top, width, height = self._box(
            masks, lambda effect, count=1: uniform(seed, f"{purpose}/{effect}", rows, count)
        )
        source, centres = masks.shape[-1], (torch.arange(size, device=masks.device) + 0.5) / size
        across, down = (
            ((start[:, None] + length[:, None] * centres) * source)
            .floor()
            .long()
            .clamp(0, source - 1)
            for start, length in ((left, width), (top, height))
        )
        lines = masks.gather(1, down[:, :, None].expand(-1, -1, source))
        return lines.gather(2, across[:, None, :].expand(-1, size, -1))

    def _box(self, pixels: Tensor, draw: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Left, top, width and height of each crop, in sides; a flipped one's width is negative."""
        whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]], device=pixels.device).expand(len(pixels), 4)
        box = whole
        if self.crop_scale is not None:
            draws = draw("crop", 2 * augment.TRIES + 2)
            box = augment.boxes(draws, self.crop_scale, self.crop_ratio)
        left, top, width, height = box.unbind(1)
        if self.flip:
            flipped = draw("flip").squeeze(1) < self.flip
            left = torch.where(flipped, left + width, left)
            width = torch.where(flipped, -width, width)
        return left, top, width, height

    def _resized(self, pixels: Tensor, size: int, draw: Any) -> Tensor:
        left, top, width, height = self._box(pixels, draw)
        source = pixels.shape[-1]
        vertical = augment.resampling(top, height, source, size)
        horizontal = augment.resampling(left, width, source, size)
        if self.blur:
            low, high = self.blur_sigma
            sigma = (low + (high - low) * draw("sigma").squeeze(1)) * size / REFERENCE
            sigma = torch.where(draw("blur").squeeze(1) < self.blur, sigma, 0)
            gauss = augment.blurring(sigma, size)
            vertical, horizontal = gauss @ vertical, gauss @ horizontal
        return augment.resample(pixels.float().div_(255), vertical, horizontal)

    def _recoloured(self, views: Tensor, draw: Any) -> Tensor:
        n = len(views)
        neutral = views.new_tensor([1.0, 1.0, 1.0, 0.0])
        strength = views.new_tensor([(self.jitter or {}).get(name, 0.0) for name in EFFECTS])
        factors = neutral + strength * (2 * draw("jitter", 4) - 1)
        factors = torch.where(draw("jittered") < self.jitter_probability, factors, neutral)
        order = draw("order", 4).argsort(1)
        matrix, offset = augment.colour_maps(factors, order, views.mean((2, 3)))
        if self.grayscale:
            grey = views.new_tensor(augment.GREY).expand(3, 3)
            chosen = draw("grayscale") < self.grayscale
            matrix = torch.where(chosen[:, :, None], grey @ matrix, matrix)
            offset = torch.where(chosen, offset @ grey.T, offset)
        return torch.baddbmm(offset[:, :, None], matrix, views.flatten(2)).view(n, *views.shape[1:])

    def _rand_augmented(self, views: Tensor, rows: Tensor, seed: int, purpose: str) -> Tensor:
        changed = views.mul(255).round_().clamp_(0, 255).to(torch.uint8)
        with torch.random.fork_rng(devices=[]):
            for image, row in zip(changed, rows.tolist(), strict=True):
                # torchvision's transforms draw from the global generator alone.
                torch.default_generator.manual_seed(derive(seed, f"{purpose}/rand_augment/{row}"))
                image.copy_(self._transform(image))
        return changed.float().div_(255)

    @cached_property
    def _transform(self) -> Any:
        assert self.rand_augment is not None
        return import_torchvision("transforms.v2").RandAugment(
            self.rand_augment["ops"], self.rand_augment["magnitude"]
        )


def _check_bounds(name: str, bounds: Sequence[float], most: float) -> None:
    if len(bounds) != 2 or not 0 < bounds[0] <= bounds[1] <= most:
        raise UserError(
            f"dataset.views.{name}={list(bounds)} must be [low, high], above 0 and up to {most:g}"
        )


def _check_keys(name: str, values: Mapping[str, float] | None, known: Sequence[str]) -> None:
    for key in values or {}:
        if key not in known:
            raise UserError(f"dataset.views.{name}.{key} is not one of {', '.join(known)}")


WHOLE = Views(crop_scale=None, flip=0.0)
"""The image as it is: what an evaluation sees."""
