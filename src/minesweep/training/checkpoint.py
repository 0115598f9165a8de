"""Checkpoints: written atomically, read with ``weights_only=True``, refused with a NaN."""

from __future__ import annotations

import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minesweep.errors import UserError
from minesweep.files import write_atomically

KEPT = 2


def save(state: dict[str, Any], path: Path) -> None:
    """Writes one checkpoint atomically."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def save_step(state: dict[str, Any], folder: Path, kept: int = KEPT) -> Path:
    """Writes ``step-<step>.pt`` and deletes all but the last ``kept`` of them."""
    path = folder / f"step-{state['step']:08d}.pt"
    save(state, path)
    for old in steps(folder)[:-kept]:
        old.unlink()
    return path


def steps(folder: Path) -> list[Path]:
    """The checkpoints of steps, oldest first."""
    return sorted(folder.glob("step-*.pt"))


def last_good(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read and holds finite weights, or None.

    Skips a damaged checkpoint with a warning that names it.
    """
    for path in reversed(steps(folder)):
        try:
            return read(path)
        except UserError as error:
            warnings.warn(f"{error}; the one before it is used", stacklevel=2)
    return None


def read(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Reads one checkpoint.

    Raises:
        UserError: It is damaged, or its weights are not finite.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch's reader raises whatever the file's bytes lead it to
        first = str(error).strip().partition("\n")[0]
        known = isinstance(error, OSError | RuntimeError | EOFError | pickle.UnpicklingError)
        reason = (first or "empty") if known else "torch.save did not write it"
        raise UserError(f"checkpoint {path} cannot be read ({reason})") from None
    weights = state.get("model") if isinstance(state, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(w, Tensor) for w in weights.values()):
        raise UserError(f"{path} is not a checkpoint of a run")
    if not finite(weights):
        raise UserError(f"checkpoint {path} holds weights that are not finite")
    return state


def load_weights(model: nn.Module, path: str) -> None:
    """Loads the weights of a run's checkpoint into a model (``ckpt_path=``), and nothing else.

    Raises:
        UserError: The checkpoint cannot be read, or it is of another model.
    """
    weights = read(Path(path).expanduser())["model"]
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"ckpt_path={path} does not fit the model: {reason}") from None


def finite(weights: dict[str, Tensor]) -> bool:
    """Whether every floating-point tensor is free of NaN and infinity."""
    return all(bool(w.isfinite().all()) for w in weights.values() if w.is_floating_point())
