"""What the tests of the sweep engine share: a sweep file, a task that trains nothing, processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from minesweep.config.identity import run_folder
from minesweep.sweeps.spec import read
from minesweep.sweeps.trials import trials
from minesweep.training.folder import RunFolder

ROOT = Path(__file__).parents[1]
SWEEP = {
    "program": "src/train.py",
    "method": "grid",
    "metric": {"name": "val/accuracy", "goal": "maximize"},
    "command": ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"],
    "parameters": {
        "study": {"value": "tried"},
        "dataset": {"value": "digits"},
        "logger": {"value": "none"},
        "trainer.batch_size": {"value": 64},
        "trainer.max_steps": {"value": 20},
        "seed": {"values": [0, 1, 2]},
    },
}


def write_sweep(folder: Path, parameters: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A sweep file of three digits trials, with some of it changed."""
    tree = {**SWEEP, **changes, "parameters": {**SWEEP["parameters"], **(parameters or {})}}
    path = folder / "tried.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def pretend(cfg: DictConfig) -> None:
    """Ends as a training would: finished, failed where the seed is 7, busy under a lock."""
    folder = RunFolder(run_folder(cfg))
    with folder.lock():
        folder.prepare(cfg)
        with (folder.path / "calls").open("a") as calls:
            calls.write(f"{os.getpid()} {cfg.trainer.threads}\n")
        if cfg.seed == 7:
            folder.set_status(state="failed", reason="ValueError: seven")
            raise ValueError("seven")
        value = 1 - (cfg.optimizer.lr - 0.02) ** 2
        (folder.path / "summary.json").write_text(json.dumps({"val/accuracy": value}))
        folder.set_status(state="finished", step=20, max_steps=20, seconds=2.0)


def calls(runs: Path) -> dict[str, int]:
    """How often each run was computed."""
    found = {p.parent.name: len(p.read_text().splitlines()) for p in runs.glob("*/*/calls")}
    return {name.rpartition("-")[0]: count for name, count in found.items()}


def plan_of(path: Path) -> list[list[str]]:
    """The overrides of the trials, as W&B's agent would write them."""
    return trials(read(path))


def start(path: Path, runs: Path, *words: str) -> subprocess.Popen[str]:
    """``python src/sweep.py`` on a file, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "src/sweep.py", str(path), *words],
        cwd=ROOT,
        env={**os.environ, "MINESWEEP_RUNS": str(runs), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], timeout: float = 240) -> str:
    output, _ = process.communicate(timeout=timeout)
    assert process.returncode == 0, output
    return output


def journals(runs: Path) -> dict[str, bytes]:
    return {p.parent.name: p.read_bytes() for p in runs.glob("tried/*/journal.jsonl")}


def finished_at(runs: Path) -> dict[str, int]:
    """When each finished run was finished."""
    return {
        path.parent.name: path.stat().st_mtime_ns
        for path in runs.glob("tried/*/status.json")
        if json.loads(path.read_text())["state"] == "finished"
    }


def starts(runs: Path) -> dict[str, int]:
    """How often each run was begun or gone on with."""
    return {
        path.parent.name: path.read_text().count('"event": "start"')
        for path in runs.glob("tried/*/timing.jsonl")
    }
