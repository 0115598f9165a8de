"""What a step of each arm costs, measured once on this machine before the first trial.

The arms take turns in a seeded order, so that a machine that slows down slows all of them: the
ratios hold where the seconds do not. ``step_seconds.json`` in the study's folder keeps them, with
their spread and the number of steps that ``trainer.equal_cost=auto`` stands for.
"""

from __future__ import annotations

import copy
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track

from minesweep.config.build import build, find_user_code
from minesweep.config.checks import check
from minesweep.config.entry import collect_garbage_again
from minesweep.config.equal_cost import FILE, arm_key, wants_equal_cost
from minesweep.errors import UserError
from minesweep.files import write_atomically
from minesweep.lease import held
from minesweep.sweeps.cells import Cells
from minesweep.training.folder import RunFolder, lease_folder, now, read_json
from minesweep.training.loop import Trainer
from minesweep.training.run import choose_device, load_data

ROUNDS, STEPS = 31, 5
"""Turns of each arm, and steps in a turn; a miner that refreshes gets a whole period."""
LEAST_ROUNDS, SECONDS = 3, 20.0
"""Arms whose steps are slow get fewer turns: no more than fit into these seconds, at least 3."""


def calibrate(cells: Cells, console: Console) -> None:
    """Measures the arms of a study and stores their costs, where that was not done before.

    Nothing is measured where no arm takes its number of steps from the costs.

    Args:
        cells: The arms.
        console: Shows a bar.

    Raises:
        UserError: Costs are stored, but not those of these arms.
    """
    if not any(map(wants_equal_cost, cells.configs.values())):
        return
    collect_garbage_again()
    path = cells.folder / FILE
    with held(lease_folder(path)):
        stored = read_json(path).get("calibration")
        if isinstance(stored, dict):
            _check_stored(cells, stored, path)
            return
        twins = {label: _at_equal_samples(cfg) for label, cfg in cells.configs.items()}
        record = _record(cells, twins, *measure(twins, console))
        write_atomically(path, json.dumps(record, indent=1) + "\n")


def _check_stored(cells: Cells, stored: Mapping[str, Any], path: Path) -> None:
    known = stored.get("equal_cost_steps", {})
    missing = [
        label
        for label, cfg in cells.configs.items()
        if wants_equal_cost(cfg) and arm_key(cfg) not in known
    ]
    if missing:
        raise UserError(
            f"{path} holds the costs of other settings, not those of {missing[0]}: "
            "study=NAME begins a study of its own"
        )


def _at_equal_samples(cfg: DictConfig) -> DictConfig:
    twin = copy.deepcopy(cfg)
    twin.trainer.equal_cost = None
    return twin


def measure(
    arms: Mapping[str, DictConfig], console: Console
) -> tuple[dict[str, list[float]], dict[str, int], str]:
    """Seconds of a step of each arm, one number a turn; how many steps a run takes; the clock.

    Arms of one configuration are measured once. Validation, logging and checkpoints are left out.
    """
    find_user_code()
    trainers: dict[str, Trainer] = {}
    keys = {label: arm_key(cfg) for label, cfg in arms.items()}
    with tempfile.TemporaryDirectory() as folder:
        for label, cfg in arms.items():
            if keys[label] in trainers:
                continue
            check(cfg)
            torch.set_num_threads(cfg.trainer.threads or torch.get_num_threads())
            data = load_data(cfg, build(cfg, "dataset"), choose_device(cfg.trainer.device))
            trainers[keys[label]] = Trainer(cfg, data, RunFolder(Path(folder)))
            trainers[keys[label]].update()
        alone = all(map(_alone, trainers.values()))
        clock = time.process_time if alone else time.perf_counter
        times: dict[str, list[float]] = {key: [] for key in trainers}
        order, began = random.Random(0), time.perf_counter()
        for turn in track(range(ROUNDS), "measuring the arms", console=console, transient=True):
            if turn >= LEAST_ROUNDS and time.perf_counter() - began > SECONDS:
                break
            for key in order.sample(sorted(trainers), len(trainers)):
                times[key].append(_turn(trainers[key], clock))
    steps = {label: trainers[key].steps for label, key in keys.items()}
    by_arm = {label: times[key] for label, key in keys.items()}
    return by_arm, steps, "CPU time" if alone else "wall time"


def _turn(trainer: Trainer, clock: Callable[[], float]) -> float:
    """Seconds of a step. The end of a schedule is not passed: a trainer that reaches it rewinds."""
    device = trainer.data.train.device
    # A shorter turn would hold a refresh seldom, and the median would leave its cost out.
    steps = max(STEPS, getattr(trainer.miner, "refresh", 0))
    began = clock()
    for _ in range(steps):
        trainer.update()
        trainer.step %= trainer.steps
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (clock() - began) / steps


def _alone(trainer: Trainer) -> bool:
    """Whether one CPU thread does all the work. Its own clock stands while others have the core."""
    train = trainer.data.train
    return train.device.type == "cpu" and torch.get_num_threads() == 1 and not train.ahead


def _record(
    cells: Cells,
    twins: Mapping[str, DictConfig],
    times: Mapping[str, list[float]],
    steps: Mapping[str, int],
    clock: str,
) -> dict[str, Any]:
    """What is stored: the median seconds by arm, and how they were measured."""
    seconds = {label: statistics.median(values) for label, values in times.items()}
    ratios = {
        label: [a / b for a, b in zip(times[label], times[base], strict=True)]
        for label, base in cells.baselines.items()
    }
    equal = {}
    for label, cfg in cells.configs.items():
        if wants_equal_cost(cfg):
            # A baseline costs what it costs.
            base, ratio = (
                cells.baselines.get(label, label),
                statistics.median(ratios.get(label, [1])),
            )
            equal[arm_key(twins[label])] = max(1, int(steps[base] / ratio))
    return {
        **seconds,
        "calibration": {
            "measured": now(),
            "machine": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "clock": clock,
            "turns": len(next(iter(times.values()))),
            "least_steps_in_a_turn": STEPS,
            "order": "random.Random(0), anew in each turn",
            "lowest_and_highest_seconds": {k: [min(v), max(v)] for k, v in times.items()},
            "cost_over_baseline": {
                label: dict(zip(("low", "median", "high"), _quartiles(values), strict=True))
                for label, values in ratios.items()
            },
            "steps_at_equal_samples": dict(steps),
            "equal_cost_steps": equal,
        },
    }


def _quartiles(values: list[float]) -> list[float]:
    """Quartiles over the turns."""
    return statistics.quantiles(values, n=4, method="inclusive")
