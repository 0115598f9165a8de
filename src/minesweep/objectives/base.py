"""The contract of an objective: it declares the candidate, scores it, and reduces the selected."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from minesweep.backward.choice import (
    AGAIN,
    FULL,
    ROWS,
    choose,
    hindrance_of_rows,
    is_compiled,
    still_statistics,
)
from minesweep.backward.modes import NotRowWise
from minesweep.backward.rows import replaced, rows_of
from minesweep.backward.two_passes import TwoPasses, on_fewer
from minesweep.datasets.base import Batch, Data, Split
from minesweep.errors import UserError
from minesweep.miners.base import Miner, Pool
from minesweep.objectives import contract
from minesweep.objectives.mined import Mined, hardest
from minesweep.objectives.selecting import Selecting
from minesweep.words import check_word

if TYPE_CHECKING:
    from rich.console import RenderableType

log = logging.getLogger(__name__)

AUTO = "auto"
WAYS = (AUTO, ROWS, AGAIN, FULL)
"""How an update can learn from k of n rows."""


@dataclass(frozen=True)
class Outcome:
    """What one step scored and selected.

    Attributes:
        loss: Scalar, with a gradient.
        scores: Detached scores of the candidates; ``[n]`` for examples and pairs, ``[n, H, W]`` for
            pixels. Where they are
            the negatives in a queue, and too many to keep, ``[B]`` losses of their queries.
        weights: What was selected, shaped like ``scores``.
        details: Further tensors by name for :meth:`Objective.mined`; not read elsewhere.
        metrics: Further scalars of the batch, by their full name; read at logged steps only,
            so they stay tensors.
        scored: How many candidates went through the model to be scored; None for all.
        valid: Bool, shaped like the scores: False at what has no label (pixels); None for all.
    """

    loss: Tensor
    scores: Tensor
    weights: Tensor | Mapping[str, Tensor]
    metrics: dict[str, Tensor] = field(default_factory=dict)
    scored: int | None = None
    details: dict[str, Tensor] = field(default_factory=dict)
    valid: Tensor | None = None


class Objective(nn.Module):
    """Scores candidates. Subclass it, or :class:`RowObjective` where a candidate is a row.

    Keep what an objective learns or remembers (a proxy, a queue, a momentum encoder) in parameters
    and buffers. Then it is trained and checkpointed with the model.
    """

    candidate: ClassVar[str] = "example"
    """What it scores; see :attr:`minesweep.miners.base.Miner.candidate`."""

    monitor: ClassVar[str] = "val/accuracy"
    """The validation metric by which the best checkpoint is chosen; larger is better."""

    views: ClassVar[int] = 1
    """How many differently augmented views of each example it compares; the batch's ``inputs``
    are ``[views, n, ...]`` if more than one."""

    separable: ClassVar[bool] = False
    """Whether a batch may be scored in parts, on several processes or one after the other. It is
    false where a part gives another selection than the whole."""

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

    def vectors(self, outputs: Tensor) -> Tensor:
        """What is compared, and so what index miners search: the model's outputs here."""
        return outputs

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

    def preflight(self, model: nn.Module, split: Split) -> RenderableType | None:
        """What to show before the first step, if anything; it changes nothing.

        Args:
            model: In evaluation mode.
            split: The training split.
        """
        return None

    def after_step(self) -> None:
        """Called after the optimizer's step: a queue's update, a momentum encoder's.

        Inside ``forward`` these would change tensors that the backward pass still needs.
        """

    def evaluate(self, model: nn.Module, split: Split, chunk: int = 2048) -> dict[str, float]:
        """Metrics of ``model`` (in evaluation mode) on a split, without a prefix."""
        raise NotImplementedError

    def validate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """:meth:`evaluate` on the validation split.

        Override it to choose something on validation data that other splits need, such as a
        threshold. Keep it in a buffer, so that it belongs to the checkpoint.
        """
        return self.evaluate(model, split)


