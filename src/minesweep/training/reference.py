"""What an earlier run's model says of the training examples, and what that cost."""

from __future__ import annotations

import json
import logging

import torch
from omegaconf import DictConfig
from torch import Tensor

from minesweep.backward.choice import operations
from minesweep.config.identity import batch_and_selected
from minesweep.config.reference import KEY, find_reference
from minesweep.datasets.base import Data
from minesweep.errors import UserError
from minesweep.objectives.base import Objective, RowObjective
from minesweep.training.load import load_run

log = logging.getLogger(__name__)

CHUNK = 2048
COUNTED = 8
"""Examples on which operations are counted."""


class Reference:
    """Gives the losses of an earlier run's model, once for a run.

    Args:
        cfg: Of the run that asks.
        data: What it trains on.
        objective: What it minimises: the losses are by this.

    Attributes:
        forward: Examples that the reference run and this pass over the data scored.
        backward: Examples that the reference run learned from.
        metrics: The same and ``reference/operations``, for the run's summary; empty without one.
    """

    def __init__(self, cfg: DictConfig, data: Data, objective: Objective) -> None:
        self.cfg, self.data, self.objective = cfg, data, objective
        self.forward = self.backward = 0
        self.metrics: dict[str, float] = {}

    @torch.no_grad()
    def __call__(self, path: str) -> Tensor:
        """``[N]`` losses on the training examples and their labels as they are trained on.

        Raises:
            UserError: No finished run is there, or its model is for other data.
        """
        folder = find_reference(path, self.cfg.seed)
        if not (isinstance(self.objective, RowObjective) and self.objective.row_wise):
            raise UserError(
                f"{KEY}={path}: this objective has no loss of an example by itself; take "
                "objective=cross_entropy or l2"
            )
        model, config = load_run(folder, "best")
        split = self.data.train
        model.to(split.device)
        if config.trainer.get("train_on", "train") == self.cfg.trainer.get("train_on", "train"):
            log.warning(
                "%s=%s was trained on the %s split, as this run is: its losses say what it "
                "remembers, too; trainer.train_on=val trains on held-out examples",
                *(KEY, folder, config.trainer.get("train_on", "train")),
            )
        try:
            parts = []
            for rows in torch.arange(len(split), device=split.device).split(CHUNK):
                batch = split.fetch(rows)
                parts.append(self.objective.losses(model(batch.inputs), batch.labels))
        except (RuntimeError, IndexError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{KEY}={folder} is of other data than this run ({reason})") from None
        self._count(json.loads((folder / "summary.json").read_text()), model, len(split))
        return torch.cat(parts)

    def _count(self, summary: dict[str, float], model: torch.nn.Module, size: int) -> None:
        few = self.data.train.fetch(torch.arange(COUNTED, device=self.data.train.device)).inputs
        ahead, back = (count / COUNTED for count in operations(model, few))
        self.forward = int(summary["samples/forward"]) + size
        self.backward = int(summary["samples/backward"])
        total = self.forward * ahead + self.backward * back
        n, k = batch_and_selected(self.cfg)
        step = n * ahead + (n if k is None else k) * back
        self.metrics = {
            "reference/samples_forward": self.forward,
            "reference/samples_backward": self.backward,
            "reference/operations": total,
        }
        log.info(
            "the reference cost %s examples forward (%s of them its losses here) and %s backward, "
            "%.3g operations: as many as %.0f steps of its own model at this n and k",
            *(f"{self.forward:,}", f"{size:,}", f"{self.backward:,}", total, total / step),
        )
