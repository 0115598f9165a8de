"""Minesweep: does learning from the hard examples help, which way of finding them, at what cost?"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["load_run"]


def __getattr__(name: str) -> Any:
    # Imported on first use: `import minesweep` must not cost the seconds that torch takes.
    if name == "load_run":
        from minesweep.training.load import load_run

        return load_run
    raise AttributeError(f"module 'minesweep' has no attribute {name!r}")
