"""The queue of keys that momentum contrast compares its queries with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from minesweep.seeding import generator

NOBODY = -1
"""Row and label of a place that no image was written to yet."""


class KeyQueue(nn.Module):
    """The last K keys, with the row and the label of the image that each comes from.

    Places not yet written hold random unit vectors, as in MoCo's published code. So there are K
    negatives from the first step on. No random one is of any image or class. Everything is a
    buffer, so that a resumed run finds its queue as it was.

    Args:
        size: K; it need be no multiple of the batch.
        dim: Of the keys.
        seed: Of the run.

    Attributes:
        features: ``[K, dim]`` unit vectors.
        rows: ``[K]`` rows of the training split, :data:`NOBODY` where not yet written.
        labels: ``[K]`` class indices, likewise.
        pointer: Where the next key goes.
        filled: How many places were written.
    """

    features: Tensor
    rows: Tensor
    labels: Tensor
    pointer: Tensor
    filled: Tensor

    def __init__(self, size: int, dim: int, seed: int) -> None:
        super().__init__()
        random = torch.randn(size, dim, generator=generator(seed, "queue"))
        self.register_buffer("features", functional.normalize(random, dim=1))
        self.register_buffer("rows", torch.full((size,), NOBODY))
        self.register_buffer("labels", torch.full((size,), NOBODY))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    def __len__(self) -> int:
        return len(self.rows)

    @torch.no_grad()
    def push(self, keys: Tensor, rows: Tensor, labels: Tensor) -> None:
        """Writes ``[n, dim]`` keys over the oldest; of more than K, the last K stay."""
        count = len(keys)
        places = (self.pointer + torch.arange(count, device=rows.device)) % len(self)
        places, keys, rows, labels = (part[-len(self) :] for part in (places, keys, rows, labels))
        self.features[places] = keys.to(self.features.dtype)
        self.rows[places] = rows
        self.labels[places] = labels
        self.pointer.add_(count).remainder_(len(self))
        self.filled.add_(count).clamp_(max=len(self))
