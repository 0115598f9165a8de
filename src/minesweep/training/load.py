"""Loads the model of a run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn
from yaml import YAMLError

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
    cfg = _config(folder / "config.yaml")
    if weights == "best":
        state = checkpoint.read(folder / "checkpoints" / "best.pt")
    else:
        found = checkpoint.last_good(folder / "checkpoints")
        if found is None:
            raise UserError(f"{folder / 'checkpoints'} holds no checkpoint")
        state = found
    if "data" not in state:
        raise UserError(f"{folder / 'checkpoints'}: the checkpoint lacks the shape of its data")
    model = build(cfg, "model", **state["data"])
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"{folder}: the weights are not of its config.yaml: {reason}") from None
    return LoadedRun(model.eval(), cfg)


def _config(path: Path) -> DictConfig:
    try:
        cfg = OmegaConf.load(path)
    except (OSError, ValueError, RecursionError, YAMLError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path} cannot be read ({reason})") from None
    for group in ("dataset", "model", "objective"):
        if not isinstance(cfg, DictConfig) or not isinstance(cfg.get(group), DictConfig):
            raise UserError(f"{path} is not the configuration of a run: it names no {group}")
    assert isinstance(cfg, DictConfig)
    return cfg
