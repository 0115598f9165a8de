"""How well a model labels pixels: intersection over union and accuracy, of counted pixels."""

from __future__ import annotations

import torch
from torch import Tensor

MOST_CLASSES = 20
"""Up to so many classes each has a metric of its own."""


class Confusion:
    """Counts of pixels by true and predicted class, added batch by batch.

    Args:
        classes: How many there are.
        ignore_index: Label of pixels that are not counted.
        device: Where the counts lie.
    """

    def __init__(self, classes: int, ignore_index: int, device: torch.device | str = "cpu") -> None:
        self.ignore_index = ignore_index
        self.counts = torch.zeros(classes, classes, dtype=torch.long, device=device)
        """``[true, predicted]``."""

    def add(self, predicted: Tensor, labels: Tensor) -> None:
        """Counts class indices of one shape."""
        valid, classes = labels != self.ignore_index, len(self.counts)
        pairs = labels[valid].long() * classes + predicted[valid]
        self.counts += torch.bincount(pairs, minlength=classes**2).view(classes, classes)

    def iou(self) -> Tensor:
        """``[classes]`` intersection over union; NaN for a class that is nowhere."""
        right = self.counts.diagonal().double()
        return right / (self.counts.sum(0) + self.counts.sum(1) - right)

    def measures(self) -> dict[str, float]:
        """``mean_iou``, ``pixel_accuracy``, and ``iou/<class>`` of the classes that occur."""
        iou = self.iou()
        total = self.counts.sum().double()
        found = {
            "mean_iou": iou.nanmean().item(),
            "pixel_accuracy": (self.counts.diagonal().sum() / total).item(),
        }
        if len(iou) <= MOST_CLASSES:
            found |= {f"iou/{k}": x for k, x in enumerate(iou.tolist()) if x == x}
        return found
