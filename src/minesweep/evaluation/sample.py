"""Some rows of a split, drawn so that each class keeps its share."""

from __future__ import annotations

import torch
from torch import Tensor

from minesweep.seeding import generator

FEW = 20
"""Classes of which fewer rows than this would be drawn are drawn together."""


def draw_rows(labels: Tensor, count: int, seed: int, purpose: str) -> Tensor:
    """Draws rows without replacement; every row has the same chance.

    A class of N_c of the N rows gets ``count * N_c / N`` of the rows drawn, rounded up or down.
    Classes that would get fewer than :data:`FEW` are drawn as one class. Otherwise no class would
    get a second row, and there would be no pairs within a class.

    Args:
        labels: ``[N]`` integers.
        count: How many rows; all N where there are no more.
        seed: Of the run.
        purpose: Names the draw, see :mod:`minesweep.seeding`.

    Returns:
        ``[min(count, N)]`` rows in ascending order, on the device of ``labels``.
    """
    size = len(labels)
    if count >= size:
        return torch.arange(size, device=labels.device)
    draws = generator(seed, purpose)
    order = torch.randperm(size, generator=draws)
    _, classes, sizes = labels.cpu().unique(return_inverse=True, return_counts=True)
    classes[(sizes * count < FEW * size)[classes]] = -1
    order = order[classes[order].argsort(stable=True)]
    # Evenly spaced places in an order that has each class in one piece.
    start = torch.rand((), generator=draws, dtype=torch.double)
    places = ((torch.arange(count) + start) * size / count).long()
    return order[places].sort().values.to(labels.device)
