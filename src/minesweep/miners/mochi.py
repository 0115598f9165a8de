"""MoCHi: synthetic negatives, mixed from the hardest in the queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor
from torch.nn import functional

from minesweep.errors import UserError
from minesweep.miners.base import Context
from minesweep.miners.queue import Queue
from minesweep.seeding import uniform

CHUNK = {"cpu": 2**13, "cuda": 2**18}
"""How many mixes are held as vectors at once, while their lengths are taken."""


class Mochi(Queue):
    """Adds to the queue's negatives mixes of those most similar to each query.

    For each query x_1 ... x_N are the N most similar entries of its masked queue. A mix of *type 1*
    is ``alpha * x_i + (1 - alpha) * x_j`` with i != j. One of *type 2* is ``beta * q + (1 - beta) *
    x_i``. Both are scaled to unit length. i and j are drawn uniformly, alpha and beta from their
    ranges. No gradient flows through a mix: it is a constant, as the queue is.

    Source: Kalantidis et al., arXiv 2010.01028, section 4 (there N, s and s').

    Args:
        n_hard: N, at most K.
        s1: How many mixes of type 1 for each query.
        s2: How many of type 2.
        s1_start: Step from which on there are mixes of type 1; 0 for the first.
        s2_start: The same of type 2.
        alpha_range: Bounds of alpha, in [0, 1].
        beta_range: Bounds of beta, in [0, 1].
        **queue: ``skip_hardest`` and ``oracle`` of :class:`~minesweep.miners.queue.Queue`, which
            leave entries out before the hardest are looked for, and the schedule.
    """

    shared: Tensor

    def __init__(
        self,
        n_hard: int = 1024,
        s1: int = 512,
        s2: int = 256,
        s1_start: int = 0,
        s2_start: int = 0,
        alpha_range: Sequence[float] = (0.0, 1.0),
        beta_range: Sequence[float] = (0.0, 0.5),
        **queue: Any,
    ) -> None:
        super().__init__(**queue)
        self.n_hard, self.s1, self.s2 = n_hard, s1, s2
        self.s1_start, self.s2_start = s1_start, s2_start
        self.alpha_range = _bounds("miner.alpha_range", alpha_range)
        self.beta_range = _bounds("miner.beta_range", beta_range)
        # Share of the hardest that are of the query's own class, at the last step that mixed.
        self.register_buffer("shared", torch.tensor(torch.nan))

    def extend(
        self, query: Tensor, negatives: Tensor, scores: Tensor, **context: Unpack[Context]
    ) -> Tensor | None:
        """``[B, s1 + s2]`` similarities of the queries to their mixes.

        They are put together from ``scores``: with ``h = (a * x + b * y) / |a * x + b * y|``,
        ``q.h`` is ``(a * q.x + b * q.y) / |...|``, and its gradient is h. Only the lengths need
        the vectors, a chunk at a time: memory grows with B * (s1 + s2), not with the dimension.
        """
        step = context["step"]
        s1 = self.s1 if step >= self.s1_start else 0
        s2 = self.s2 if step >= self.s2_start else 0
        if s1 + s2 == 0:
            return None
        # Sorted, so that what is masked (-inf) comes last.
        hardest, places = scores.topk(min(self.n_hard, scores.shape[1]), dim=1)
        left = hardest > -torch.inf
        self._count_shared(places, left, context)
        counts = left.sum(1, keepdim=True)
        hardest = hardest.masked_fill(~left, 0.0)
        parts = []
        if s1:
            draws = self._draws(3 * s1, "mix 1", context).unflatten(1, (3, s1))
            parts.append(self._type1(negatives, hardest, places, counts, draws))
        if s2:
            draws = self._draws(2 * s2, "mix 2", context).unflatten(1, (2, s2))
            parts.append(self._type2(query, hardest, counts, draws))
        return torch.cat(parts, 1)

    def _type1(
        self, negatives: Tensor, hardest: Tensor, places: Tensor, counts: Tensor, draws: Tensor
    ) -> Tensor:
        alpha = _between(self.alpha_range, draws[:, 0])
        one = _index(draws[:, 1], counts)
        # One of the others: a step of 1 to counts - 1 onwards, around the end.
        other = (one + 1 + _index(draws[:, 2], counts - 1)) % counts.clamp(min=1)
        pairs = torch.stack([places.gather(1, one), places.gather(1, other)], -1)
        weights = torch.stack([alpha, 1 - alpha], -1)
        lengths = _lengths(negatives, pairs, weights)
        mixed = alpha * hardest.gather(1, one) + (1 - alpha) * hardest.gather(1, other)
        return (mixed / lengths).masked_fill(counts < 2, -torch.inf)

    def _type2(self, query: Tensor, hardest: Tensor, counts: Tensor, draws: Tensor) -> Tensor:
        beta = _between(self.beta_range, draws[:, 0])
        chosen = hardest.gather(1, _index(draws[:, 1], counts))
        # The query inside the mix is a constant; the one it is compared with is not.
        own = (query * query.detach()).sum(1, keepdim=True)
        with torch.no_grad():
            squares = beta**2 * own + (1 - beta) ** 2 + 2 * beta * (1 - beta) * chosen
            lengths = squares.clamp(min=1e-12).sqrt()
        mixed = beta * own + (1 - beta) * chosen
        return (mixed / lengths).masked_fill(counts < 1, -torch.inf)

    def _draws(self, width: int, purpose: str, context: Context) -> Tensor:
        """``[B, width]`` numbers in [0, 1), each query's own, whatever batch it is in."""
        step, turn = context["step"], context.get("turn", 0)
        return uniform(self._seed, f"{purpose}/{step}/{turn}", context["rows"], width)

    def _count_shared(self, places: Tensor, left: Tensor, context: Context) -> None:
        if "queue_labels" in context:
            same = context["queue_labels"][places] == context["labels"][:, None]
            self.shared.copy_((same & left).sum() / left.sum())

    def metrics(self, step: int) -> dict[str, Tensor]:
        return {"mining/false_negative_share_hardest": self.shared}


def _index(draws: Tensor, counts: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) to whole ones below ``counts`` (0 where that is 0)."""
    return torch.minimum((draws * counts).long(), counts - 1).clamp(min=0)


def _between(bounds: tuple[float, float], draws: Tensor) -> Tensor:
    low, high = bounds
    return low + (high - low) * draws


@torch.no_grad()
def _lengths(negatives: Tensor, pairs: Tensor, weights: Tensor) -> Tensor:
    """``[B, s]`` lengths of the weighted sums of pairs of rows (``[B, s, 2]`` each)."""
    chunk = CHUNK.get(negatives.device.type, CHUNK["cuda"])
    parts = zip(pairs.flatten(0, 1).split(chunk), weights.flatten(0, 1).split(chunk), strict=True)
    lengths = [
        functional.embedding_bag(rows, negatives, per_sample_weights=shares, mode="sum").norm(dim=1)
        for rows, shares in parts
    ]
    return torch.cat(lengths).view(pairs.shape[:2]).clamp(min=1e-6)


def _bounds(name: str, value: Sequence[float]) -> tuple[float, float]:
    numbers = isinstance(value, Sequence) and all(isinstance(n, int | float) for n in value)
    if not numbers or len(value) != 2 or not 0 <= value[0] <= value[1] <= 1:
        raise UserError(f"{name}={value} must be two numbers in [0, 1], the lower first")
    return float(value[0]), float(value[1])
