"""Where the configuration, the data and the runs lie."""

from __future__ import annotations

import os
from pathlib import Path

from omegaconf import OmegaConf

CONF = Path(__file__).resolve().parents[3] / "conf"
"""The project's configuration folder."""


def env_folder(variable: str, default: str) -> str:
    """The folder that an environment variable names; ``default`` where it is unset or empty."""
    return os.path.expanduser(os.environ.get(variable, "").strip() or default)


def runs_folder() -> Path:
    """Where runs lie when nothing else is said: ``MINESWEEP_RUNS``, or ``runs``."""
    return Path(env_folder("MINESWEEP_RUNS", "runs"))


# Registered when this is imported, so that worker processes, which import it too, have it.
OmegaConf.register_new_resolver("env_folder", env_folder, replace=True)
