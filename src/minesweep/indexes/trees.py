"""Nearest points of another class in three dimensions or fewer, by k-d trees over the classes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

from minesweep.indexes.direct import squared
from minesweep.indexes.grouped import Found

MOST_DIMENSIONS = 3
_PER_LEVEL = 4000
"""Points for each halving of the classes, from which the trees are faster than products."""


class ClassTrees:
    """One k-d tree for each node of a binary tree over the classes.

    Everything but one class is the union of at most log2(C) nodes: the siblings of the nodes on
    the way to it. So a row asks log2(C) trees, and no tree that holds a point of its own class.

    Args:
        points: ``[n, d]`` on the CPU.
        starts: Where each class begins, and n.
    """

    def __init__(self, points: Tensor, starts: list[int]) -> None:
        self.points, self.starts = points, starts
        self._tree = cache(self._grow)

    @staticmethod
    def pay(points: Tensor, classes: int) -> bool:
        """Whether trees are faster than matrix products."""
        few = points.shape[1] <= MOST_DIMENSIONS and points.device.type == "cpu"
        return few and len(points) >= _PER_LEVEL * max(1, (classes - 1).bit_length())

    def search(self, places: Tensor, k: int) -> Found:
        """The k nearest points of another class; ``places [q]`` ascend."""
        classes = len(self.starts) - 1
        depth = max(1, (classes - 1).bit_length())
        far = torch.full((len(places), depth, k + 1), torch.inf, dtype=torch.float64)
        at = torch.zeros(far.shape, dtype=torch.int64)
        queries = self.points[places].double().numpy()
        edges = torch.searchsorted(places, torch.tensor(self.starts)).tolist()
        for level, (low, high), (first, stop) in self._siblings(0, classes):
            rows = slice(edges[first], edges[stop])
            if edges[first] < edges[stop]:
                some, where = self._tree(low, high).query(queries[rows], k=k + 1)
                far[rows, level] = torch.from_numpy(some)
                at[rows, level] = torch.from_numpy(where) + self.starts[low]
        best, kept = far.flatten(1).topk(k + 1, 1, largest=False)
        none = best[:, :k].isinf()
        found = at.flatten(1).gather(1, kept)[:, :k].masked_fill_(none, 0)
        distances = squared(self.points, places, found).masked_fill_(none, torch.inf)
        # float32 differences are off by less than this: nearer than that is a tie.
        proved = best[:, k].isinf() | (best[:, k - 1] < best[:, k] * (1 - 1e-6))
        return Found(distances, found.masked_fill_(none, -1), proved)

    def _siblings(
        self, low: int, high: int, level: int = 0
    ) -> Iterator[tuple[int, tuple[int, int], tuple[int, int]]]:
        """Every two neighbouring nodes, both ways: their level, whom to ask, and who asks."""
        if high - low < 2:
            return
        middle = (low + high) // 2
        left, right = (low, middle), (middle, high)
        yield level, left, right
        yield level, right, left
        yield from self._siblings(*left, level + 1)
        yield from self._siblings(*right, level + 1)

    def _grow(self, low: int, high: int) -> Any:
        from scipy.spatial import cKDTree

        part = self.points[self.starts[low] : self.starts[high]].double().numpy()
        return cKDTree(part, balanced_tree=False, compact_nodes=False)
