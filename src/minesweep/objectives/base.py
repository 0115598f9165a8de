"""The contract of an objective: it declares the candidate, scores it, and reduces the selected."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from minesweep.datasets.base import Batch, Data, Split
from minesweep.miners.base import Miner, Pool
from minesweep.objectives.mined import Mined, hardest


@dataclass(frozen=True)
class Outcome:
    """What one step scored and selected.

    Attributes:
        loss: Scalar, with a gradient.
        scores: Detached scores of the candidates; ``[n]`` for examples and pairs. Where they are
            the negatives in a queue, and too many to keep, ``[B]`` losses of their queries.
        weights: What was selected, shaped like ``scores``.
        details: Further tensors by name for :meth:`Objective.mined`; not read elsewhere.
        metrics: Further scalars of the batch, by their full name; read at logged steps only,
            so they stay tensors.
    """

    loss: Tensor
    scores: Tensor
    weights: Tensor | Mapping[str, Tensor]
    metrics: dict[str, Tensor] = field(default_factory=dict)
    details: dict[str, Tensor] = field(default_factory=dict)


class Objective(nn.Module):
    """Scores candidates. Subclass it, or :class:`RowObjective` where a candidate is a row.

    What an objective learns or remembers (a proxy, a queue, a momentum encoder) is a parameter
    or a buffer, so that it is trained and checkpointed with the model.
    """

    candidate: ClassVar[str] = "example"
    """What it scores: ``example``, ``pair``, ``batch_negative`` or ``queue_negative``."""

    monitor: ClassVar[str] = "val/accuracy"
    """The validation metric by which the best checkpoint is chosen; larger is better."""

    views: ClassVar[int] = 1
    """How many differently augmented views of each example it compares; the batch's ``inputs``
    are ``[views, n, ...]`` if more than one."""

    separable: ClassVar[bool] = False
    """Whether a batch may be scored in parts, on several processes or one after the other, with
    the same result: false where what is selected from a part differs from what is selected from
    the whole."""

    evaluates: ClassVar[tuple[str, ...]]
    """Names that :meth:`validate` returns. A sweep's metric is checked against them; optional."""

    def setup(self, model: nn.Module, pool: Pool, data: Data) -> None:
        """Called once, before the first step and before a checkpoint is loaded.

        Override it to allocate what depends on model or data; a parameter that is to be trained
        is made in ``__init__``, or here.
        """

    def forward(self, model: nn.Module, batch: Batch, miner: Miner, step: int) -> Outcome:
        """Scores the batch, asks the miner what to learn from, and returns the loss of that."""
        raise NotImplementedError

    def mined(self, batch: Batch, outcome: Outcome, most: int) -> Mined | None:
        """The ``most`` hardest candidates, for a person to look at; None if there is no such way.

        Called at the steps of the histograms. What it needs of the step, ``forward`` puts into
        ``Outcome.details``; see :mod:`minesweep.objectives.mined`.
        """
        if outcome.scores.shape != batch.rows.shape[:1]:
            return None
        weights = outcome.weights
        if not isinstance(weights, Tensor):
            weights = torch.ones_like(outcome.scores)
        return hardest(batch, outcome.scores, weights, outcome.details, most)

    def after_step(self) -> None:
        """Called after the optimizer's step: a queue's update, a momentum encoder's.

        Inside ``forward`` these would change tensors that the backward pass still needs.
        """

    def evaluate(self, model: nn.Module, split: Split, chunk: int = 2048) -> dict[str, float]:
        """Metrics of ``model`` (in evaluation mode) on a split, without a prefix."""
        raise NotImplementedError

    def validate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """:meth:`evaluate` on the validation split.

        Override it where something that the evaluation of other splits needs (a threshold) is
        chosen there; it is a buffer, and so belongs to the checkpoint.
        """
        return self.evaluate(model, split)


class RowObjective(Objective):
    """An objective with one loss for each example or pair. Subclasses only score.

    Args:
        reduction: Over the selected losses: ``mean`` divides their sum by their number k,
            ``sum_over_n`` by the number scored n, ``sum`` by nothing (then the step size
            grows with k).
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    @abstractmethod
    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """``[n]`` unreduced losses of ``outputs`` ``[n, ...]`` for ``labels`` ``[n]``."""

    def metrics(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Further metrics of a scored batch, as scalars on its device."""
        return {}

    def details(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """``[n]`` numbers to show beside each candidate, e.g. its prediction or its distance."""
        return {}

    def reduce(self, losses: Tensor, weights: Tensor) -> Tensor:
        """The loss of the selected: ``[n]`` losses and weights to a scalar."""
        total = (losses * weights).sum()
        if self.reduction == "sum":
            return total
        if self.reduction == "sum_over_n":
            return total / len(losses)
        # Where chance selects nothing the loss is 0, not 0 / 0.
        return total / weights.sum().clamp(min=1)

    def forward(self, model: nn.Module, batch: Batch, miner: Miner, step: int) -> Outcome:
        outputs = model(batch.inputs)
        losses = self.losses(outputs, batch.labels)
        scores = losses.detach()
        weights = torch.ones_like(scores)
        if miner.active(step):
            selected = miner.select(scores, step=step, rows=batch.rows, labels=batch.labels)
            assert isinstance(selected, Tensor), "a miner of rows returns one tensor of weights"
            weights = selected
        with torch.no_grad():
            metrics = self.metrics(outputs, batch.labels)
            details = self.details(outputs, batch.labels)
        loss = self.reduce(losses, weights)
        return Outcome(loss, scores, weights, metrics, details=details)
