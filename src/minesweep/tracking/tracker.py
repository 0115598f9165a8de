"""One place to log to: the journal first, then the sinks."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from omegaconf import DictConfig

from minesweep.seeding import kept_globals
from minesweep.tracking.journal import Journal, Row, read_rows, revive

if TYPE_CHECKING:
    import numpy as np

    from minesweep.datasets.base import Data
    from minesweep.tracking.embeddings import Examples


FILES = ("journal.jsonl", "timing.jsonl", "mined.jsonl")


class Sink(Protocol):
    """Consumes rows. A sink cannot change the run."""

    def log(self, row: Row) -> None: ...

    def finish(self, summary: Row | None, exit_code: int) -> None: ...


@runtime_checkable
class EmbeddingSink(Sink, Protocol):
    """A sink that also takes embeddings."""

    def embed(self, step: int, vectors: np.ndarray, examples: Examples) -> None: ...


@runtime_checkable
class MinedSink(Sink, Protocol):
    """A sink that also shows what was mined."""

    def showcase(self, records: list[Row], data: Data) -> None: ...


class Tracker:
    """A run's record. Whatever a sink draws, the global random generators stay as they were.

    Args:
        cfg: The configuration.
        folder: The run's folder.
        step: The step to go on from.
        offsets: Sizes in bytes of ``FILES`` at that step. The files are cut back to them: rows
            that a killed run wrote after its checkpoint are computed and written again.
        elapsed: Seconds of training before this process.
    """

    def __init__(
        self,
        cfg: DictConfig,
        folder: Path,
        step: int = 0,
        offsets: Sequence[int] = (0, 0, 0),
        elapsed: float = 0.0,
    ) -> None:
        self._folder = folder
        self._journal, self._timing, self._mined = (
            Journal(folder / name, offset) for name, offset in zip(FILES, offsets, strict=True)
        )
        self._before, self._began = elapsed, time.perf_counter()
        self._last = (self._began, step)
        with kept_globals():
            self.sinks = open_sinks(cfg, folder, step)
        start = {"event": "start", "step": step, "time": time.time(), "host": socket.gethostname()}
        wandb_id = next((sink.id for sink in self.sinks if hasattr(sink, "id")), None)
        self._timing.write(start if wandb_id is None else {**start, "wandb_id": wandb_id})

    def log(self, row: Row, clocks: Mapping[str, float] | None = None) -> None:
        """Writes the row of one step, and measured times to the timing file. Steps rise."""
        self._journal.write(row)
        now, (then, before) = time.perf_counter(), self._last
        self._last = (now, row["step"])
        self._timing.write(
            {
                "step": row["step"],
                "time": time.time(),
                "elapsed": self.elapsed,
                "steps_per_second": (row["step"] - before) / max(now - then, 1e-9),
                **(clocks or {}),
            }
        )
        if self.sinks:
            with kept_globals():
                for sink in self.sinks:
                    sink.log(row)

    def embed(self, step: int, vectors: np.ndarray, examples: Examples) -> None:
        """Passes ``[m, dim]`` embeddings of the same examples to the sinks that take them."""
        with kept_globals():
            for sink in self.sinks:
                if isinstance(sink, EmbeddingSink):
                    sink.embed(step, vectors, examples)

    def show(self, record: Row) -> None:
        """Writes what was mined at a step (:meth:`minesweep.objectives.mined.Mined.record`)."""
        self._mined.write(record)

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, including those before a resume."""
        return self._before + time.perf_counter() - self._began

    @property
    def offsets(self) -> tuple[int, ...]:
        """Sizes in bytes of ``FILES``."""
        return self._journal.offset, self._timing.offset, self._mined.offset

    def finish(self, summary: Row | None, exit_code: int = 0, data: Data | None = None) -> None:
        """Closes everything.

        Args:
            summary: None for a run that did not finish.
            exit_code: Of the process.
            data: The training data, for the sinks that show what was mined.
        """
        self._journal.close()
        self._timing.close()
        self._mined.close()
        for sink in self.sinks:
            if summary is not None and data is not None and isinstance(sink, MinedSink):
                sink.showcase(read_rows(self._folder / "mined.jsonl"), data)
            sink.finish(summary, exit_code)


class NoTracker(Tracker):
    """Keeps nothing: the first process writes the record of the run."""

    def __init__(self) -> None:
        self.sinks = []

    def log(self, *_: Any) -> None:
        """Keeps no row."""

    def show(self, *_: Any) -> None:
        """Keeps nothing of what was mined."""

    @property
    def elapsed(self) -> float:
        return 0.0

    @property
    def offsets(self) -> tuple[int, ...]:
        return (0, 0, 0)


def open_sinks(cfg: DictConfig, folder: Path, step: int = 0) -> list[Sink]:
    """The sinks that ``cfg.logger`` names."""
    sinks: list[Sink] = []
    if cfg.logger.embeddings.every is not None:
        from minesweep.tracking.embeddings_page import EmbeddingLogger

        sinks.append(EmbeddingLogger(folder, step))
    if cfg.logger.tensorboard:
        from minesweep.tracking.tensorboard import TensorBoard

        sinks.append(TensorBoard(cfg, folder / "tensorboard", step))
    if cfg.logger.wandb:
        from minesweep.tracking.weights_and_biases import WeightsAndBiases

        sinks.append(WeightsAndBiases(cfg, folder, step))
    return sinks


def replay(cfg: DictConfig, folder: Path, summary: Row) -> None:
    """Sends a finished run's journal to W&B, for an agent that asked for this run again."""
    from minesweep.tracking.weights_and_biases import WeightsAndBiases

    sink = WeightsAndBiases(cfg, folder)
    for row in read_rows(folder / "journal.jsonl"):
        sink.log(revive(row))
    sink.finish(summary, exit_code=0)
