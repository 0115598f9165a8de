"""Dense prediction, one loss for each pixel."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from minesweep.datasets.base import Batch, Data, Split
from minesweep.errors import UserError
from minesweep.evaluation.segmentation import Confusion
from minesweep.miners.base import Miner, Pool
from minesweep.objectives.base import Objective, Outcome
from minesweep.objectives.mined import Mined, hardest_images

log = logging.getLogger(__name__)

BALANCED = "balanced"
CHUNK = 256


class PixelCrossEntropy(Objective):
    """``-log softmax(outputs)[label]`` for each pixel.

    All pixels of an image share one graph, so the backward pass is that of all of them. Selecting
    pixels changes the gradient, and saves no computation.

    Args:
        reduction: Over the selected losses: ``mean`` divides by their number, or by the sum of
            their class weights, as torch does. ``sum_over_n`` divides by the number of labelled
            pixels, ``sum`` by nothing.
        class_weights: One factor for each class; ``balanced`` takes the inverse of each class's
            share of the training pixels, 1 on average over them; None for none.
        ignore_index: Label of pixels that are never scored.
        auxiliary: Weight of the plain loss, over all labelled pixels, of each further head: a model
            may return ``(outputs, further, ...)``.
    """

    candidate = "pixel"
    monitor = "val/mean_iou"
    evaluates = ("loss", "mean_iou", "pixel_accuracy")

    weights: Tensor

    def __init__(
        self,
        reduction: str = "mean",
        class_weights: Sequence[float] | str | None = None,
        ignore_index: int = 255,
        auxiliary: float = 0.4,
    ) -> None:
        super().__init__()
        if isinstance(class_weights, str) and class_weights != BALANCED:
            raise UserError(
                f"objective.class_weights={class_weights} must be {BALANCED}, a list of one number "
                "for each class, or null"
            )
        self.reduction, self.class_weights = reduction, class_weights
        self.ignore_index, self.auxiliary = ignore_index, auxiliary
        self.register_buffer("weights", torch.ones(0))

    def setup(self, model: nn.Module, pool: Pool, data: Data) -> None:
        """Finds the class weights, and says what selecting pixels does not save."""
        labels = data.train.labels
        self.weights = self._weights(labels, data.num_classes).to(labels.device)
        log.info(
            "the pixels of an image share one graph: the backward pass is full, and selecting "
            "pixels saves no operations"
        )

    def _weights(self, labels: Tensor, classes: int) -> Tensor:
        if self.class_weights is None:
            return torch.ones(classes)
        if isinstance(self.class_weights, str):
            counts = torch.bincount(labels[labels != self.ignore_index].long(), minlength=classes)
            return counts.sum() / (classes * counts.clamp(min=1)).float()
        if len(self.class_weights) != classes:
            raise UserError(
                f"objective.class_weights has {len(self.class_weights)} numbers for {classes} "
                "classes"
            )
        return torch.tensor(self.class_weights, dtype=torch.float)

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """``[n, H, W]`` losses in nats of logits ``[n, classes, H, W]``; 0 without a label."""
        weights = self.weights if len(self.weights) else None
        return functional.cross_entropy(
            outputs.float(), labels, weights, ignore_index=self.ignore_index, reduction="none"
        )

    def vectors(self, outputs: Tensor | Sequence[Tensor]) -> Tensor:
        """``[n, classes]``: the mean over an image's pixels."""
        return _main(outputs).flatten(2).mean(2)

    def reduce(self, losses: Tensor, weights: Tensor, labels: Tensor) -> Tensor:
        """The loss of the selected pixels, 0 where none is selected: all ``[n, H, W]``."""
        total = (losses * weights).sum()
        if self.reduction == "sum":
            return total
        if self.reduction == "sum_over_n":
            return total / (labels != self.ignore_index).sum().clamp(min=1)
        counted = (self._of_class(labels) * weights).sum()
        # Not clamped to 1: class weights below 1 can sum to less.
        return total / torch.where(counted > 0, counted, 1.0)

    def _of_class(self, labels: Tensor) -> Tensor:
        """The class weight of each pixel, 0 without a label."""
        valid = labels != self.ignore_index
        if not len(self.weights):
            return valid.float()
        return self.weights[labels.where(valid, 0)] * valid

    def forward(self, model: nn.Module, batch: Batch, miner: Miner, step: int) -> Outcome:
        outputs, labels = model(batch.inputs), batch.labels.long()
        main = _checked(_main(outputs), labels)
        losses = self.losses(main, labels)
        scores, valid = losses.detach(), labels != self.ignore_index
        with torch.no_grad():
            places = labels.where(valid, 0)[:, None]
            probability = main.float().softmax(1).gather(1, places).squeeze(1)
            prediction = main.argmax(1)
        weights = valid.to(scores.dtype)
        if miner.active(step):
            selected = miner.select(
                scores,
                step=step,
                rows=batch.rows,
                labels=labels,
                valid=valid,
                probability=probability,
            )
            assert isinstance(selected, Tensor), "a miner of pixels returns one tensor of weights"
            weights = selected * valid
        loss = self.reduce(losses, weights, labels)
        for further in () if isinstance(outputs, Tensor) else outputs[1:]:
            plain = functional.cross_entropy(
                further.float(), labels, ignore_index=self.ignore_index, reduction="sum"
            )
            loss = loss + self.auxiliary * plain / valid.sum().clamp(min=1)
        right = ((prediction == labels) & valid).sum() / valid.sum().clamp(min=1)
        metrics = {"train/pixel_accuracy": right.double()}
        return Outcome(
            loss, scores, weights, metrics, details={"prediction": prediction}, valid=valid
        )

    def mined(self, batch: Batch, outcome: Outcome, most: int) -> Mined | None:
        """The ``most`` images of highest mean loss, with their predictions and selected pixels."""
        assert isinstance(outcome.weights, Tensor)
        assert outcome.valid is not None
        return hardest_images(
            batch,
            outcome.scores,
            outcome.weights,
            outcome.valid,
            outcome.details["prediction"],
            most,
        )

    def evaluate(self, model: nn.Module, split: Split, chunk: int = CHUNK) -> dict[str, float]:
        """``loss``, ``mean_iou``, ``pixel_accuracy``, and ``iou/<class>`` of up to 20 classes.

        Pixels without a label are not counted. The mean is over the classes that occur in labels or
        predictions, the background among them.
        """
        found: Confusion | None = None
        loss = torch.zeros((), dtype=torch.float64, device=split.device)
        counted = torch.zeros((), dtype=torch.float64, device=split.device)
        for rows in torch.arange(len(split), device=split.device).split(chunk):
            batch = split.fetch(rows)
            labels = batch.labels.long()
            outputs = _main(model(batch.inputs))
            loss += self.losses(outputs, labels).double().sum()
            counted += self._of_class(labels).double().sum()
            found = found or Confusion(outputs.shape[1], self.ignore_index, split.device)
            found.add(outputs.argmax(1), labels)
        measures = found.measures() if found else {}
        return {"loss": (loss / counted.clamp(min=1e-12)).item(), **measures}


