"""The examples whose embeddings a run keeps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from minesweep.datasets.base import Data
from minesweep.datasets.show import pictures
from minesweep.evaluation.embed import embed
from minesweep.evaluation.sample import draw_rows
from minesweep.seeding import kept_globals
from minesweep.tracking.embeddings import Examples


class EmbeddedExamples:
    """Examples of one split, embedded at several steps.

    Args:
        data: Where they are from.
        split: ``train`` or ``val``.
        points: At most so many, drawn so that each class keeps its share.
    """

    def __init__(self, data: Data, split: str, points: int) -> None:
        self.split = data.train if split == "train" else data.val
        # The same for all seeds, so that their pages can be compared.
        self.rows = draw_rows(self.split.labels, points, 0, "embeddings")
        self._name, self._class_names = split, data.class_names

    @torch.no_grad()
    def vectors(
        self, model: nn.Module, compared: Callable[[Tensor], Tensor]
    ) -> tuple[np.ndarray, Examples]:
        """Embeddings by the present model, in its present mode.

        Args:
            model: See :func:`~minesweep.evaluation.embed.embed`.
            compared: Maps outputs of the model to the vectors whose distances count.

        The global random generators stay as they were.
        """
        with kept_globals():
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
