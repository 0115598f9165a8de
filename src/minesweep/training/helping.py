"""What the processes beside the first do: they train with it and write nothing."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from minesweep import parallel
from minesweep.config.identity import run_folder
from minesweep.datasets.base import Data
from minesweep.tracking.tracker import Tracker
from minesweep.training import checkpoint
from minesweep.training.display import Display
from minesweep.training.folder import RunFolder
from minesweep.training.loop import Trainer
from minesweep.training.signals import Signals


def help_first(cfg: DictConfig, data: Data) -> dict[str, Any]:
    """Trains beside the first process, from the checkpoint that it goes on from.

    Returns:
        The first process' summary.
    """
    folder = RunFolder(run_folder(cfg))
    trainer = Trainer(cfg, data, folder)
    state = checkpoint.last_good(folder.checkpoints)
    if state is not None:
        trainer.load(state)
    display = Display(folder.path.name, trainer.steps, trainer.step, shown=False)
    with Signals() as signals:
        trainer.fit(Unrecorded(), display, signals)
    return parallel.broadcast_from_first(None)


class Unrecorded(Tracker):
    """A tracker that keeps nothing."""

    def __init__(self) -> None:
        self.sinks = []

    def log(self, *_: Any) -> None:
        """Forgets the row."""

    def show(self, *_: Any) -> None:
        """Forgets what was mined."""
