"""The models of the campaign: the smallest of each family of timm, and small ones of one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from campaign_small import SMALL
from torch import Tensor, nn

from minesweep.compat import import_timm
from minesweep.datasets.base import Batch

CLASSES = 5


@dataclass
class Case:
    """A model and what it is given.

    Attributes:
        model: As it is made.
        inputs: Given n and a seeded generator: a tensor, a tuple, or a dict of keyword arguments.
        logits: Makes ``[n, CLASSES]`` of what it gives.
    """

    model: nn.Module
    inputs: Callable[[int, torch.Generator], Any]
    logits: Callable[[Any], Tensor] = lambda outputs: outputs

    def batch(self, n: int, step: int) -> Batch:
        inputs = self.inputs(n, torch.Generator().manual_seed(100 + step))
        return Batch(inputs, torch.arange(n) % CLASSES, torch.arange(n))


def architecture(name: str) -> Case:
    """Of timm, with the smallest images that it takes."""
    create = import_timm().create_model
    for size in (64, 96, 128, 160, None):
        for settings in ({"img_size": size}, {}) if size else ({},):
            try:
                model = create(name, num_classes=CLASSES, **settings)
                shape = (3, size, size) if size else model.default_cfg["input_size"]
                with torch.no_grad():
                    outputs = model.eval()(torch.zeros(2, *shape))
            except Exception:  # whatever a size that does not fit may raise
                continue
            if outputs.shape == (2, CLASSES) and outputs.isfinite().all():
                return Case(model, images(shape))
    raise ValueError(f"{name} runs on none of the sizes")


def small(make: Callable[[], Any]) -> Case:
    return Case(*make())


def images(shape: tuple[int, ...]) -> Callable[[int, torch.Generator], Tensor]:
    return lambda n, draws: torch.randn(n, *shape, generator=draws, dtype=torch.float64)


TIMM = ["@@"]

MODELS: dict[str, Callable[[], Case]] = {
    **{name: partial(architecture, name) for name in TIMM},
    **{name: partial(small, make) for name, make in SMALL.items()},
}
