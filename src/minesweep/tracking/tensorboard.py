"""TensorBoard: scalars, histograms, embeddings, and the run's row in the HParams table."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from minesweep.config.identity import batch_and_selected, choice, plain
from minesweep.tracking.journal import Histogram, Row
from minesweep.tracking.projector import Projector
from minesweep.tracking.sections import SECTIONS

if TYPE_CHECKING:
    import numpy as np

    from minesweep.tracking.embeddings import Examples


GROUPS = ("dataset", "model", "objective", "miner", "optimizer", "scheduler")


class TensorBoard:
    """Writes rows as events under ``folder``. A resume purges the events after ``step``."""

    def __init__(self, cfg: DictConfig, folder: Path, step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=step or None)
        self._settings = settings(cfg)
        if not step:
            self._writer.add_custom_scalars(
                {
                    section: {title: ["Multiline", [f"{tags}$"]] for title, tags in charts.items()}
                    for section, charts in SECTIONS.items()
                }
            )
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
        if summary:
            final = {k: v for k, v in summary.items() if k.startswith(("test/", "val/"))}
            for name, value in final.items():
                if name.startswith("test/") or name.endswith("_best"):
                    self._writer.add_scalar(name, value, summary["step"])
            self._table(final)
        self._writer.close()

    def _table(self, final: Row) -> None:
        """Adds the run's row to the HParams tab; ``add_hparams`` would add a further run."""
        from torch.utils.tensorboard.summary import hparams

        assert self._writer.file_writer is not None
        for part in hparams(self._settings, final):
            self._writer.file_writer.add_summary(part)


def settings(cfg: DictConfig) -> dict[str, bool | int | float | str]:
    """What a sweep may vary: choices, n, k, seed, and each single value of the groups."""
    n, k = batch_and_selected(cfg)
    found: dict[str, bool | int | float | str] = {"seed": cfg.seed, "n": n}
    if k is not None:
        found["k"] = k
    tree = plain(cfg)
    for group in GROUPS:
        found[group] = choice(cfg, group)
        for key, value in tree[group].items():
            if isinstance(value, bool | int | float | str) and key not in ("_target_", "name"):
                found[f"{group}.{key}"] = value
    return found
