"""Exact search: the fastest way that is sure, and differences where none is."""

from __future__ import annotations

from torch import Tensor

from minesweep.indexes.direct import direct
from minesweep.indexes.grouped import Grouped
from minesweep.indexes.trees import ClassTrees


class ExactSearch:
    """The k nearest points of another class, or the k furthest of the same, none missed.

    Blocked matrix products with the own class masked inside the search (:mod:`.grouped`); nearest
    points in three dimensions or fewer, where they are many, by k-d trees (:mod:`.trees`). A row
    whose answer these cannot prove is searched once more by differences (:mod:`.direct`): too many
    points are equally far, to rounding.

    Args:
        points: ``[n, d]``, class by class.
        classes: ``[n]``, ascending.
        starts: Where each class begins, and n.
        ranks: ``[n]``: of points that are equally far, those of the lowest ranks are taken.
        memory: MiB of working space.
    """

    def __init__(
        self, points: Tensor, classes: Tensor, starts: list[int], ranks: Tensor, memory: int
    ) -> None:
        self.grouped = Grouped(points, classes, starts, memory)
        self.points = self.grouped.points[: len(points)]
        self.classes, self.ranks, self.memory = classes, ranks, memory
        self.trees = ClassTrees(self.points, starts)
        self.trees_pay = ClassTrees.pay(points, len(starts) - 1)

    def __call__(self, places: Tensor, k: int, nearest: bool) -> tuple[Tensor, Tensor]:
        """Squared distances and places ``[q, k]``; -1: none. ``places [q]`` ascend."""
        if nearest and self.trees_pay:
            distances, found, proved = self.trees.search(places, k)
        elif self.grouped.pays(k):
            distances, found, proved = self.grouped.search(places, k, nearest)
        else:
            return self._directly(places, k, nearest)
        left = (~proved).nonzero()[:, 0]
        if len(left):
            distances[left], found[left] = self._directly(places[left], k, nearest)
        return distances, found

    def _directly(self, places: Tensor, k: int, nearest: bool) -> tuple[Tensor, Tensor]:
        return direct(self.points, self.classes, self.ranks, places, k, nearest, self.memory)
