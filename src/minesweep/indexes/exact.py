"""Exact search: nothing is missed, and ties go to the lower row."""

from __future__ import annotations

import torch
from torch import Tensor

from minesweep.indexes.base import Index
from minesweep.indexes.direct import direct
from minesweep.indexes.grouped import Grouped
from minesweep.indexes.trees import ClassTrees


class Exact(Index):
    """Nearest negatives and furthest positives, none missed, on the CPU or on a CUDA device.

    Blocked matrix products with the own class masked inside the search (:mod:`.grouped`); nearest
    negatives of many points in three dimensions or fewer by k-d trees (:mod:`.trees`). A row whose
    answer they cannot prove (more points are equally far, to rounding, than there is room for) is
    searched once more by differences (:mod:`.direct`).
    """

    def _build(self) -> None:
        self._grouped = Grouped(self._points, self._classes, self._starts, self.memory)
        self._points = self._grouped.points[: len(self._points)]
        self._trees = ClassTrees(self._points, self._starts)
        self._use_trees = ClassTrees.pay(self._points, len(self._starts) - 1)

    def _negatives(self, places: Tensor, k: int) -> tuple[Tensor, Tensor]:
        return self._search(places, k, nearest=True)

    def _positives(self, places: Tensor, k: int) -> tuple[Tensor, Tensor]:
        return self._search(places, k, nearest=False)

    def _search(self, places: Tensor, k: int, nearest: bool) -> tuple[Tensor, Tensor]:
        sizes = torch.tensor(self._starts, device=places.device).diff()[self._classes[places]]
        self.candidates = float(
            (len(self._points) - sizes if nearest else sizes - 1).double().mean()
        )
        if nearest and self._use_trees:
            distances, found, proved = self._trees.search(places, k)
        elif self._grouped.pays(k):
            distances, found, proved = self._grouped.search(places, k, nearest)
        else:
            return self._directly(places, k, nearest)
        left = (~proved).nonzero()[:, 0]
        if len(left):
            distances[left], found[left] = self._directly(places[left], k, nearest)
        return distances, found

    def _directly(self, places: Tensor, k: int, nearest: bool) -> tuple[Tensor, Tensor]:
        return direct(self._points, self._classes, self._rows, places, k, nearest, self.memory)
