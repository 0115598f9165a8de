"""Nearest negatives in the nearest classes only."""

from __future__ import annotations

import torch
from torch import Tensor

from minesweep.errors import UserError
from minesweep.indexes.base import Index


class ClassLists(Index):
    """An inverted file whose lists are the classes: the own list is skipped, the nearest probed.

    The centre of a list is the mean of its class, so that there is nothing to train. Good where
    the classes are clusters; where they overlap, the nearest negatives lie in many classes, and
    recall falls. Where a quarter of the classes or more would be probed, exact search is no
    slower, and is done instead. Furthest positives are exact.

    Args:
        n_probes: Classes to look into: those whose means are nearest to the row. More, where so
            few classes could hold fewer than k points.
        memory: As in :class:`~minesweep.indexes.base.Index`.
    """

    def __init__(self, n_probes: int = 8, memory: int = 64) -> None:
        super().__init__(memory)
        if n_probes < 1:
            raise UserError(f"n_probes={n_probes} must be at least 1")
        self.n_probes = n_probes

    def _build(self) -> None:
        counts = torch.tensor(self._starts, device=self._points.device).diff()
        sums = self._points.new_zeros(len(counts), self._points.shape[1], dtype=torch.double)
        sums.index_add_(0, self._classes, self._exact.grouped.centred[: len(self._points)].double())
        self._means = (sums / counts[:, None]).float()
        self._counts = counts

    def _negatives(self, places: Tensor, k: int) -> tuple[Tensor, Tensor]:
        smallest = self._counts.sort().values.cumsum(0)
        probes = max(self.n_probes, 1 + int((smallest < k).sum()))
        if 4 * probes >= len(self._counts):
            self.candidates = float((len(self._points) - self._sizes[places]).double().mean())
            return self._exact(places, k, nearest=True)
        cells = self.memory * 2**18
        many = max(1, min(cells // (8 * probes * k), cells // (4 * len(self._counts))))
        looked, parts = 0, []
        for block in places.split(many):
            classes = self._nearest_classes(block, probes)
            looked += int(self._counts[classes].sum())
            parts.append(self._probe(block, classes, k))
        self.candidates = looked / len(places)
        distances, found = (torch.cat(part) for part in zip(*parts, strict=True))
        return distances, found

    def _nearest_classes(self, places: Tensor, probes: int) -> Tensor:
        """``[q, probes]`` classes by the distance of their means, without the own one."""
        far = self._means.square().sum(1) - 2 * self._exact.grouped.centred[places] @ self._means.T
        far.scatter_(1, self._classes[places, None], torch.inf)
        return far.topk(probes, 1, largest=False, sorted=False).indices

    def _probe(self, places: Tensor, classes: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k nearest points of the given classes ``[q, probes]``."""
        q, probes = classes.shape
        values = self._points.new_full((q * probes, k), torch.inf)
        found = torch.full((q * probes, k), -1, device=places.device)
        which, order = classes.flatten().sort(stable=True)
        lists, counts = which.unique_consecutive(return_counts=True)
        for list_, at in zip(lists.tolist(), order.split(counts.tolist()), strict=True):
            some, where = self._in_list(places[at // probes], list_, k)
            values[at, : some.shape[1]], found[at, : some.shape[1]] = some, where
        best = values.view(q, -1).topk(k, 1, largest=False, sorted=False).indices
        found = found.view(q, -1).gather(1, best)
        return self._distances(places, found), found

    def _in_list(self, places: Tensor, which: int, k: int) -> tuple[Tensor, Tensor]:
        """Squared distances and places ``[q, at most k]`` of the nearest points of a class."""
        low, high = self._starts[which], self._starts[which + 1]
        grouped = self._exact.grouped
        if grouped.pays(k, high - low):
            found = grouped.within(places, which, k)
            return found.distances, found.places
        rows = slice(low, high)
        products = grouped.centred[places] @ grouped.centred[rows].T
        far = (grouped.norms[rows] - 2 * products).add_(grouped.norms[places, None])
        best, at = far.topk(min(k, high - low), 1, largest=False, sorted=False)
        return best, at + low
