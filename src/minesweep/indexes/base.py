"""What every index answers: which rows are hard to tell from a row, and which of its class lie far.

An index knows nothing of Hydra, of training or of miners: it takes embeddings and labels, and
answers about rows of those embeddings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from minesweep.errors import UserError
from minesweep.indexes.direct import squared
from minesweep.indexes.search import ExactSearch


class Neighbours(NamedTuple):
    """The k neighbours of each of q rows, best first."""

    distances: Tensor
    """Squared Euclidean distances ``[q, k]``; inf (negatives) or -inf (positives): no such row."""

    rows: Tensor
    """Rows of the embeddings ``[q, k]``, int64; -1: no such row."""


class Index(ABC):
    """Nearest rows of another class and furthest rows of the same class.

    For cosine distance, normalise the embeddings before :meth:`build`: on the unit sphere the
    squared Euclidean distance is 2 - 2 cos. Where two rows are equally far, the lower row comes
    first. The same embeddings, labels and settings always give the same answer.

    Inside, points lie sorted by class, so that a class is a slice. A *place* is a point's position
    in that order.

    Args:
        memory: MiB of working space for a search, beside the points and the answer.
    """

    def __init__(self, memory: int = 64) -> None:
        if memory < 1:
            raise UserError(f"memory={memory} MiB is too small for a search; take at least 1")
        self.memory = memory
        self.candidates = 0.0
        """Points whose distance to a row was worked out, per row, in the last search."""

    def check(self, dim: int) -> None:  # noqa: B027
        """Raises a UserError where embeddings of ``dim`` numbers cannot be searched."""

    def build(self, embeddings: Tensor, labels: Tensor) -> None:
        """Takes the points to search in; those taken before are forgotten.

        Args:
            embeddings: ``[N, d]`` of any floating type; searched in float32, on their device.
            labels: ``[N]`` whole numbers.

        Raises:
            UserError: An embedding is NaN, infinite or too large, or the shapes do not fit.
        """
        points = embeddings.detach().float()
        if points.ndim != 2 or labels.shape != points.shape[:1]:
            raise UserError(
                f"an index takes embeddings [N, d] and labels [N], not {list(points.shape)} and "
                f"{list(labels.shape)}"
            )
        # A squared distance is at most four times the longest squared norm.
        broken = ~(4 * torch.linalg.vector_norm(points, dim=1).square()).isfinite()
        if broken.any():
            raise UserError(
                f"{int(broken.sum())} of {len(points)} embeddings are NaN or infinite, or too "
                f"large to square (the first is row {int(broken.nonzero()[0])}): nothing can be "
                "mined from them"
            )
        ordered, self._rows = labels.to(points.device).sort(stable=True)
        self._places = torch.empty_like(self._rows)
        self._places[self._rows] = torch.arange(len(points), device=points.device)
        _, sizes = ordered.unique_consecutive(return_counts=True)
        self._starts = [0, *sizes.cumsum(0).tolist()]
        self._classes = torch.arange(len(sizes), device=points.device).repeat_interleave(sizes)
        self._sizes = sizes[self._classes]
        self._exact = ExactSearch(
            points[self._rows], self._classes, self._starts, self._rows, self.memory
        )
        self._points = self._exact.points
        self._build()

    def negatives(self, rows: Tensor, k: int) -> Neighbours:
        """The k nearest rows of another class, nearest first.

        Args:
            rows: ``[q]`` rows of the embeddings.
            k: How many; where there are fewer, the rest is -1 at distance inf.
        """
        return self._answer(rows, k, nearest=True)

    def positives(self, rows: Tensor, k: int) -> Neighbours:
        """The k furthest rows of the same class, furthest first, never the row itself.

        Args:
            rows: ``[q]`` rows of the embeddings.
            k: How many; where there are fewer, the rest is -1 at distance -inf.
        """
        return self._answer(rows, k, nearest=False)

    def _answer(self, rows: Tensor, k: int, nearest: bool) -> Neighbours:
        if k < 1:
            raise UserError(f"k={k} neighbours cannot be searched for; take at least 1")
        places, order = self._places[rows.to(self._places.device)].sort()
        distances = self._points.new_full((len(places), k), torch.inf if nearest else -torch.inf)
        found = self._rows.new_full((len(places), k), -1)
        if len(places):
            search = self._negatives if nearest else self._positives
            some, at = search(places, min(k, len(self._points)))
            some, at = in_order(some, torch.where(at < 0, -1, self._rows[at]), nearest)
            width = min(k, at.shape[1])
            distances[order, :width], found[order, :width] = some[:, :width], at[:, :width]
        return Neighbours(distances, found)

    @abstractmethod
    def _build(self) -> None:
        """Prepares for searches in ``_points``."""

    @abstractmethod
    def _negatives(self, places: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Squared distances and places ``[q, any]``, the k best among them; place -1: none.

        ``places`` ascend, so they come class by class; ``k`` is at most N.
        """

    def _positives(self, places: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The same, of the furthest points of the own class: exact where an index has no other.

        The own class is a small part of the points, so this costs little beside the negatives.
        """
        self.candidates = float((self._sizes[places] - 1).double().mean())
        return self._exact(places, k, nearest=False)

    def _distances(self, places: Tensor, found: Tensor) -> Tensor:
        """True squared distances ``[q, m]`` to what was found; inf where that is -1."""
        row = found.shape[1] * self._points.shape[1]
        many = max(1, self.memory * 2**18 // 4 // max(1, row))
        parts = [
            squared(self._points, some, at.clamp(min=0))
            for some, at in zip(places.split(many), found.split(many), strict=True)
        ]
        return torch.cat(parts).masked_fill_(found < 0, torch.inf)


def in_order(distances: Tensor, rows: Tensor, nearest: bool) -> tuple[Tensor, Tensor]:
    """Neighbours by distance, and by row where distances are equal."""
    rows, order = rows.sort(1)
    distances, last = distances.gather(1, order).sort(stable=True, dim=1, descending=not nearest)
    return distances, rows.gather(1, last)
