"""Loads the model of a run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig, OmegaConf
from torch import nn

from minesweep.config.build import build
from minesweep.datasets.base import Data
from minesweep.errors import UserError
from minesweep.training import checkpoint


class LoadedRun(NamedTuple):
    """A trained model in evaluation mode, and the configuration that it was trained with."""

    model: nn.Module
    config: DictConfig


def as_trained(cfg: DictConfig, data: Data) -> Data:
    """The data with the split as ``train`` that ``trainer.train_on`` names."""
    return data.swapped() if cfg.trainer.get("train_on") == "val" else data


def load_run(folder: Path | str, weights: str = "last") -> LoadedRun:
    """The model of a run, on the CPU: ``model, config = minesweep.load_run(folder)``.

    Args:
        folder: A run's folder.
        weights: ``last``, or ``best`` on validation.

    Raises:
        UserError: The folder holds no run, or no such checkpoint.
    """
    folder = Path(folder)
    if not (folder / "config.yaml").exists():
        raise UserError(f"{folder} is not a run's folder: it has no config.yaml")
    if weights not in ("last", "best"):
        raise UserError(f"weights={weights} is not one of last, best")
    cfg = OmegaConf.load(folder / "config.yaml")
    assert isinstance(cfg, DictConfig)
    if weights == "best":
        state = checkpoint.read(folder / "checkpoints" / "best.pt")
    else:
        found = checkpoint.last_good(folder / "checkpoints")
        if found is None:
            raise UserError(f"{folder / 'checkpoints'} holds no checkpoint")
        state = found
    model = build(cfg, "model", **state["data"])
    model.load_state_dict(state["model"])
    return LoadedRun(model.eval(), cfg)
