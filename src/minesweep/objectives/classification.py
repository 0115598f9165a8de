"""Classification, one loss for each example."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from minesweep.datasets.base import Data, Split
from minesweep.miners.base import Pool
from minesweep.objectives import contract
from minesweep.objectives.base import RowObjective


class Classification(RowObjective):
    """What cross-entropy and L2 share: accuracy, and the evaluation of a split."""

    evaluates = ("loss", "accuracy")
    row_wise = True

    def setup(self, model: nn.Module, pool: Pool, data: Data) -> None:
        super().setup(model, pool, data)
        n = min(2, pool.size)
        some = pool.encode(torch.arange(n, device=pool.device))
        contract.logits(some, n, data.num_classes)

    def metrics(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"train/accuracy": (outputs.argmax(1) == labels).double().mean()}

    def details(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"prediction": outputs.argmax(1)}

    def evaluate(self, model: nn.Module, split: Split, chunk: int = 2048) -> dict[str, float]:
        """Mean ``loss`` and ``accuracy`` over the split, computed ``chunk`` examples at a time."""
        loss = torch.zeros((), dtype=torch.float64, device=split.device)
        correct = torch.zeros((), dtype=torch.long, device=split.device)
        for rows in torch.arange(len(split), device=split.device).split(chunk):
            batch = split.fetch(rows)
            outputs = model(batch.inputs)
            loss += self.losses(outputs, batch.labels).double().sum()
            correct += (outputs.argmax(1) == batch.labels).sum()
        return {"loss": loss.item() / len(split), "accuracy": correct.item() / len(split)}


class CrossEntropy(Classification):
    """``-log softmax(outputs)[label]`` for each example."""

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """``[n]`` losses in nats of logits ``[n, classes]``."""
        return functional.cross_entropy(outputs, labels, reduction="none")


class L2(Classification):
    """``0.5 * sum((softmax(outputs) - onehot)^2)`` for each example, in [0, 1]."""

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """``[n]`` losses of logits ``[n, classes]``."""
        probabilities = outputs.float().softmax(1)
        onehot = functional.one_hot(labels, outputs.shape[1]).to(probabilities.dtype)
        return 0.5 * (probabilities - onehot).square().sum(1)
