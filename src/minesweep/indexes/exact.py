"""Exact search: nothing is missed, and ties go to the lower row."""

from __future__ import annotations

from torch import Tensor

from minesweep.indexes.base import Index


class Exact(Index):
    """Nearest negatives and furthest positives, none missed, on the CPU or on a CUDA device."""

    def _build(self) -> None:
        pass

    def _negatives(self, places: Tensor, k: int) -> tuple[Tensor, Tensor]:
        self.candidates = float((len(self._points) - self._sizes[places]).double().mean())
        return self._exact(places, k, nearest=True)
