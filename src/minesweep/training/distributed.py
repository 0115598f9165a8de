"""The model on several processes, and a batch in several pieces on each."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from minesweep import parallel
from minesweep.config.identity import choice
from minesweep.datasets.base import Batch
from minesweep.errors import UserError
from minesweep.objectives.base import Objective, Outcome


class GradientAccumulation:
    """Divides a batch: each process scores its share of it, in ``trainer.accumulate`` pieces.

    The pieces have one size, so that the mean of their losses and gradients is that of the
    whole batch. BatchNorm takes its statistics of each piece alone.

    Raises:
        UserError: The batch cannot be divided so, or the objective does not allow it.
    """

    def __init__(self, cfg: DictConfig, objective: Objective) -> None:
        self.pieces, n = cfg.trainer.accumulate, cfg.trainer.batch_size
        self._dimension = 0 if objective.views == 1 else 1  # views come first
        count = self.pieces * parallel.processes()
        if count > 1 and not objective.separable:
            raise UserError(
                f"objective={choice(cfg, 'objective')} looks at the whole batch at once: "
                "trainer.accumulate must be 1 and the run on one process"
            )
        if n % count:
            raise UserError(
                f"trainer.batch_size={n} must be a multiple of {count} "
                f"({parallel.processes()} processes x trainer.accumulate={self.pieces})"
            )

    def split(self, batch: Batch) -> Sequence[Batch]:
        """The pieces of this process' share, in order."""
        if self.pieces == 1:
            return [batch]
        inputs = batch.inputs.chunk(self.pieces, self._dimension)
        labels, rows = batch.labels.chunk(self.pieces), batch.rows.chunk(self.pieces)
        return [Batch(*parts) for parts in zip(inputs, labels, rows, strict=True)]

    @staticmethod
    def synchronised(model: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """While entered, only the ``last`` piece's backward pass averages over the processes."""
        if last or not isinstance(model, DistributedDataParallel):
            return nullcontext()
        return model.no_sync()

    @staticmethod
    def merge(outcomes: Sequence[Outcome]) -> Outcome:
        """One outcome of those of the pieces, for the record."""
        if len(outcomes) == 1:
            return outcomes[0]
        weights = []
        for outcome in outcomes:
            assert isinstance(outcome.weights, Mapping), "rows are not scored in pieces"
            weights.append(outcome.weights)
        metrics = [outcome.metrics for outcome in outcomes]
        return Outcome(
            torch.stack([outcome.loss.detach() for outcome in outcomes]).mean(),
            torch.cat([outcome.scores for outcome in outcomes]),
            {name: torch.cat([part[name] for part in weights]) for name in weights[0]},
            {name: torch.stack([part[name] for part in metrics]).mean() for name in metrics[0]},
            details={
                name: torch.cat([outcome.details[name] for outcome in outcomes])
                for name in outcomes[0].details
            },
        )


def convert_model(cfg: DictConfig, model: nn.Module) -> nn.Module:
    """The model in the form that ``trainer.channels_last`` and ``trainer.sync_batchnorm`` ask for.

    Raises:
        UserError: ``sync_batchnorm`` without GPUs.
    """
    if cfg.trainer.sync_batchnorm and parallel.processes() > 1:
        if next(model.parameters()).device.type != "cuda":
            raise UserError("trainer.sync_batchnorm=true needs GPUs: torch has it for them alone")
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if cfg.trainer.channels_last:
        # Convolutions take their layout from the weights; the inputs follow at the first one.
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def wrap_model(cfg: DictConfig, model: nn.Module, objective: Objective) -> nn.Module:
    """The model that a training step calls: compiled in place, its gradients averaged."""
    if cfg.trainer.compile:
        for module in (model, *objective.children()):
            module.compile()
    if parallel.processes() == 1:
        return model
    # BatchNorm keeps the statistics of each process; those of the first are saved. Newer versions
    # of torch have another name for this argument.
    known = inspect.signature(DistributedDataParallel).parameters
    word = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    settings: dict[str, Any] = {word: False}
    return DistributedDataParallel(model, **settings)
