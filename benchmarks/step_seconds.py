"""Seconds of one training step for each arm of a study, measured in one interleaved run.

    python benchmarks/step_seconds.py controlled/n1024-k128-ohem controlled/n1024-k128-random_k

The arms take turns, a few steps each, so that a machine that slows down slows all of them; the
median over the rounds is what a report multiplies by a run's steps to get "equal seconds".
One thread, real data, no logging. Writes results/step_seconds.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from minesweep.config.build import build
from minesweep.config.compose import compose
from minesweep.config.identity import run_name
from minesweep.training.folder import RunFolder
from minesweep.training.loop import Trainer
from minesweep.training.run import load_data

RESULTS = Path(__file__).resolve().parents[1] / "results" / "step_seconds.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiments", nargs="+")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=5, help="steps in one turn")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        times = measure(args.experiments, args.rounds, args.steps, Path(folder))
    result = {
        "command": f"python benchmarks/step_seconds.py {' '.join(args.experiments)}",
        "torch": torch.__version__,
        "threads": 1,
        "cores": os.cpu_count(),
        "rounds": args.rounds,
        "seconds": {
            name: {
                "median": statistics.median(values),
                "min": min(values),
                "max": max(values),
            }
            for name, values in times.items()
        },
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    for name, values in result["seconds"].items():
        low, middle, high = (values[key] * 1e3 for key in ("min", "median", "max"))
        print(f"{name:36} {middle:8.2f} ms  [{low:.2f}, {high:.2f}]")
    print(RESULTS)


def measure(
    experiments: list[str], rounds: int, steps: int, folder: Path
) -> dict[str, list[float]]:
    """Seconds per step of each experiment, one number a round."""
    trainers = {}
    for name in experiments:
        cfg = compose([f"experiment={name}", "logger=none", "trainer.device=cpu"])
        data = load_data(cfg, build(cfg, "dataset"), torch.device("cpu"))
        trainers[name] = Trainer(cfg, data, RunFolder(folder / run_name(cfg)))
        trainers[name].update()
    times: dict[str, list[float]] = {name: [] for name in experiments}
    for _ in range(rounds):
        for name, trainer in trainers.items():
            began = time.perf_counter()
            for _ in range(steps):
                trainer.update()
            times[name].append((time.perf_counter() - began) / steps)
    return times


if __name__ == "__main__":
    main()
