"""The groups of points that hold the k best, found by blocked matrix products and proved.

The k least of many numbers lie in the k groups of least minimum. So the distances are reduced to
one number a group while they are in the cache. Only the points of the few best groups are compared
one by one, by differences.

A product has rounding errors. So the groups hold no distances but bounds on them that the errors
cannot break. With x and y centred, u the unit round-off and d the dimension, these are

    |x - y|^2  >=  (1 - 2 A) (|x|^2 + |y|^2) - 2 x.y,    A = (2 d + 16) u,

since all errors together (centring, norms, product, sum and the distance itself) are at most
A (|x| + |y|)^2 (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1).
With 1 + 2 A and the signs turned it bounds from above, for the furthest points. Where the k-th
distance found is better than the bound of every group that was left out, nothing was missed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

GROUP = 8
"""Points in a group."""

SLACK = 4
"""Groups looked into beyond k: the bound on the rest must lie behind the k-th distance."""

_FOLD = 16
"""Minima in a group of groups."""


@contextmanager
def _full_precision() -> Iterator[None]:
    """The bound above is that of float32: no TF32 and no bfloat16 inside a product."""
    before = torch.get_float32_matmul_precision()
    if before == "highest":
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class Found(NamedTuple):
    distances: Tensor
    """``[q, k]`` squared Euclidean distances, best first; infinite: none."""
    places: Tensor
    """``[q, k]``; -1: none."""
    proved: Tensor
    """``[q]``: these rows miss nothing."""


class Grouped:
    """Points in groups, in their given order, which has each class in one piece.

    Args:
        points: ``[n, d]``.
        classes: ``[n]``, ascending.
        starts: Where each class begins, and n.
        memory: MiB of working space.
    """

    def __init__(self, points: Tensor, classes: Tensor, starts: list[int], memory: int) -> None:
        self.size, self.dim = points.shape
        self.starts, self.classes = starts, classes
        self.cells = memory * 2**18  # float32 numbers in the working space
        # Up to whole groups, by points of no class.
        missing = -self.size % GROUP
        if missing:
            points = pad(points, (0, 0, 0, missing))
        self.points = points
        self.members = pad(classes.int(), (0, missing), value=-1).view(-1, GROUP)
        self.centred = points - points[: self.size].mean(0)
        self.centred[self.size :] = 0
        self.norms = torch.linalg.vector_norm(self.centred, dim=1).square_()

    def pays(self, k: int, points: int | None = None) -> bool:
        """Whether the groups to look into are few among all, or among so many points."""
        return 2 * GROUP * (k + SLACK) <= (self.size if points is None else points)

    def search(self, places: Tensor, k: int, nearest: bool) -> Found:
        """The k nearest points of another class, or the k furthest of the same.

        Args:
            places: ``[q]``, ascending.
        """
        many = self._rows_at_once(k)
        parts = []
        for block in self._blocks(places, many, nearest):
            runs = self._runs(block)
            reach = (0, self.size) if nearest else (runs[0].low, runs[-1].high)
            look = _Look(block, self.classes[block], runs, *reach, nearest, inside=not nearest)
            parts.append(self._block(look, k))
        return Found(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def within(self, places: Tensor, which: int, k: int) -> Found:
        """The k nearest points of one class, to places of other classes."""
        low, high = self.starts[which], self.starts[which + 1]
        parts = []
        for block in places.split(self._rows_at_once(k)):
            runs = [_Run(low, high, 0, len(block))]
            wanted = torch.full_like(block, which)
            parts.append(self._block(_Look(block, wanted, runs, low, high, True, True), k))
        return Found(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def _rows_at_once(self, k: int) -> int:
        """So that the points looked at one by one take an eighth of the working space."""
        return max(1, min(512, self.cells // 2**13, self.cells // (8 * GROUP * (k + SLACK))))

    def _blocks(self, places: Tensor, many: int, nearest: bool) -> Iterator[Tensor]:
        """At most so many places; of neighbouring classes only, where the own class is searched."""
        if nearest:
            yield from places.split(many)
            return
        own, counts = self.classes[places].unique_consecutive(return_counts=True)
        pieces: list[Tensor] = []
        waiting = low = 0
        for which, piece in zip(own.tolist(), places.split(counts.tolist()), strict=True):
            reach = self.starts[which + 1] - low
            if pieces and (waiting + len(piece) > many or reach > 2 * many):
                yield from torch.cat(pieces).split(many)
                pieces, waiting = [], 0
            if not pieces:
                low = self.starts[which]
            pieces.append(piece)
            waiting += len(piece)
        yield from torch.cat(pieces).split(many)

    def _block(self, look: _Look, k: int) -> Found:
        scale = 1 + (-2 if look.nearest else 2) * (2 * self.dim + 16) * 2.0**-24
        with _full_precision():
            bounds, groups = self._groups(look, k + SLACK, scale)
        distances, found = self._points_in(look, groups, bounds.isinf(), k + 1)
        last, own = bounds.amax(1), scale * self.norms[look.places]
        kth, next_one = distances[:, k - 1], distances[:, k]
        behind = last.isinf() | (kth < last + own if look.nearest else kth > own - last)
        tied = (kth == next_one) & kth.isfinite()
        return Found(distances[:, :k], found[:, :k], behind & ~tied)

    def _runs(self, places: Tensor) -> list[_Run]:
        own, counts = self.classes[places].unique_consecutive(return_counts=True)
        ends = counts.cumsum(0).tolist()
        return [
            _Run(self.starts[which], self.starts[which + 1], begin, end)
            for which, begin, end in zip(own.tolist(), [0, *ends], ends, strict=False)
        ]

    def _groups(self, look: _Look, many: int, scale: float) -> tuple[Tensor, Tensor]:
        """The groups with the least bounds ``[q, many]``, without the rows' own norms."""
        factors = (self.centred[look.places] * (-2 if look.nearest else 2)).T.contiguous()
        offsets = self.norms * (scale if look.nearest else -scale)
        offsets[self.size :] = torch.inf
        q = len(look.places)
        cache = 2**19 if factors.device.type == "cpu" else 2**24
        step = max(GROUP, min(cache, self.cells // 4) // q // GROUP * GROUP)
        span = max(GROUP * _FOLD, self.cells // (2 * q) * GROUP // step * step)
        first, last = look.low // GROUP * GROUP, -(-look.high // GROUP) * GROUP
        wide = -(-min(span, last - first) // (GROUP * _FOLD)) * _FOLD
        products = factors.new_empty(min(step, last - first) * q)
        minima = factors.new_empty(wide, q)
        bounds = factors.new_full((q, many), torch.inf)
        groups = torch.zeros_like(bounds, dtype=torch.int64)
        for begin in range(first, last, span):
            minima.fill_(torch.inf)
            for start in range(begin, min(begin + span, last), step):
                stop = min(start + step, begin + span, last)
                if look.hidden(start, stop):
                    continue
                product = products[: (stop - start) * q].view(-1, q)
                torch.mm(self.centred[start:stop], factors, out=product)
                product += offsets[start:stop, None]
                _mask(product, look, start, stop)
                rows = slice((start - begin) // GROUP, (stop - begin) // GROUP)
                torch.amin(product.view(-1, GROUP, q), 1, out=minima[rows])
            some, at = _least(minima, many)
            bounds, kept = torch.cat([bounds, some], 1).topk(many, 1, largest=False, sorted=False)
            groups = torch.cat([groups, at + begin // GROUP], 1).gather(1, kept)
        return bounds, groups.clamp_(max=len(self.members) - 1)

    def _points_in(
        self, look: _Look, groups: Tensor, void: Tensor, k: int
    ) -> tuple[Tensor, Tensor]:
        """The k best points in the groups, best first, by distances from differences.

        Args:
            groups: ``[q, g]``, no group twice but those that are void.
            void: ``[q, g]``: here is no group.
        """
        distances = self._differences(look.places, groups)
        members = self.members[groups].masked_fill_(void[:, :, None], -1).flatten(1)
        wanted = members == look.classes[:, None]
        if look.inside:
            offsets = torch.arange(GROUP, device=groups.device)
            at = ((groups * GROUP)[:, :, None] + offsets).flatten(1)
            wanted &= at != look.places[:, None]
        else:
            wanted = ~wanted & (members >= 0)
        none = torch.inf if look.nearest else -torch.inf
        distances.masked_fill_(~wanted, none)
        best, at = distances.topk(k, 1, largest=not look.nearest)
        found = groups.gather(1, at // GROUP) * GROUP + at % GROUP
        return best, found.masked_fill_(best == none, -1)

    def _differences(self, places: Tensor, groups: Tensor) -> Tensor:
        """Squared distances ``[q, g * GROUP]`` to all points in the groups."""
        in_groups = self.points.view(len(self.members), -1)
        q, many = groups.shape
        cells = self.cells // 4
        if groups.device.type == "cpu":
            cells = min(cells, 2**18)  # of the cache
        chunk = max(1, cells // (many * GROUP * self.dim))
        space = self.points.new_empty(min(chunk, q) * many, GROUP * self.dim)
        distances = self.points.new_empty(q, many * GROUP)
        for part in range(0, q, chunk):
            near = groups[part : part + chunk]
            values = space[: near.numel()]
            torch.index_select(in_groups, 0, near.reshape(-1), out=values)
            differences = values.view(len(near), -1, self.dim)
            differences -= self.points[places[part : part + chunk], None]
            torch.sum(differences.square_(), 2, out=distances[part : part + chunk])
        return distances


class _Run(NamedTuple):
    """Rows ``begin`` to ``end`` of a block are tied to the class from ``low`` to ``high``."""

    low: int
    high: int
    begin: int
    end: int


class _Look(NamedTuple):
    """What a block of rows looks for."""

    places: Tensor
    classes: Tensor
    """``[q]``: the class that a row is tied to."""
    runs: list[_Run]
    low: int
    high: int
    """Points from ``low`` to ``high`` are looked at."""
    nearest: bool
    inside: bool
    """Inside that class, or everywhere but there."""

    def hidden(self, start: int, stop: int) -> bool:
        """Whether no row looks at these points."""
        run = self.runs[0]
        alone = len(self.runs) == 1 and not self.inside
        return alone and run.low <= start and stop <= run.high


def _mask(product: Tensor, look: _Look, start: int, stop: int) -> None:
    """Puts out of reach what a row does not look for."""
    runs = look.runs
    if not look.inside:
        first = bisect_right(runs, start, key=lambda run: run.high)
        runs = runs[first : bisect_left(runs, stop, key=lambda run: run.low)]
    for run in runs:
        low, high = (min(max(edge - start, 0), stop - start) for edge in (run.low, run.high))
        columns = slice(run.begin, run.end)
        if look.inside:
            product[:low, columns] = torch.inf
            product[high:, columns] = torch.inf
        else:
            product[low:high, columns] = torch.inf


def _least(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k least of each column of ``[w, q]`` and their rows, both ``[q, at most k]``."""
    w, q = values.shape
    apart = w // _FOLD
    heads = values.view(_FOLD, apart, q).amin(0).T
    best = heads.topk(min(k, apart), 1, largest=False, sorted=False).indices
    rows = (best[:, :, None] + torch.arange(0, w, apart, device=best.device)).flatten(1)
    some = values.view(-1).take(rows * q + torch.arange(q, device=best.device)[:, None])
    least, at = some.topk(min(k, rows.shape[1]), 1, largest=False, sorted=False)
    return least, rows.gather(1, at)
