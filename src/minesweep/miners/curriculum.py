"""When mined pairs take the place of random ones.

A curriculum says which share of a batch is mined. What it has seen is in buffers, so a resumed
run stands where it was left. It hears the loss through the miner's ``select``, once a step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from minesweep.errors import UserError


class Curriculum(nn.Module):
    """Mined pairs from the first step on. Subclasses begin with random ones."""

    def share(self, step: int, steps: int) -> float:
        """Share of the batch that is mined at ``step`` of ``steps``, in [0, 1]."""
        return 1.0

    def observe(self, losses: Tensor, random: int) -> None:
        """Hears the ``[n]`` losses of a step, of which the first ``random`` are of random pairs."""


class Ramp(Curriculum):
    """The mined share grows on a line from ``first`` to ``last``.

    Args:
        first: Share at the run's first step, in [0, 1].
        last: Share from ``over`` on, in [0, 1].
        over: Share of the run's steps after which ``last`` is reached, in [0, 1].
    """

    def __init__(self, first: float = 0.0, last: float = 0.5, over: float = 0.5) -> None:
        super().__init__()
        for name, value in (("first", first), ("last", last), ("over", over)):
            _check_share(name, value)
        self.first, self.last, self.over = first, last, over

    def share(self, step: int, steps: int) -> float:
        progress = min(1.0, step / (self.over * steps)) if self.over else 1.0
        return self.first + (self.last - self.first) * progress


class _Windows(Curriculum):
    """Looks at the mean loss of each ``window`` steps, once, at the window's end."""

    stage: Tensor
    total: Tensor
    seen: Tensor

    def __init__(self, window: int) -> None:
        super().__init__()
        if window < 1:
            raise UserError(f"miner.curriculum.window={window} must be at least 1 step")
        self.window = window
        self.register_buffer("stage", torch.zeros((), dtype=torch.long))
        self.register_buffer("total", torch.zeros((), dtype=torch.double))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def observe(self, losses: Tensor, random: int) -> None:
        self.total += self.of_a_step(losses, random)
        self.seen += 1
        if self.seen == self.window:
            self.decide((self.total / self.seen).item())
            self.total.zero_()
            self.seen.zero_()

    def of_a_step(self, losses: Tensor, random: int) -> Tensor:
        return losses.double().mean()

    def decide(self, loss: float) -> None:
        raise NotImplementedError


class Switch(_Windows):
    """Random pairs until the mean loss of a window is below a value, then mined ones for ever.

    Source: yuhongsun96/Hard-Negative-Mining-with-LSH-KNN, ``code/train.py``: below 10 over 100
    iterations.

    Args:
        below: Mean loss of a window.
        window: Steps.
    """

    def __init__(self, below: float = 10.0, window: int = 100) -> None:
        super().__init__(window)
        self.below = below

    def share(self, step: int, steps: int) -> float:
        return float(self.stage.item())

    def decide(self, loss: float) -> None:
        if loss < self.below:
            self.stage.fill_(1)


class ByLoss(_Windows):
    """More mined pairs once the random ones are easy, and fewer again when they are not.

    The yardstick is the loss of the *random* pairs (of all, where a batch has no random ones),
    because mined pairs are harder by design. Its mean over the first window is the unit.

    Args:
        window: Steps whose mean loss is looked at together.
        patience: How many windows in a row must agree before a stage is gone up or down.
        below: Up where the loss is below this share of the first window's.
        above: Down where it is above this share of it.
        increment: What a stage adds to the mined share.
        most: The largest mined share; below 1 some random pairs always remain.
    """

    first: Tensor
    agreed: Tensor

    def __init__(
        self,
        window: int = 25,
        patience: int = 2,
        below: float = 0.5,
        above: float = 0.9,
        increment: float = 0.25,
        most: float = 0.5,
    ) -> None:
        super().__init__(window)
        _check_share("most", most)
        if patience < 1:
            raise UserError(f"miner.curriculum.patience={patience} must be at least 1 window")
        if not 0 < increment <= 1:
            raise UserError(f"miner.curriculum.increment={increment} must be in (0, 1]")
        if not 0 < below < above:
            raise UserError(
                f"miner.curriculum.below={below} must be above 0 and below "
                f"miner.curriculum.above={above}"
            )
        self.patience, self.below, self.above = patience, below, above
        self.increment, self.most = increment, most
        self.register_buffer("first", torch.full((), torch.nan, dtype=torch.double))
        # Windows in a row that spoke for going up (above 0) or down (below 0).
        self.register_buffer("agreed", torch.zeros((), dtype=torch.long))

    def share(self, step: int, steps: int) -> float:
        return min(self.most, self.stage.item() * self.increment)

    def of_a_step(self, losses: Tensor, random: int) -> Tensor:
        return (losses[:random] if random else losses).double().mean()

    def decide(self, loss: float) -> None:
        if self.first.isnan():
            self.first.fill_(loss)
            return
        unit, agreed = self.first.item(), int(self.agreed.item())
        if loss < self.below * unit:
            agreed = max(agreed, 0) + 1
        elif loss > self.above * unit:
            agreed = min(agreed, 0) - 1
        else:
            agreed = 0
        if abs(agreed) == self.patience:
            stage = int(self.stage.item()) + (1 if agreed > 0 else -1)
            highest = -(-self.most // self.increment)
            self.stage.fill_(int(min(max(stage, 0), highest)))
            agreed = 0
        self.agreed.fill_(agreed)


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UserError(f"miner.curriculum.{name}={value} must be a share from 0 to 1")
