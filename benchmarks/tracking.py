"""What tracking costs: steps per second with everything on against ``logger=none``.

    python benchmarks/tracking.py

OHEM on MNIST with the 1,024-unit MLP at the default intervals, on one thread. The two loggers take
turns of 200 steps in one process, so that a machine that slows down slows both.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
from common import compare, facts, in_turns, options, write

from minesweep.config.build import build
from minesweep.config.compose import compose
from minesweep.config.entry import clear_errors
from minesweep.tracking.tracker import Tracker
from minesweep.training.display import Display
from minesweep.training.folder import RunFolder
from minesweep.training.loop import Trainer
from minesweep.training.run import load_data
from minesweep.training.signals import Signals

TURN = 200


def main(argv: list[str] | None = None) -> None:
    given = options(str(__doc__), "tracking", rounds=12).parse_args(argv)
    torch.set_num_threads(1)
    os.environ.setdefault("WANDB_MODE", "offline")
    with tempfile.TemporaryDirectory() as folder:
        arms = {name: Arm(name, Path(folder) / name) for name in ("none", "default")}
        times = in_turns({name: arm.turn for name, arm in arms.items()}, given.rounds)
        for arm in arms.values():
            arm.tracker.finish(None)
    row = compare(
        f"{TURN} OHEM steps, everything logged at the default intervals",
        "logger=none",
        times["default"],
        times["none"],
        most=1.02,
    )
    write(given.output, [row], {"seconds": times}, note=given.note, **facts(("wandb",)))


class Arm:
    """A run with one logger, trained a turn at a time."""

    def __init__(self, logger: str, folder: Path) -> None:
        cfg = compose([f"logger={logger}", "trainer.max_steps=1000000", "trainer.eval_every=null"])
        cfg.trainer.checkpoint_every = None
        run = RunFolder(folder)
        run.prepare(cfg)
        data = load_data(cfg, build(cfg, "dataset"), torch.device("cpu"))
        self.trainer = Trainer(cfg, data, run)
        self.tracker = Tracker(cfg, folder)
        self.display = Display(logger, 1, 0, shown=False)

    def turn(self) -> None:
        self.trainer.steps = self.trainer.step + TURN + 1
        signals = Signals()
        for _ in range(TURN):
            self.trainer.advance(self.tracker, self.display, signals)


if __name__ == "__main__":
    with clear_errors():
        main()
