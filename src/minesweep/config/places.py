"""Where the configuration, the data and the runs lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import omegaconf
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

_PACKAGE = Path(__file__).resolve().parents[1]


def _place(packaged: str, in_checkout: str) -> Path:
    """A folder of the package, or of the checkout that the package lies in."""
    inside = _PACKAGE / packaged
    return inside if inside.is_dir() else _PACKAGE.parents[1] / in_checkout


CONF = _place("conf", "conf")
"""The project's configuration folder."""
SWEEPS = _place("sweep_files", "sweeps")
"""The project's sweep files, and in ``report/`` what their reports show."""
ENTRIES = _place("entries", "src")
"""The programs: ``train.py``, ``sweep.py`` ..."""
TEMPLATE = _place("template", "template")
"""What ``minesweep init`` writes."""


def command(entry: str) -> str:
    """How one of the entries is started from here.

    Args:
        entry: ``train``, ``sweep``, ``report`` ...

    Returns:
        ``python src/train.py`` in the checkout's folder, ``minesweep train`` elsewhere.
    """
    place = Path("src") / f"{entry}.py"
    return f"python {place}" if place.resolve() == ENTRIES / place.name else f"minesweep {entry}"


def from_here(place: Path | str) -> str:
    """A path as a person in the working directory types it; whole where it lies elsewhere."""
    path, here = Path(place).resolve(), Path.cwd().resolve()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


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


# Hydra 1.4 comes with OmegaConf 2.4. Each warns of a word that its predecessor needs.
_MODERN = tuple(map(int, omegaconf.__version__.split(".")[:2])) >= (2, 4)
VERSION_BASE: Any = {} if _MODERN else {"version_base": "1.3"}
"""What Hydra's entries are told beside the folder."""

register_resolver: Any = OmegaConf.register_resolver if _MODERN else OmegaConf.register_new_resolver
# Registered when this is imported, so that worker processes, which import it too, have it.
register_resolver("env_folder", env_folder, replace=True)
register_resolver("command", command, replace=True)
