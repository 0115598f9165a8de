"""Any model of timm (PyTorch Image Models), on images of any size and number of channels."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from minesweep.compat import import_timm
from minesweep.errors import UserError
from minesweep.models.inputs import check_images
from minesweep.models.weights import load_weights
from minesweep.network import hub
from minesweep.words import check_word

_STEP = 32  # between the sizes that are tried: the stride of most convolutional nets


def check_name(name: str) -> None:
    """Checks that timm has this model (``resnet18``, or with a weights tag ``resnet18.a1_in1k``).

    Raises:
        UserError: It has not; the line names the nearest ones.
    """
    timm = import_timm()
    if not isinstance(name, str) or not timm.is_model(name):
        check_word("model.name", name, timm.list_models())


def no_weights(name: str, error: Exception) -> UserError:
    """What to raise where the weights of a model could not be downloaded."""
    reason = str(error).strip().splitlines()[0]
    return UserError(
        f"model.pretrained=true: no weights of {name} could be had ({reason}); "
        "take model.pretrained=false, or a machine with a network once"
    )


class Timm(nn.Module):
    """A timm model as a classifier.

    Args:
        name: A name of ``timm.list_models()``.
        pretrained: Whether to start from timm's weights, which are downloaded.
        weights: A file of weights to start from, or ``efficientnet_lite0`` (see
            :func:`~minesweep.models.weights.load_weights`); None for neither.
        image_size: Side in pixels to which batches are resized (bilinear). None keeps the
            data's own size, or takes the smallest larger one that the architecture accepts:
            8 x 8 digits stay so for a ResNet, and go to 32 x 32 for a ViT of patch 16.
        in_chans: Channels that the model takes; None for those of the data. With 3, a
            one-channel image is repeated.
        input_shape: ``(channels, height, width)`` of the data.
        num_classes: Number of outputs.
        **settings: Further keywords of ``timm.create_model``, e.g. ``drop_rate``.

    Raises:
        UserError: An unknown name or setting, a size that the architecture cannot take, or
            weights that cannot be had.

    Maps ``[n, channels, height, width]`` to ``[n, num_classes]``.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool = False,
        weights: str | None = None,
        image_size: int | None = None,
        in_chans: int | None = None,
        *,
        input_shape: Sequence[int],
        num_classes: int,
        **settings: Any,
    ) -> None:
        super().__init__()
        check_name(name)
        check_images(f"model.name={name}", input_shape)
        channels, height, width = input_shape
        self.in_chans = in_chans or channels
        if channels not in (1, self.in_chans):
            raise UserError(
                f"model.in_chans={in_chans} does not fit data of {channels} channels: "
                f"take {channels} or null"
            )
        settings = {"in_chans": self.in_chans, "num_classes": num_classes, **settings}
        architecture = _Architecture(name, settings)
        if image_size is None:
            self.size = architecture.smallest((height, width))
        else:
            self.size = architecture.check(image_size)
        self.fixed = architecture.fixed
        self.net = architecture.build(self.size, pretrained=pretrained)
        if weights is not None:
            load_weights(self.net, weights)

    def forward(self, images: Tensor, resolution: float = 1.0) -> Tensor:
        """``resolution`` in (0, 1] makes a coarser and cheaper pass, at this share of the side."""
        size = self.size if resolution == 1.0 else self._coarser(resolution)
        if images.shape[-2:] != size:
            images = functional.interpolate(images, size, mode="bilinear", antialias=True)
        return self.net(images.expand(-1, self.in_chans, -1, -1))

    def _coarser(self, resolution: float) -> tuple[int, int]:
        if self.fixed:
            raise UserError(
                "objective.selecting.resolution: this timm model is built for images of one size; "
                "set it to 1, or take a convolutional model"
            )
        height, width = (max(1, round(side * resolution)) for side in self.size)
        return height, width


class _Architecture:
    """Builds a timm model, and finds out which image sizes it takes.

    Sizes are tried on torch's ``meta`` device: shapes without numbers, so that a trial costs
    a fraction of a second for the largest model and moves no random generator.
    """

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        self.name, self.settings = name, settings
        config = import_timm().get_pretrained_cfg(name)
        # A ViT, Swin or mixer is built for one size; a convolutional net takes what comes.
        self.fixed = config is not None and config.fixed_input_size
        self.native: tuple[int, int] = config.input_size[1:] if config else (224, 224)
        with torch.device("meta"):
            self.patch = _patch(self.build(self.native)) if self.fixed else 1

    def build(self, size: tuple[int, int], pretrained: bool = False) -> nn.Module:
        settings = dict(self.settings, pretrained=pretrained)
        if self.fixed:
            settings["img_size"] = size[0] if size[0] == size[1] else size
        try:
            with hub() if pretrained else nullcontext():
                return import_timm().create_model(self.name, **settings)
        except TypeError as error:
            raise UserError(f"model.name={self.name}: {error}") from error
        except (OSError, RuntimeError) as error:
            if not pretrained:
                raise
            raise no_weights(self.name, error) from error

    def takes(self, size: tuple[int, int]) -> bool:
        """Whether images of this size pass, in whole patches and at least 2 x 2 of them.

        A ViT would otherwise silently leave out the border that fills no patch.
        """
        if self.patch > 1 and any(s % self.patch or s < 2 * self.patch for s in size):
            return False
        try:
            with warnings.catch_warnings(), torch.device("meta"), torch.no_grad():
                warnings.simplefilter("ignore")  # a layer without elements, in a failed trial
                model = self.build(size).eval()
                for part in model.modules():
                    if isinstance(part, nn.Conv2d):
                        part.register_forward_hook(_refuse_nothing)
                model(torch.zeros(2, self.settings["in_chans"], *size))
        except (RuntimeError, AssertionError, ValueError):
            return False
        return True

    def smallest(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size itself if the architecture takes it, else the smallest larger square."""
        for candidate in (size, *self._larger(size)):
            if self.takes(candidate):
                return candidate
        raise UserError(
            f"model.name={self.name} takes no images of {self.settings['in_chans']} channels "
            f"from {size[0]} x {size[1]} up to {self.native[0]} pixels: set model.image_size "
            "or take another model"
        )

    def check(self, side: int) -> tuple[int, int]:
        """The square of a side that the user asked for, if the architecture takes it."""
        if not isinstance(side, int) or side < 1:
            raise UserError(f"model.image_size={side} must be a whole number of pixels, or null")
        if not self.takes((side, side)):
            raise UserError(
                f"model.image_size={side} does not fit {self.name}: the next that fits is "
                f"{self.smallest((side, side))[0]}; null chooses by the data"
            )
        return side, side

    def _larger(self, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
        step = self.patch if self.patch > 1 else _STEP
        for side in range(step, max(*size, *self.native) + step, step):
            if side >= max(size):
                yield side, side
        yield self.native


def _refuse_nothing(part: nn.Module, given: object, made: Tensor) -> None:
    """Refuses an image smaller than a kernel, which torch 2.6 lets pass on ``meta``."""
    if not made.numel():
        raise ValueError("a convolution leaves nothing of the image")


def _patch(model: nn.Module) -> int:
    """Side of the patches that the image itself is cut into, in pixels; 1 if there are none."""
    for stem in ("patch_embed", "stem"):  # the second in MLP-Mixer and its kin
        patch = getattr(getattr(model, stem, None), "patch_size", 1)
        side = max(patch) if isinstance(patch, Sequence) else patch
        if side > 1:
            return side
    return 1
