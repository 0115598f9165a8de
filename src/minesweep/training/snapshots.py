"""Which examples' embeddings are kept over a run, and when."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from minesweep.datasets.base import Data
from minesweep.datasets.show import pictures
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
            pictures(self.split.fetch(self.rows).inputs) if len(rows) == len(self.rows) else None,
        )
        return compared(vectors).float().cpu().numpy(), examples
