"""Which examples' embeddings are kept over a run, and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from minesweep.datasets.base import Data
from minesweep.evaluation.embed import embed
from minesweep.tracking.embeddings import Examples


class Embedded:
    """The same examples, embedded at several steps.

    Args:
        data: Where they are from.
        split: ``train`` or ``val``.
        points: At most so many, evenly over the split's rows.
    """

    def __init__(self, data: Data, split: str, points: int) -> None:
        self.split = data.train if split == "train" else data.val
        count = min(points, len(self.split))
        self.rows = torch.linspace(0, len(self.split) - 1, count).round().long()
        self.rows = self.rows.to(self.split.device)
        self._name, self._class_names = split, data.class_names

    @torch.no_grad()
    def vectors(
        self, model: nn.Module, compared: Callable[[Tensor], Tensor]
    ) -> tuple[np.ndarray, Examples]:
        """Embeddings by the present model in the mode it is in.

        Args:
            model: See :func:`~minesweep.evaluation.embed.embed`.
            compared: Makes of embeddings what distances are measured between.

        Whatever the model draws meanwhile, the global generators are as they were before.
        """
        devices = [self.rows.device] if self.rows.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            vectors, labels = embed(model, self.split, self.rows)
        rows = self.rows.repeat(len(labels) // len(self.rows))
        examples = Examples(
            self._name,
            rows.cpu().numpy(),
            labels.cpu().numpy(),
            self._class_names,
            _pictures(self.split.fetch(self.rows).inputs) if len(rows) == len(self.rows) else None,
        )
        return compared(vectors).float().cpu().numpy(), examples


def _pictures(inputs: Any) -> np.ndarray | None:
    """``[m, height, width, 1 or 3]`` uint8 of image tensors, None of anything else."""
    if not isinstance(inputs, Tensor) or inputs.ndim != 4 or inputs.shape[1] not in (1, 3):
        return None
    pixels = inputs.float()
    low, high = pixels.aminmax()
    pixels = (pixels - low) / (high - low).clamp(min=1e-12) * 255
    return pixels.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