class PixelFocal(PixelCrossEntropy):
    """``-(1 - p)^gamma log p``, p being the probability of the true class (arXiv 1708.02002).

    Args:
        gamma: At 0 it is the cross-entropy.
        **settings: See :class:`PixelCrossEntropy`; class weights are the paper's alpha.
    """

    def __init__(self, gamma: float = 2.0, **settings: Any) -> None:
        super().__init__(**settings)
        self.gamma = gamma

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """``[n, H, W]`` losses of logits ``[n, classes, H, W]``; 0 without a label."""
        entropy = functional.cross_entropy(
            outputs.float(), labels, ignore_index=self.ignore_index, reduction="none"
        )
        # -expm1 keeps the digits of 1 - p where p is nearly 1.
        return self._of_class(labels) * (-torch.expm1(-entropy)) ** self.gamma * entropy


def _main(outputs: Tensor | Sequence[Tensor]) -> Tensor:
    return outputs if isinstance(outputs, Tensor) else outputs[0]


def _checked(outputs: Tensor, labels: Tensor) -> Tensor:
    if outputs.dim() != 4 or outputs.shape[-2:] != labels.shape[-2:]:
        raise UserError(
            f"the model gives {list(outputs.shape)} for masks of {list(labels.shape)}: a model of "
            "pixels gives [n, classes, height, width], such as model=unet"
        )
    return outputs
