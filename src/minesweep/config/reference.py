"""A finished run that another run refers to: found by its folder, named by what it computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from minesweep.errors import UserError

KEY = "miner.reference"


def find_reference(path: str, seed: int) -> Path:
    """The folder of a finished run.

    Args:
        path: A run's folder; or a study's: then its only run, or else its run of this seed.
        seed: Of the run that asks.

    Raises:
        UserError: There is no such run, or more than one.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise UserError(f"{KEY}={path} is not there: give the folder of a finished run")
    runs = [folder] if (folder / "status.json").exists() else sorted(_runs(folder))
    if len(runs) > 1:
        runs = [run for run in runs if f"-s{seed}-" in run.name]
    if len(runs) != 1:
        count = len(runs) or "no"
        raise UserError(
            f"{KEY}={path} holds {count} runs of seed {seed}: give the folder of one finished run"
        )
    status = _status(runs[0])
    if status.get("state") != "finished":
        raise UserError(f"{KEY}={runs[0]} is not finished: the same command goes on with it")
    return runs[0]


def reference_identity(path: str, seed: int) -> str:
    """What the reference computed, wherever it lies."""
    return str(_status(find_reference(path, seed)).get("identity"))


def _runs(folder: Path) -> list[Path]:
    return [found.parent for found in folder.glob("*/status.json")]


def _status(run: Path) -> dict[str, Any]:
    try:
        found = json.loads((run / "status.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
