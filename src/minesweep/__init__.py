"""Minesweep: does learning from the hard examples help, which way of finding them, at what cost?"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["HardExamples", "hard_examples_loss", "load_run"]

_HOMES = {
    "HardExamples": "minesweep.loops.hard_examples",
    "hard_examples_loss": "minesweep.loops.hard_examples",
    "load_run": "minesweep.training.load",
}


def __getattr__(name: str) -> Any:
    # Imported on first use: `import minesweep` must not cost the seconds that torch takes.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'minesweep' has no attribute {name!r}")
