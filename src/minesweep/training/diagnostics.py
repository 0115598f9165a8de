"""What a run selected: counts kept from step to step, and the row of a logged step."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from minesweep.datasets.base import Batch, Split
from minesweep.objectives.base import Outcome
from minesweep.tracking.journal import Histogram

MOST_CLASSES = 20
"""Classes at most that each get a curve."""
BINS = 64

PASSED, SELECTED = 1, 2  # 0: not yet seen


class Diagnostics(nn.Module):
    """Counts over the run, in buffers, so that a resumed run reports what an undisturbed one would.

    Numbers are read back from the device at logged steps only.
    """

    last: Tensor
    accuracy_sum: Tensor
    accuracy_steps: Tensor
    forward_samples: Tensor
    backward_samples: Tensor
    examples: Tensor
    """``[N, 3]``, for each training row: how often it was scored, how often it was selected, and
    the sum of its losses. With pixels as candidates, the share of its pixels that were selected
    counts, and their mean loss. Pairs and queues are not counted."""

    def __init__(self, split: Split, num_classes: int, processes: int = 1) -> None:
        super().__init__()
        self.num_classes, self.flipped = num_classes, split.flipped
        # Each process counts its own share, and all shares have one size.
        self.processes = processes
        long, double = torch.long, torch.double
        # Of each training row, what happened at its last appearance.
        self.register_buffer("last", torch.zeros(len(split), dtype=torch.uint8))
        # Which of this step's rows were selected at their last appearance; for its own row alone.
        self._before = torch.empty(0, dtype=torch.bool)
        self.register_buffer("accuracy_sum", torch.zeros((), dtype=double))
        self.register_buffer("accuracy_steps", torch.zeros((), dtype=long))
        self.register_buffer("forward_samples", torch.zeros((), dtype=long))
        self.register_buffer("backward_samples", torch.zeros((), dtype=long))
        self.register_buffer("examples", torch.zeros(len(split), 3))
        self.to(split.device)

    def count(self, forward: int, backward: int) -> None:
        """Counts examples that something before the first step scored and learned from."""
        self.forward_samples += forward
        self.backward_samples += backward

    @torch.no_grad()
    def update(self, outcome: Outcome, batch: Batch) -> None:
        """Counts one step. Runs at every step, on the device, without waiting for it."""
        scored = len(outcome.scores) if outcome.scored is None else outcome.scored
        self.forward_samples += scored * self.processes
        if "train/accuracy" in outcome.metrics:
            self.accuracy_sum += outcome.metrics["train/accuracy"]
            self.accuracy_steps += 1
        if isinstance(outcome.weights, Mapping):
            self.backward_samples += len(outcome.scores) * self.processes
            return
        if outcome.valid is not None:
            self._count_images(outcome.scores, outcome.weights, outcome.valid, batch)
            return
        selected = outcome.weights > 0
        self.backward_samples += selected.sum()
        if batch.rows.dim() != 1:
            return  # a pair is hardly ever seen twice
        self._before = self.last[batch.rows] == SELECTED
        self.last[batch.rows] = selected.to(torch.uint8) + PASSED
        scores = outcome.scores.float()
        seen = torch.stack([torch.ones_like(scores), selected.float(), scores], 1)
        self.examples.index_add_(0, batch.rows, seen)

    def _count_images(self, scores: Tensor, weights: Tensor, valid: Tensor, batch: Batch) -> None:
        # The pixels of an image share one graph: each image goes backward, whatever is selected.
        self.backward_samples += len(scores) * self.processes
        pixels = valid.flatten(1).sum(1).clamp(min=1)
        share, loss = (
            values.where(valid, 0).flatten(1).sum(1) / pixels
            for values in ((weights > 0).float(), scores.float())
        )
        seen = torch.stack([torch.ones_like(loss), share, loss], 1)
        self.examples.index_add_(0, batch.rows, seen)

    @torch.no_grad()
    def summary(self) -> dict[str, float]:
        """How well the mean loss over the run finds replaced labels; empty without label noise.

        The examples of the highest mean loss are suspected, as many as there are replaced labels.
        So one share is both precision and recall.
        """
        scored, _, total = self.examples.unbind(1)
        if self.flipped is None or not self.flipped.any() or not scored.any():
            return {}
        loss = torch.where(scored > 0, total / scored, -torch.inf)
        suspected = loss.argsort(descending=True, stable=True)[: int(self.flipped.sum())]
        return {"mining/suspicion_precision": self.flipped[suspected].double().mean().item()}

    @torch.no_grad()
    def row(
        self, outcome: Outcome, batch: Batch, step: int, mined: Mapping[str, Tensor] | None = None
    ) -> dict[str, float]:
        """The scalars of one step, with those of the miner (``mined``).

        Only this method reads numbers from the device.
        """
        values = {**outcome.metrics, **(mined or {})}
        values["samples/forward"] = self.forward_samples
        values["samples/backward"] = self.backward_samples
        if "train/accuracy" in outcome.metrics:
            # The metric of the reference code: the mean over all training batches since step 0.
            values["train/accuracy_running"] = self.accuracy_sum / self.accuracy_steps
        if not isinstance(outcome.weights, Mapping):
            values |= self._selection(outcome, outcome.weights, batch)
        row = {name: value.item() for name, value in values.items()}
        # A share of nothing, e.g. before any row is seen twice, is not a value.
        return {name: value for name, value in row.items() if math.isfinite(value)}

    def _selection(self, outcome: Outcome, weights: Tensor, batch: Batch) -> dict[str, Tensor]:
        labels, scores, weights = batch.labels, outcome.scores.double(), weights.double()
        if outcome.valid is not None:
            labels, scores, weights = (x[outcome.valid] for x in (labels.long(), scores, weights))
        count = weights.sum()
        carried = (scores * weights).sum()
        values = {
            "train/loss_batch": scores.mean(),
            "train/loss_selected": carried / count,
            "mining/loss_share": carried / scores.sum(),
        }
        if batch.rows.dim() != 1:
            return values
        if outcome.valid is None:
            again = (self._before & (weights > 0)).sum()
            values["mining/reselected"] = again / self._before.sum()
        else:
            values["mining/selected_share"] = (weights > 0).double().mean()
        if self.flipped is not None:
            values["mining/flipped_share"] = (self.flipped[batch.rows] * weights).sum() / count
        if self.num_classes <= MOST_CLASSES:
            shares = torch.zeros(self.num_classes, dtype=torch.double, device=weights.device)
            shares.index_add_(0, labels, weights)
            for label, share in enumerate(shares / count):
                values[f"mining/class_share/{label}"] = share
        return values


@torch.no_grad()
def histograms(outcome: Outcome, mined: Mapping[str, Tensor] | None = None) -> dict[str, Histogram]:
    """Losses of the scored batch and of the selected part, and the miner's; 64 bins each."""
    found = {f"{name}_histogram": _histogram(values) for name, values in (mined or {}).items()}
    if isinstance(outcome.weights, Mapping):
        return found
    scores, weights = outcome.scores.float(), outcome.weights
    if outcome.valid is not None:
        scores, weights = scores[outcome.valid], weights[outcome.valid]
    parts = {"batch": scores, "selected": scores[weights > 0]}
    return found | {
        f"train/loss_{part}_histogram": _histogram(values, scores) for part, values in parts.items()
    }


def _histogram(values: Tensor, over: Tensor | None = None) -> Histogram:
    """Counts of the finite ``values`` in bins from the least to the largest of ``over``."""
    values = values[values.isfinite()].float()
    over = values if over is None else over[over.isfinite()]
    if not over.numel():
        return Histogram([0] * BINS, 0.0, 1.0)
    low, high = (bound.item() for bound in over.aminmax())
    if not high > low:
        high = low + max(1e-6, abs(low) * 1e-6)
    return Histogram(torch.histc(values, BINS, min=low, max=high).long().tolist(), low, high)
