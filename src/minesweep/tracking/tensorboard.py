"""TensorBoard: scalars and the loss histograms over steps as events, embeddings as a projector."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from minesweep.tracking.journal import Histogram, Row
from minesweep.tracking.projector import Projector

if TYPE_CHECKING:
    import numpy as np

    from minesweep.tracking.embeddings import Examples


class TensorBoard:
    """Writes rows as events under ``folder``; on a resume, ``step`` purges what came after it."""

    def __init__(self, folder: Path, step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=step or None)
        self._projector = Projector(folder, step)

    def log(self, row: Row) -> None:
        step = row["step"]
        for name, value in row.items():
            if isinstance(value, Histogram):
                self._histogram(name, value, step)
            elif name != "step":
                self._writer.add_scalar(name, value, step)

    def _histogram(self, name: str, histogram: Histogram, step: int) -> None:
        edges = histogram.edges
        middles = [(low + high) / 2 for low, high in pairwise(edges)]
        self._writer.add_histogram_raw(
            name,
            min=histogram.low,
            max=histogram.high,
            num=sum(histogram.counts),
            sum=sum(c * m for c, m in zip(histogram.counts, middles, strict=True)),
            sum_squares=sum(c * m * m for c, m in zip(histogram.counts, middles, strict=True)),
            bucket_limits=edges[1:],
            bucket_counts=histogram.counts,
            global_step=step,
        )

    def embed(self, step: int, vectors: np.ndarray, examples: Examples) -> None:
        self._projector.write(step, vectors, examples)

    def finish(self, summary: Row | None, exit_code: int) -> None:
        for name, value in (summary or {}).items():
            if name.startswith("test/"):
                self._writer.add_scalar(name, value, (summary or {})["step"])
        self._writer.close()
