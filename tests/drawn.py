"""A user's dataset and model that draw from the global generators of NumPy and Python."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minesweep.datasets.base import Data
from minesweep.datasets.digits import Digits
from minesweep.models.mlp import MLP


class DrawnDigits(Digits):
    """Digits with noise, and more of it where ``<data_dir>/more`` says so."""

    def load(self, data_dir: Path) -> Data:
        data = super().load(data_dir)
        noise = np.random.normal(size=tuple(data.train.inputs.shape)) * random.random()
        data.train.inputs += torch.from_numpy(noise).float() * 0.1
        more = data_dir / "more"
        if more.exists():
            data.val.inputs += float(more.read_text())
        return data


class DrawnMLP(MLP):
    """Begins with weights drawn by NumPy, and drops inputs by Python's and NumPy's dice."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for weight in self.parameters():
            drawn = np.random.normal(scale=0.1, size=tuple(weight.shape))
            weight.data = torch.from_numpy(drawn).float()

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            kept = np.random.random(tuple(inputs.shape)) > 0.2 * random.random()
            inputs = inputs * torch.from_numpy(kept)
        return super().forward(inputs)
