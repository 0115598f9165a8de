"""``trainer.equal_cost=auto``: as many steps as cost what the arm's baseline costs.

``src/sweep.py`` measures the cost of a step of each arm before the first trial and stores it in
the study's folder. A run takes its number of steps from there, so it is the same on every machine.
"""

from __future__ import annotations

import copy
import json

from omegaconf import DictConfig

from minesweep.config.identity import Config, identity, study_folder
from minesweep.config.places import command
from minesweep.errors import UserError

FILE = "step_seconds.json"
AUTO = "auto"


class CostUnknown(UserError):
    """No step costs are stored for this arm."""


def wants_equal_cost(cfg: Config) -> bool:
    """Whether the number of steps is still to be taken from the measured costs."""
    return bool(cfg["trainer"].get("equal_cost") == AUTO)


def arm_key(cfg: DictConfig) -> str:
    """Eight hex digits, equal for two runs that differ in the seed or in ``equal_cost`` alone."""
    twin = copy.deepcopy(cfg)
    twin.seed, twin.trainer.equal_cost = 0, None
    return identity(twin)[:8]


def with_equal_cost(cfg: DictConfig) -> DictConfig:
    """The configuration with ``auto`` replaced by a number of steps.

    Raises:
        CostUnknown: The study's folder does not hold the costs of this arm.
    """
    if not wants_equal_cost(cfg):
        return cfg
    path = study_folder(cfg) / FILE
    try:
        count = json.loads(path.read_text())["calibration"]["equal_cost_steps"][arm_key(cfg)]
    except (OSError, ValueError, LookupError, TypeError):
        count = None
    if not isinstance(count, int):
        what = "holds no costs of this arm" if path.exists() else "is missing"
        raise CostUnknown(
            f"trainer.equal_cost=auto: {path} {what}; "
            f"{command('sweep')} FILE --check measures the arms of a sweep file"
        )
    resolved = copy.deepcopy(cfg)
    resolved.trainer.equal_cost = count
    return resolved
