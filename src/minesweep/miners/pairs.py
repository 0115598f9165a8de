"""Random pairs: the control of every claim about mined ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from minesweep.errors import UserError
from minesweep.miners.base import Miner, Pool, uniform_batch


class Classes:
    """Where the rows of each class are, so that partners are drawn without a loop or a search.

    Rows are kept sorted by class: a class is a slice, and the others are all but that slice.

    Args:
        labels: ``[N]`` class indices, any integers.
    """

    def __init__(self, labels: Tensor) -> None:
        _, which, counts = labels.unique(return_inverse=True, return_counts=True)
        self.count = len(counts)
        self._order = which.argsort(stable=True)
        # Of each row: its place in that order, and the start and size of its class there.
        self._place = torch.empty_like(self._order)
        self._place[self._order] = torch.arange(len(labels), device=labels.device)
        self._start = (counts.cumsum(0) - counts)[which]
        self.sizes = counts[which]

    def positive(self, rows: Tensor, chance: Tensor) -> Tensor:
        """Another row of each row's class; of a class of one, the row itself.

        Args:
            rows: ``[n]``.
            chance: ``[n]`` double, uniform in [0, 1): which of the others.
        """
        start, size = self._start[rows], self.sizes[rows]
        step = 1 + (chance * (size - 1)).long()
        return self._order[start + (self._place[rows] - start + step) % size]

    def negative(self, rows: Tensor, chance: Tensor) -> Tensor:
        """A row of another class for each row; arguments as for :meth:`positive`."""
        start, size = self._start[rows], self.sizes[rows]
        place = (chance * (len(self._order) - size)).long()
        return self._order[torch.where(place < start, place, place + size)]


class Random(Miner):
    """Proposes pairs whose two rows are drawn at random; the update learns from all of them.

    The first rows of the pairs are a uniform batch, each row once an epoch.

    Args:
        positives: Share of the pairs that are of one class, in [0, 1]: then no row is paired
            with itself. None pairs the batch with a permutation of itself, as ``utils.rand_pairs``
            of yuhongsun96/Hard-Negative-Mining-with-LSH-KNN does with the data set. Then chance
            decides the share. A row that meets itself counts as a positive pair.
        **schedule: ``start``, ``end``, ``interrupt`` of :class:`~minesweep.miners.base.Miner`.
    """

    candidate = "pair"

    def __init__(self, positives: float | None = 0.5, **schedule: Any) -> None:
        super().__init__(**schedule)
        self.positives = positives
        self._classes: Classes | None = None

    def setup(self, pool: Pool) -> None:
        super().setup(pool)
        self._classes = Classes(pool.labels)
        check_shares(self._classes, self.positives)

    def foreseen(self, step: int) -> bool:
        return type(self).propose is Random.propose or super().foreseen(step)

    def propose(self, pool: Pool, step: int) -> Tensor:
        """``[n, 2]`` rows, the positive pairs first."""
        return self.uniform(pool, step)

    def uniform(self, pool: Pool, step: int) -> Tensor:
        """What is proposed, mining or not."""
        rows = uniform_batch(pool, step)
        return torch.stack([rows, self.partners(rows, self.positives, step)], dim=1)

    def partners(self, rows: Tensor, positives: float | None, step: int) -> Tensor:
        """``[n]`` random partners of ``rows``, those of the first ``positives * n`` of their class.

        A row that is alone in its class is given a partner of another.
        """
        draws = self.generator(step, purpose="pairs")
        if positives is None:
            return rows[torch.randperm(len(rows), generator=draws).to(rows.device)]
        assert self._classes is not None, "setup() comes first"
        chance = torch.rand(len(rows), generator=draws, dtype=torch.double).to(rows.device)
        same = torch.arange(len(rows), device=rows.device) < round(positives * len(rows))
        same &= self._classes.sizes[rows] > 1
        if same.all():
            return self._classes.positive(rows, chance)
        if not same.any():
            return self._classes.negative(rows, chance)
        return torch.where(
            same, self._classes.positive(rows, chance), self._classes.negative(rows, chance)
        )


def check_shares(classes: Classes, positives: float | None) -> None:
    """Raises a UserError where the data have no such pairs."""
    if positives is None:
        return
    if positives < 1 and classes.count == 1:
        raise UserError(
            f"all {len(classes.sizes)} training examples are of one class, so there are no "
            "negative pairs: miner.positives=1 uses positive ones alone"
        )
    if positives > 0 and bool((classes.sizes == 1).all()):
        raise UserError(
            f"each of the {len(classes.sizes)} training examples is alone in its class, so there "
            "are no positive pairs: miner.positives=0 uses negative ones alone"
        )
