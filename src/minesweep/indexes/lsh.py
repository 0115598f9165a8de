"""Locality-sensitive hashing by random hyperplanes, with a shortlist ranked by true distances."""

from __future__ import annotations

import torch
from torch import Tensor

from minesweep.errors import UserError
from minesweep.indexes.base import Index
from minesweep.indexes.faiss import import_faiss
from minesweep.seeding import generator

_COUNTED = 128
"""Bits up to which FAISS' search that sorts by counting is the faster one (measured)."""


class Lsh(Index):
    """Each bit of a point's code says on which side of a random hyperplane it lies.

    Two points at the angle t, seen from the mean of all, differ in a bit with probability t / pi
    (Charikar, STOC 2002, section 3). Negatives are the points of other classes with the fewest
    different bits. Positives are those of the own class with the most. Both are ranked by true
    distances. Hyperplanes are orthogonal in blocks of the dimension (Ji et al., "Super-Bit
    Locality-Sensitive Hashing", NIPS 2012): the same expectation with less variance.

    Codes are compared one with all, by FAISS. Buckets in several tables with several probes were
    measured and left out. At 50,000 points of 64 dimensions in 100 classes, 16 tables of 14 bits
    had to rank a third of all points. Their recall@32 was 0.86, and the ranking alone took seven
    times as long as exact search.

    Args:
        n_bits: Bits of a code, a multiple of 8.
        shortlist: Times k points are ranked by true distances.
        seed: Draws the hyperplanes.
        memory: As in :class:`~minesweep.indexes.base.Index`; the codes come on top.
    """

    def __init__(
        self, n_bits: int = 256, shortlist: int = 8, seed: int = 0, memory: int = 64
    ) -> None:
        super().__init__(memory)
        if n_bits < 8 or n_bits % 8:
            raise UserError(f"n_bits={n_bits} must be a multiple of 8, such as {_whole(n_bits)}")
        if shortlist < 1:
            raise UserError(f"shortlist={shortlist} must be at least 1")
        self.n_bits, self.shortlist, self.seed = n_bits, shortlist, seed

    def _build(self) -> None:
        faiss = import_faiss()
        faiss.omp_set_num_threads(torch.get_num_threads())
        planes = hyperplanes(self.n_bits, self._points.shape[1], self.seed).to(self._points.device)
        centre = self._points.mean(0)
        rows = max(1, self.memory * 2**18 // (3 * self.n_bits))
        parts = [codes(part - centre, planes).cpu() for part in self._points.split(rows)]
        self._codes = torch.cat(parts)

    def _negatives(self, places: Tensor, k: int) -> tuple[Tensor, Tensor]:
        n, want = len(self._points), k * self.shortlist
        few = self._sizes[places] <= want
        found = torch.full((len(places), min(n, want)), -1)
        rows = few.nonzero()[:, 0]
        if len(rows):
            # Small classes: so many more are taken that enough are left without the own class.
            taken = min(n, want + int(self._sizes[places[rows]].max()))
            found[rows.cpu()] = self._others(places[rows], taken, found.shape[1])
        for which, rows in self._by_class(places, ~few):
            low, high = self._starts[which], self._starts[which + 1]
            asked = self._codes[places[rows].cpu()]
            sides = [self._nearest(asked, slice(0, low), want)]
            sides += [self._nearest(asked, slice(high, n), want)]
            differing, at = (torch.cat(part, 1) for part in zip(*sides, strict=True))
            order = differing.sort(dim=1, stable=True).indices[:, : found.shape[1]]
            found[rows.cpu(), : order.shape[1]] = at.gather(1, order)
        return self._ranked(places, found)

    def _positives(self, places: Tensor, k: int) -> tuple[Tensor, Tensor]:
        want = k * self.shortlist
        large = self._sizes[places] > want + 1
        if not large.any():
            return super()._positives(places, k)
        found = torch.full((len(places), want + 1), -1)
        for which, rows in self._by_class(places, torch.ones_like(large)):
            own = slice(self._starts[which], self._starts[which + 1])
            # The most different from a code are the least different from its opposite.
            _, at = self._nearest(~self._codes[places[rows].cpu()], own, want + 1)
            found[rows.cpu(), : at.shape[1]] = at
        itself = found == places.cpu()[:, None]
        order = itself.int().sort(dim=1, stable=True).indices[:, :want]
        distances, found = self._ranked(places, found.masked_fill(itself, -1).gather(1, order))
        return distances.masked_fill_(found < 0, -torch.inf), found

    def _by_class(self, places: Tensor, wanted: Tensor) -> list[tuple[int, Tensor]]:
        """The wanted rows of each class."""
        rows = wanted.nonzero()[:, 0]
        which, counts = self._classes[places[rows]].unique_consecutive(return_counts=True)
        return list(zip(which.tolist(), rows.split(counts.tolist()), strict=True))

    def _others(self, places: Tensor, taken: int, want: int) -> Tensor:
        """Of the ``taken`` points with the nearest codes, the first ``want`` of other classes."""
        _, at = self._nearest(self._codes[places.cpu()], slice(0, len(self._codes)), taken)
        classes = self._classes.cpu()
        own = classes[at] == classes[places.cpu(), None]
        order = own.int().sort(dim=1, stable=True).indices[:, :want]
        return at.masked_fill(own, -1).gather(1, order)

    def _nearest(self, asked: Tensor, part: slice, count: int) -> tuple[Tensor, Tensor]:
        """Differing bits and places ``[q, at most count]`` of the nearest codes in a part."""
        count = min(count, part.stop - part.start)
        if not count:
            return torch.empty(len(asked), 0, dtype=torch.int32), torch.empty(
                len(asked), 0, dtype=torch.int64
            )
        counting = self.n_bits <= _COUNTED
        row = 8 * count * (self.n_bits + 1) if counting else 16 * count  # bytes
        rows = max(1, self.memory * 2**20 // row)
        parts = [
            import_faiss().knn_hamming(
                asked[start : start + rows].numpy(),
                self._codes[part].numpy(),
                count,
                variant="mc" if counting else "hc",
            )
            for start in range(0, len(asked), rows)
        ]
        differing, at = (
            torch.cat([torch.from_numpy(some) for some in both])
            for both in zip(*parts, strict=True)
        )
        return differing, at + part.start

    def _ranked(self, places: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
        found = found.to(places.device)
        self.candidates = float((found >= 0).sum(1).double().mean())
        return self._distances(places, found), found


def hyperplanes(n_bits: int, dim: int, seed: int) -> Tensor:
    """Normals ``[n_bits, dim]``, each uniform on the sphere, orthogonal in blocks of ``dim``."""
    draws = generator(seed, "hyperplanes")
    blocks = [
        torch.linalg.qr(torch.randn(dim, dim, generator=draws, dtype=torch.double)).Q.T
        for _ in range(-(-n_bits // dim))
    ]
    return torch.cat(blocks)[:n_bits].float()


def codes(points: Tensor, planes: Tensor) -> Tensor:
    """``[n, n_bits / 8]`` bytes: on which side of each plane through the origin a point lies."""
    powers = 2 ** torch.arange(8, dtype=torch.uint8, device=points.device)
    sides = (points @ planes.T > 0).view(len(points), -1, 8)
    return (sides * powers).sum(2, dtype=torch.uint8)


def _whole(bits: int) -> int:
    return max(8, round(bits / 8) * 8)
