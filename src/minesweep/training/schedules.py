"""Learning rates over steps, each a function of the step alone, so that a resume needs no state."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def constant(
    optimizer: Optimizer, steps: int, warmup: int = 0, warmup_from: float = 0.0
) -> LambdaLR:
    """The optimizer's own rate, after a linear warm-up of ``warmup`` steps.

    The warm-up begins at ``warmup_from`` times the rate, as in the other schedules.
    """
    return _schedule(optimizer, steps, warmup, lambda progress: 1.0, warmup_from)


def linear(
    optimizer: Optimizer,
    steps: int,
    warmup: int = 0,
    final: float = 0.0,
    warmup_from: float = 0.0,
) -> LambdaLR:
    """A line from the optimizer's rate to ``final`` times that rate at the last step."""
    return _schedule(optimizer, steps, warmup, lambda p: 1 - (1 - final) * p, warmup_from)


def cosine(
    optimizer: Optimizer,
    steps: int,
    warmup: int = 0,
    final: float = 0.0,
    warmup_from: float = 0.0,
) -> LambdaLR:
    """Half a cosine from the rate to ``final`` times the rate (SGDR, arXiv 1608.03983, eq. 5)."""

    def after(progress: float) -> float:
        return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2

    return _schedule(optimizer, steps, warmup, after, warmup_from)


def rsqrt(optimizer: Optimizer, steps: int, warmup: int = 400) -> LambdaLR:
    """A line to the optimizer's rate at step ``warmup``, then ``1 / sqrt(step)``.

    Source: Vaswani et al., arXiv 1706.03762, section 5.3, scaled so that the peak is the
    optimizer's rate (``warmup_and_rsqrt_decay`` of Trax).
    """
    start = max(1, warmup)
    return LambdaLR(optimizer, lambda step: min((step + 1) / start, (start / (step + 1)) ** 0.5))


def _schedule(
    optimizer: Optimizer,
    steps: int,
    warmup: int,
    after: Callable[[float], float],
    warmup_from: float,
) -> LambdaLR:
    def factor(step: int) -> float:
        if step < warmup:
            return warmup_from + (1 - warmup_from) * (step + 1) / warmup
        return after(min(1.0, (step - warmup) / max(1, steps - warmup)))

    return LambdaLR(optimizer, factor)
