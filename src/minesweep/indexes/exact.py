"""Exact search by blocked matrix products, the own class masked inside the search."""

from __future__ import annotations

import torch
from torch import Tensor

from minesweep.indexes.base import Index


class Exact(Index):
    """Nearest negatives and furthest positives, none missed."""

    def _build(self) -> None:
        self._norms = self._points.square().sum(1)

    def _negatives(self, places: Tensor, k: int) -> tuple[Tensor, Tensor]:
        return self._search(places, k, nearest=True)

    def _positives(self, places: Tensor, k: int) -> tuple[Tensor, Tensor]:
        return self._search(places, k, nearest=False)

    def _search(self, places: Tensor, k: int, nearest: bool) -> tuple[Tensor, Tensor]:
        k = min(k, len(self._points))
        none = torch.inf if nearest else -torch.inf
        self.candidates = float(len(self._points))
        parts = []
        for block in places.split(max(1, self.memory * 2**18 // len(self._points) // 4)):
            dots = self._points[block] @ self._points.T
            far = (self._norms[block, None] + self._norms - 2 * dots).clamp_(min=0)
            same = self._classes[block, None] == self._classes
            far.masked_fill_(same if nearest else ~same, none)
            if not nearest:
                far.scatter_(1, block[:, None], none)
            values, at = far.topk(k, largest=not nearest)
            parts.append((values, at.masked_fill(values == none, -1)))
        values, at = (torch.cat(part) for part in zip(*parts, strict=True))
        return values, at
