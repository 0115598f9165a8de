"""A dataset, a model and a miner: replace what is here by your own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minesweep.datasets.base import Data, Dataset, Split
from minesweep.miners.base import Miner


class Spirals(Dataset):
    """Points on the arms of a spiral; the class is the arm.

    Args:
        size: Points in each split.
        arms: How many classes there are.
        noise: Standard deviation of a point around its arm.
    """

    def __init__(self, size: int = 1000, arms: int = 3, noise: float = 0.05) -> None:
        self.size, self.arms, self.noise = size, arms, noise

    def load(self, data_dir: Path) -> Data:
        """The training, validation and test split."""
        train, val, test = (self._draw(seed) for seed in range(3))
        return Data(train, val, test, num_classes=self.arms, input_shape=(2,))

    def _draw(self, seed: int) -> Split:
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(self.arms, (self.size,), generator=generator)
        radius = torch.rand(self.size, generator=generator)
        angle = 2 * torch.pi * (labels / self.arms + radius)
        points = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
        return Split(points + self.noise * torch.randn(points.shape, generator=generator), labels)


class Net(nn.Sequential):
    """A small network; ``input_shape`` and ``num_classes`` come from the data."""

    def __init__(self, width: int = 64, *, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(
            nn.Linear(input_shape[0], width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, num_classes),
        )


class AboveMean(Miner):
    """Learns from the examples whose loss is above ``factor`` times the mean of the batch."""

    def __init__(self, factor: float = 1.0, **schedule: Any) -> None:
        super().__init__(**schedule)
        self.factor = factor

    def select(self, scores: Tensor, **context: Any) -> Tensor:
        """1 for each example that the update learns from, else 0."""
        return (scores >= self.factor * scores.mean()).to(scores.dtype)
