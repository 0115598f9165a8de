"""Digits in two noisy views: what momentum contrast needs, small enough for a test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from minesweep.datasets.base import Batch, Data, Split
from minesweep.datasets.digits import Digits
from minesweep.seeding import uniform


@dataclass
class Noisy(Split):
    """Draws each row in two views, a function of seed, step and row alone."""

    seed: int = 0

    def for_run(self, seed: int, views: int) -> Split:
        assert views == 2
        return Noisy(self.inputs, self.labels, seed=seed)

    def to(self, device: torch.device | str) -> Split:
        return Noisy(self.inputs.to(device), self.labels.to(device))

    def draw(self, rows: Tensor, step: int) -> Batch:
        plain = self.inputs[rows]
        noise = (
            uniform(self.seed, f"{step}/{view}", rows, plain[0].numel()) - 0.5 for view in range(2)
        )
        views = [plain + each.view_as(plain) for each in noise]
        return Batch(torch.stack(views), self.labels[rows], rows)


class TwoViews(Digits):
    def load(self, data_dir: Path) -> Data:
        data = super().load(data_dir)
        data.train = Noisy(data.train.inputs, data.train.labels)
        return data
