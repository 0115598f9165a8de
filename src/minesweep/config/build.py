"""From a configuration node to the object it names."""

from __future__ import annotations

import sys
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig

from minesweep.errors import UserError


def build(cfg: DictConfig, group: str, /, **arguments: Any) -> Any:
    """Instantiates ``cfg[group]`` with further keyword arguments.

    Raises:
        UserError: The class cannot be found, or does not take these arguments.
    """
    try:
        return instantiate(cfg[group], _convert_="all", **arguments)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        if cause is None or isinstance(cause, ImportError | AttributeError | TypeError):
            target = cfg[group].get("_target_", "no _target_")
            raise UserError(f"{group}={target}: {cause or error}") from error
        raise


def find_user_code() -> None:
    """Makes code that lies beside the YAML files of ``--config-dir`` importable."""
    if not HydraConfig.initialized():
        return
    for source in HydraConfig.get().runtime.config_sources:
        if source.schema == "file" and source.provider != "main" and source.path not in sys.path:
            sys.path.append(source.path)
