"""Models of many kinds, a batch for them, and the gradients of one step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from minesweep.compat import import_timm
from minesweep.datasets.base import Batch
from minesweep.miners import Ohem
from minesweep.miners.base import Miner
from minesweep.models.mlp import MLP
from minesweep.objectives import CrossEntropy

CLASSES = 5
NARROW = (32, 32, 64, 128)
IMAGES = {"input_shape": (3, 32, 32), "num_classes": CLASSES}


def timm(name: str, **settings: Any) -> nn.Module:
    return import_timm().create_model(name, num_classes=CLASSES, **settings)


def frozen_batchnorm() -> nn.Module:
    model = timm("resnet18", channels=NARROW).train()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
            nn.init.normal_(layer.running_mean, std=0.1)
    return model


class Sequences(nn.Module):
    """Time comes first, so rows lie along the second dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(96, 4, 64, dropout=0.1)
        self.lstm = nn.LSTM(96, 16)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        steps = images.transpose(1, 2).flatten(2).transpose(0, 1)
        return self.head(self.lstm(self.layer(steps))[0][-1])


class TimesTwo(nn.Module):
    """Two rows for each example inside; in-place operations on what a convolution gave."""

    def __init__(self) -> None:
        super().__init__()
        self.convolve = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.SiLU(inplace=True))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        turned = torch.cat([images, images.flip(-1)])
        found = self.convolve(turned)
        found += 0.5
        first, second = self.pool(found).chunk(2)
        return first * second.sigmoid()


class Patches(nn.Module):
    """Patches after BatchNorm become a sequence, so that their gradients come transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.BatchNorm2d(8).eval())
        self.head = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.embed(images).flatten(2).transpose(1, 2).cumsum(1)).mean(1)


class StandardisedWeights(nn.Conv2d):
    """BatchNorm in train mode, but of the weights."""

    def forward(self, images: Tensor) -> Tensor:
        weights = self.weight.reshape(1, len(self.weight), -1)
        weights = functional.batch_norm(weights, None, None, training=True)
        return functional.conv2d(images, weights.reshape_as(self.weight), self.bias, 2)


VIT = {
    "name": "vit_tiny_patch16_224",
    "img_size": 32,
    "patch_size": 8,
    "depth": 2,
    "embed_dim": 48,
    "num_heads": 3,
}
CHANCE = {"proj_drop_rate": 0.2, "drop_path_rate": 0.3, "pos_drop_rate": 0.1}
SWIN = {
    "name": "swin_tiny_patch4_window7_224",
    "img_size": 32,
    "embed_dim": 24,
    "depths": (2, 2),
    "num_heads": (2, 4),
    "window_size": 4,
}

MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: MLP([40, 30], "gelu", **IMAGES),
    "vit": lambda: timm(**VIT),
    "vit with chance": lambda: timm(**VIT, **CHANCE),
    "swin": lambda: timm(**SWIN),
    "resnet with GroupNorm": lambda: timm("resnet18", norm_layer="groupnorm", channels=NARROW),
    "resnet with frozen BatchNorm": frozen_batchnorm,
    "convnext": lambda: timm("convnext_atto", depths=(1, 1, 1, 1)),
    "channels last": lambda: timm("resnet18", norm_layer="groupnorm", channels=NARROW).to(
        memory_format=torch.channels_last
    ),
    "patches": Patches,
    "standardised weights": lambda: nn.Sequential(
        StandardisedWeights(3, 8, 3), nn.InstanceNorm2d(8), nn.Flatten(), nn.Linear(1800, CLASSES)
    ),
    "time first": Sequences,
    "two rows each": TimesTwo,
}


def batch_of(n: int = 16, dtype: torch.dtype = torch.float32) -> Batch:
    draws = torch.Generator().manual_seed(1)
    images = torch.randn(n, 3, 32, 32, generator=draws, dtype=torch.double).to(dtype)
    return Batch(images, torch.arange(n) % CLASSES, torch.arange(n))


def gradients(
    model: nn.Module,
    way: str,
    batch: Batch,
    miner: Miner | None = None,
    objective: Callable[..., Any] = CrossEntropy,
    step: int = 0,
) -> dict[str, Tensor]:
    """Of one step, from the same chance."""
    model.zero_grad()
    torch.manual_seed(3)
    objective(backward=way)(model, batch, miner or Ohem(k=5), step).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Relative to the norm of each parameter's gradient."""
    assert found.keys() == expected.keys()
    whole = torch.stack([gradient.norm() for gradient in expected.values()]).max()
    for name, gradient in expected.items():
        # A bias before a normalisation has a gradient of 0 and rounding errors.
        scale = max(gradient.norm(), 1e-3 * whole)
        assert (found[name] - gradient).norm() <= tolerance * scale, name