class RowObjective(Objective):
    """An objective with one loss for each example or pair. Subclasses only score.

    Args:
        reduction: Over the selected losses: ``mean`` divides their sum by their number k,
            ``sum_over_n`` by the number scored n. ``sum`` divides by nothing, so the step size
            grows with k.
        backward: How the update learns from k of n. ``full``: through a graph of all n. ``rows``:
            score n without a graph, then learn from k without computing anything dear again (see
            :mod:`minesweep.backward.two_passes`); the gradient is that of ``full``. ``again``:
            score n, then forward k again. BatchNorm takes its batch statistics from the k. Its
            running statistics move once, by the n, or by the k if ``selecting`` changes the scoring
            pass. ``auto``: the cheapest by counted operations; ``again`` only where layers rule
            ``rows`` out.
        selecting: Of ``again``: settings of :class:`~minesweep.objectives.selecting.Selecting`.
    """

    row_wise: ClassVar[bool] = False
    """Whether a row's loss depends on that row alone: then those of the selected suffice."""

    option: ClassVar[str] = "objective.backward"
    """How messages name ``backward``."""

    def __init__(
        self,
        reduction: str = "mean",
        backward: str = AUTO,
        selecting: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.reduction = reduction
        self.backward = check_word(self.option, backward, WAYS)
        self.selecting = Selecting(**(selecting or {}))
        if self.selecting.cheaper and backward != AGAIN:
            raise UserError(
                f"objective.selecting is for objective.backward=again, not for {backward}"
            )
        self._way: str | None = None
        self._passes = TwoPasses(remember=False)

    def setup(self, model: nn.Module, pool: Pool, data: Data) -> None:
        self.selecting.setup(pool.size, pool.device)

    # What was chosen belongs to the run: one that is resumed goes the same way.
    def get_extra_state(self) -> dict[str, str | None]:
        return {"way": self._way}

    def set_extra_state(self, state: dict[str, str | None]) -> None:
        self._set_way(state["way"])

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
        # If chance selects nothing, the loss is 0 and not 0 / 0.
        return total / weights.sum().clamp(min=1)

    def forward(self, model: nn.Module, batch: Batch, miner: Miner, step: int) -> Outcome:
        if not miner.active(step):
            return self._full(model, batch, None, step)
        try:
            way = self._way or self._choose(model, batch, miner)
            if way == FULL:
                return self._full(model, batch, miner, step)
            if self.selecting.remembers:
                return self._stale(model, batch, miner, step)
            return self._twice(model, batch, miner, step)
        except NotRowWise as error:
            raise UserError(
                f"{self.option}={self.backward}: the model cannot go backward over the selected "
                f"rows alone, {error}; {self.option}=full is right for any model"
            ) from None

    def _checked(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return contract.losses(self.losses(outputs, labels), self, len(labels))

    def _full(self, model: nn.Module, batch: Batch, miner: Miner | None, step: int) -> Outcome:
        """One pass over all n; without a miner everything is selected."""
        outputs = model(batch.inputs)
        losses = self._checked(outputs, batch.labels)
        scores = losses.detach()
        weights = torch.ones_like(scores) if miner is None else _select(miner, scores, batch, step)
        with torch.no_grad():
            metrics = self.metrics(outputs, batch.labels)
            details = self.details(outputs, batch.labels)
        loss = self.reduce(losses, weights)
        return Outcome(loss, scores, weights, metrics, details=details)

    def _twice(self, model: nn.Module, batch: Batch, miner: Miner, step: int) -> Outcome:
        """Scores n rows, then learns from the k selected."""
        n, cheaper, passes = len(batch.labels), self.selecting.cheaper, self._passes
        again = self._way == AGAIN
        with torch.no_grad(), still_statistics(model, again and cheaper):
            score = self.selecting.pass_over if cheaper else None
            outputs = passes.score(model, batch.inputs, n, step, score)
            scores = self._checked(outputs, batch.labels)
            metrics = self.metrics(outputs, batch.labels)
            details = self.details(outputs, batch.labels)
        weights = _select(miner, scores, batch, step)
        rows = _selected(weights, miner.selected(n))
        with still_statistics(model, again and not cheaper):
            part = passes.learn(model, batch.inputs, outputs, rows)
        if self.row_wise:
            losses = _put(scores, rows, self._checked(part, batch.labels[rows]))
        else:
            losses = self._checked(replaced(outputs, rows, part, n), batch.labels)
        loss = self.reduce(losses, weights)
        return Outcome(loss, scores, weights, metrics, details=details)

    def _stale(self, model: nn.Module, batch: Batch, miner: Miner, step: int) -> Outcome:
        """Scores only rows whose last loss is too old, then learns from the k selected."""
        n, memory = len(batch.labels), self.selecting
        due, metrics = memory.due(batch.rows, step), {}
        if len(due):
            inputs, labels = rows_of(batch.inputs, due, n), batch.labels[due]
            with torch.no_grad(), still_statistics(model):
                outputs = memory.pass_over(model, inputs)
                memory.remember(batch.rows[due], self._checked(outputs, labels), step)
                metrics = self.metrics(outputs, labels) if len(due) == n else {}
        scores = memory.losses[batch.rows]
        weights = _select(miner, scores, batch, step)
        rows = _selected(weights, miner.selected(n))
        with on_fewer(len(rows), n):
            outputs = model(rows_of(batch.inputs, rows, n))
        part = self._checked(outputs, batch.labels[rows])
        memory.remember(batch.rows[rows], part, step)
        loss = self.reduce(_put(scores, rows, part), weights)
        return Outcome(loss, scores, weights, metrics, scored=len(due))

    def _choose(self, model: nn.Module, batch: Batch, miner: Miner) -> str:
        n = len(batch.labels)
        k = miner.selected(n)
        if self.backward == AUTO:
            choice = choose(model, batch.inputs, n, k)
            log.info("%s=auto takes %s: %s", self.option, choice.way, choice.reason)
            self._set_way(choice.way)
        else:
            if self.backward == ROWS and is_compiled(model):
                raise UserError(
                    f"{self.option}=rows cannot look into a compiled model: take again, full or "
                    "auto, or do not compile it (trainer.compile=false)"
                )
            # Two passes over all n would only cost more.
            way = FULL if k == n else self.backward
            if way == ROWS and (reason := hindrance_of_rows(model, batch.inputs, n)):
                raise NotRowWise(reason)
            self._set_way(way)
        assert self._way is not None
        return self._way

    def _set_way(self, way: str | None) -> None:
        self._way, self._passes = way, TwoPasses(remember=way == ROWS)


def _select(miner: Miner, scores: Tensor, batch: Batch, step: int) -> Tensor:
    selected = miner.select(scores, step=step, rows=batch.rows, labels=batch.labels)
    return contract.weights(selected, miner, scores)


def _put(scores: Tensor, rows: Tensor, losses: Tensor) -> Tensor:
    """The scores, constants, with the losses of ``rows``, which have a graph, among them."""
    return scores.to(losses.dtype).index_copy(0, rows, losses)


def _selected(weights: Tensor, k: int | None) -> Tensor:
    """The rows that have a weight, at least one."""
    if k is not None and weights.is_cuda:
        # The same without waiting for the device.
        return weights.argsort(descending=True, stable=True)[:k]
    # Waits for the device where chance decides how many they are: a tensor needs its size.
    rows = weights.nonzero().squeeze(1)
    return rows if len(rows) else rows.new_zeros(1)
