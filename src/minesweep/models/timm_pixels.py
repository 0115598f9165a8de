"""Any timm model that gives features, as an encoder for labels of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from minesweep.compat import import_timm
from minesweep.errors import UserError
from minesweep.models.inputs import check_images
from minesweep.models.timm import check_name, no_weights
from minesweep.network import hub


class TimmPixels(nn.Module):
    """A timm encoder (``features_only``) and a light decoder.

    The decoder is that of feature pyramids (Lin et al., arXiv 1612.03144): each level is brought to
    ``width`` channels, and the coarser sum is added to the finer level. A 3 x 3 convolution and a
    1 x 1 one follow on the finest, whose output is enlarged to the image's size.

    Args:
        name: A name of ``timm.list_models()``.
        pretrained: Whether to start from timm's weights, which are downloaded.
        width: Channels of the decoder.
        input_shape: ``(channels, height, width)`` of the data.
        num_classes: Number of classes of a pixel.
        **settings: Further keywords of ``timm.create_model``, e.g. ``out_indices``.

    Raises:
        UserError: An unknown name or setting, an encoder without features, an image that is too
            small for it, or weights that cannot be had.

    Maps ``[n, channels, height, width]`` to ``[n, num_classes, height, width]``.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool = False,
        width: int = 64,
        *,
        input_shape: Sequence[int],
        num_classes: int,
        **settings: Any,
    ) -> None:
        super().__init__()
        check_name(name)
        check_images("model=timm_pixels", input_shape)
        self.encoder = _encoder(name, pretrained, {"in_chans": input_shape[0], **settings})
        self._check(name, input_shape)
        channels = self.encoder.feature_info.channels()
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.smooth = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        levels = [bring(x) for bring, x in zip(self.lateral, self.encoder(images), strict=True)]
        x = levels.pop()
        while levels:
            finer = levels.pop()
            x = finer + functional.interpolate(x, finer.shape[-2:], mode="nearest")
        outputs = self.head(self.smooth(x))
        return functional.interpolate(
            outputs, images.shape[-2:], mode="bilinear", align_corners=False
        )

    def _check(self, name: str, input_shape: Sequence[int]) -> None:
        training = self.encoder.training
        try:
            with torch.no_grad():
                found = self.encoder.eval()(torch.zeros(1, *input_shape))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise UserError(
                f"model.name={name} takes no images of {input_shape[1]} x {input_shape[2]} "
                f"({str(error).splitlines()[0]}): take another model, or set dataset.image_size"
            ) from None
        finally:
            self.encoder.train(training)
        flat = [x.ndim != 4 or x.shape[1] != c for x, c in
                zip(found, self.encoder.feature_info.channels(), strict=True)]  # fmt: skip
        if any(flat):
            raise UserError(
                f"model.name={name} gives features in another layout than [n, channels, height, "
                "width]: take a convolutional model, such as resnet18"
            )


def _encoder(name: str, pretrained: bool, settings: dict[str, Any]) -> Any:
    try:
        with hub() if pretrained else nullcontext():
            return import_timm().create_model(
                name, pretrained=pretrained, features_only=True, **settings
            )
    except (TypeError, AttributeError, AssertionError, IndexError) as error:
        raise UserError(f"model.name={name} gives no features here: {error}") from None
    except (OSError, RuntimeError) as error:
        if not pretrained:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"model.name={name} gives no features: {reason}") from None
        raise no_weights(name, error) from None
