"""Seconds of one training step for each arm of a study, measured in one interleaved run.

    python benchmarks/step_seconds.py runs/nk_controlled

The arms take turns, a few steps each, so that a machine that slows down slows all of them. The
median over the rounds goes to step_seconds.json in the study's folder; the report multiplies it
by a run's steps to get "equal seconds". One thread, the study's own data, no logging. Run it on a
quiet machine: ratios survive a busy one, seconds do not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from rich.progress import track

from minesweep.config.build import build
from minesweep.config.entry import clear_errors
from minesweep.errors import UserError
from minesweep.reporting.analyse.report import analyse
from minesweep.training.folder import RunFolder
from minesweep.training.loop import Trainer
from minesweep.training.run import load_data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path, help="a study's folder, such as runs/nk_controlled")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=5, help="steps of an arm in each round")
    options = parser.parse_args()
    torch.set_num_threads(1)
    times = measure(arms(options.study), options.rounds, options.steps)
    for name, values in times.items():
        low, middle, high = (x * 1e3 for x in (min(values), statistics.median(values), max(values)))
        print(f"{name:50} {middle:8.2f} ms  [{low:.2f}, {high:.2f}]")
    path = options.study / "step_seconds.json"
    medians = {name: statistics.median(values) for name, values in times.items()}
    path.write_text(json.dumps(medians, indent=1) + "\n")
    print(path)


def arms(study: Path) -> dict[str, DictConfig]:
    """The configuration of one run of each arm, by the arm's label in the report."""
    first = analyse(study).runs.drop_duplicates("arm").set_index("arm")["run"]
    found = {str(arm): OmegaConf.load(study / run / "config.yaml") for arm, run in first.items()}
    return {arm: cfg for arm, cfg in found.items() if isinstance(cfg, DictConfig)}


def measure(arms: dict[str, DictConfig], rounds: int, steps: int) -> dict[str, list[float]]:
    """Seconds per step of each arm, one number a round."""
    if not arms:
        raise UserError("the study has no finished run")
    trainers: dict[str, Trainer] = {}
    times: dict[str, list[float]] = {name: [] for name in arms}
    with tempfile.TemporaryDirectory() as folder:
        for name, cfg in arms.items():
            data = load_data(cfg, build(cfg, "dataset"), torch.device("cpu"))
            trainers[name] = Trainer(cfg, data, RunFolder(Path(folder)))
            trainers[name].update()
        for _ in track(range(rounds), "rounds"):
            for name, trainer in trainers.items():
                began = time.perf_counter()
                for _ in range(steps):
                    trainer.update()
                times[name].append((time.perf_counter() - began) / steps)
    return times


if __name__ == "__main__":
    with clear_errors():
        main()
