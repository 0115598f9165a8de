"""Seconds of one training step for each arm of a study, measured in one interleaved run.

    python benchmarks/step_seconds.py runs/mochi

Sweeps with arms at equal cost measure this before their first trial. For other studies this script
measures it in the same way. ``step_seconds.json`` in the study's folder gets the medians, and the
report multiplies them by a run's steps to get "equal seconds".
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from minesweep.config.entry import clear_errors
from minesweep.config.equal_cost import FILE
from minesweep.errors import UserError
from minesweep.files import write_atomically
from minesweep.reporting.analyse.report import analyse
from minesweep.sweeps.calibrate import measure
from minesweep.training.folder import read_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path, help="a study's folder, such as runs/mochi")
    options = parser.parse_args()
    path = options.study / FILE
    if "calibration" in read_json(path):
        raise UserError(f"{path} says how many steps the study's arms at equal cost take: it stays")
    times, _, clock = measure(arms(options.study), Console())
    for name, values in times.items():
        low, middle, high = (x * 1e3 for x in (min(values), statistics.median(values), max(values)))
        print(f"{name:50} {middle:8.2f} ms  [{low:.2f}, {high:.2f}], {clock}")
    medians = {name: statistics.median(values) for name, values in times.items()}
    write_atomically(path, json.dumps(medians, indent=1) + "\n")
    print(path)


def arms(study: Path) -> dict[str, DictConfig]:
    """The configuration of one run of each arm, by the arm's label in the report."""
    first = analyse(study).runs.drop_duplicates("arm").set_index("arm")["run"]
    found = {str(arm): OmegaConf.load(study / run / "config.yaml") for arm, run in first.items()}
    return {arm: cfg for arm, cfg in found.items() if isinstance(cfg, DictConfig)}


if __name__ == "__main__":
    with clear_errors():
        main()
