"""The arms that a study's file names: ``conf/experiment/help.yaml`` has ``ohem-25`` under ``arms``.

Each arm says what it adds to the rest of the file, as on the command line:
``ohem-25: {miner: ohem, miner.ratio: 0.25}``. The plugin ``hydra_plugins.minesweep_arms`` makes a
choice of each, in the project's folder and in a user's own: ``experiment=help/ohem-25``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from yaml import YAMLError

from minesweep.errors import UserError

GROUP = "experiment"
KEY = "arms"


def read_arms(folder: Path | str, study: str) -> Mapping[str, Mapping[str, Any]]:
    """What each arm adds; empty where a file names none.

    Args:
        folder: A configuration folder.
        study: The file in it without its suffix, such as ``experiment/help``.

    Raises:
        UserError: The arms, or one of them, are no mapping.
    """
    path = Path(folder, f"{study}.yaml")
    if not study.startswith(f"{GROUP}/") or not path.is_file():
        return {}
    return _read(path, path.stat().st_mtime_ns)


@lru_cache
def _read(path: Path, stamp: int) -> dict[str, dict[str, Any]]:
    """Reads one file. ``stamp`` makes a changed file another one."""
    try:
        tree: Any = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, ValueError, YAMLError):
        return {}  # Hydra reads the file, too, and says what is wrong with it
    arms = (tree.get(KEY) if isinstance(tree, dict) else None) or {}
    if not isinstance(arms, dict):
        raise UserError(f"{path}: {KEY} must be a mapping: {{half: {{miner.ratio: 0.5}}}}")
    for name, arm in arms.items():
        if not isinstance(arm, dict | None):
            raise UserError(f"{path}: {KEY}.{name}: write what it adds: {{miner.ratio: 0.5}}")
    return {str(name): arm or {} for name, arm in arms.items()}
