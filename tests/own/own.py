"""A dataset, a model, a miner and a loss that Minesweep does not know: what a user would write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minesweep.datasets.base import Data, Dataset, Split
from minesweep.miners.base import Miner
from minesweep.objectives.terms import Similarities, Term


class Rings(Dataset):
    """Points in the plane; the class is the ring that a point lies on."""

    def __init__(self, size: int, rings: int = 3) -> None:
        self.size, self.rings = size, rings

    def load(self, data_dir: Path) -> Data:
        return Data(
            *(self._draw(seed) for seed in range(3)), num_classes=self.rings, input_shape=(2,)
        )

    def _draw(self, seed: int) -> Split:
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(self.rings, (self.size,), generator=generator)
        angle = 2 * torch.pi * torch.rand(self.size, generator=generator)
        radius = labels + 1 + 0.25 * torch.randn(self.size, generator=generator)
        return Split(torch.stack([radius * angle.cos(), radius * angle.sin()], 1), labels)


class Net(nn.Sequential):
    """Takes ``input_shape`` and ``num_classes`` from the data, the rest from its YAML."""

    def __init__(self, width: int = 32, *, input_shape: tuple[int, ...], num_classes: int) -> None:
        size = torch.Size(input_shape).numel()
        super().__init__(
            nn.Flatten(),
            nn.Linear(size, width),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(width, num_classes),
        )


class AboveMean(Miner):
    """Learns from the examples whose loss is above the mean of the batch."""

    def select(self, scores: Tensor, **context: Any) -> Tensor:
        return (scores >= scores.mean()).to(scores.dtype)


class Pull(Term):
    """A third loss: how far an anchor's positive is from it, whatever the negatives."""

    def __call__(self, similarities: Similarities) -> Tensor:
        return 1 - similarities.positive
