"""Where the configuration, the data and the runs lie."""

from __future__ import annotations

import os
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

CONF = Path(__file__).resolve().parents[3] / "conf"
"""The project's configuration folder."""


def env_folder(variable: str, default: str) -> str:
    """The folder that an environment variable names; ``default`` where it is unset or empty."""
    return os.path.expanduser(os.environ.get(variable, "").strip() or default)


def runs_folder() -> Path:
    """Where runs lie when nothing else is said: ``MINESWEEP_RUNS``, or ``runs``."""
    return Path(env_folder("MINESWEEP_RUNS", "runs"))


def own_folders() -> list[str]:
    """The configuration folders beside the project's that Hydra was started with."""
    if not HydraConfig.initialized():
        return []
    sources = HydraConfig.get().runtime.config_sources
    return [s.path for s in sources if s.schema == "file" and s.provider != "main"]


# Registered when this is imported, so that worker processes, which import it too, have it.
OmegaConf.register_new_resolver("env_folder", env_folder, replace=True)
