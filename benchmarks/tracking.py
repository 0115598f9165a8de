"""What tracking costs: steps per second with everything on against ``logger=none``.

    python benchmarks/tracking.py

OHEM on MNIST with the 1,024-unit MLP at the default intervals, on one thread. The two loggers take
turns of 200 steps in one process, so that a machine that slows down slows both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    os.environ.setdefault("WANDB_MODE", "offline")
    with tempfile.TemporaryDirectory() as folder:
        arms = {name: Arm(name, Path(folder) / name) for name in ("none", "default")}
        seconds: dict[str, list[float]] = {name: [] for name in arms}
        for _ in range(rounds):
            for name, arm in arms.items():
                seconds[name].append(arm.turn())
        for arm in arms.values():
            arm.tracker.finish(None)
    for name, values in seconds.items():
        rates = sorted(TURN / value for value in values)
        middle = statistics.median(rates)
        print(f"logger={name:8} {middle:7.2f} steps/s  [{rates[0]:.2f}, {rates[-1]:.2f}]")
    costs = [b / a - 1 for a, b in zip(seconds["none"], seconds["default"], strict=True)]
    low, high = min(costs), max(costs)
    print(f"cost, pair by pair: median {statistics.median(costs):+.2%}  [{low:+.2%}, {high:+.2%}]")


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
        self.turn()  # warm

    def turn(self) -> float:
        """Seconds of one turn."""
        self.trainer.steps = self.trainer.step + TURN + 1
        began = time.perf_counter()
        signals = Signals()
        for _ in range(TURN):
            self.trainer.advance(self.tracker, self.display, signals)
        return time.perf_counter() - began


if __name__ == "__main__":
    with clear_errors():
        main()
