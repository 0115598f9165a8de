"""How many steps a run takes, and at which of them something happens."""

from __future__ import annotations

from collections.abc import Mapping

from omegaconf import DictConfig

from minesweep.config.identity import batch_and_selected


def planned_steps(cfg: DictConfig, size: int) -> int:
    """How many steps a run over ``size`` training examples takes if nothing stops it."""
    trainer = cfg.trainer
    if trainer.equal_cost is not None:
        return trainer.equal_cost
    if trainer.max_steps is not None:
        return trainer.max_steps
    n, k = batch_and_selected(cfg)
    if trainer.count == "backward":
        assert k is not None  # told by config.checks
        return max(1, trainer.max_epochs * size // k)
    return trainer.max_epochs * (size // n)


def is_due(step: int, every: float | Mapping[int, int] | None, steps: int = 0) -> bool:
    """Whether something happens at ``step`` that happens ``every`` so many of ``steps`` steps."""
    if isinstance(every, Mapping):
        # {0: 25, 300: 100}: every 25 steps up to step 300, every 100 after it.
        every = every[max((start for start in every if start < step), default=min(every))]
    elif isinstance(every, float):
        every = max(1, round(every * steps))  # a share of the run
    return every is not None and step % every == 0
