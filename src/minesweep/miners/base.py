"""The contract of a miner: *propose*, *score*, *select*.

A training step decides what the update learns from at two points. Before the forward pass a miner
**proposes** candidates that are worth scoring. The objective **scores** them with the model. Then
the miner **selects** those that the update learns from. A candidate is an example, a pixel, a pair,
a negative in the batch or a negative in the queue. How each system fits the four hooks of
:class:`Miner`:

=====================  ==============  ===============================  ============================
miner                  candidate       propose                          select
=====================  ==============  ===============================  ============================
``all``                example         uniform batch of n               all (default)
``random_k``           example         uniform batch of n, k of it      all that was proposed
``ohem``               example         uniform batch of n (default)     the k of highest loss
``selective_backprop``  example        uniform batch of n (default)     by chance, percentile ^ beta
threshold, ratio       pixel           uniform batch of n (default)     by probability, or 3 : 1
``rho``                example         uniform batch of n (default)     highest loss - reference
random / knn / lsh     pair            ``[n, 2]`` rows, found through   all (default)
                                       ``pool.encode`` every R steps
random_documents,      document        ``[n, 2 + m]`` rows: query,      all (default)
corpus                                 positive, m negatives
closest negative,      batch_negative  uniform or class-balanced batch  one ``[B, B]`` weight matrix
semi-hard, band ...                                                     per loss term, by its name
queue (MoCo)           queue_negative  uniform batch of n (default)     all (default)
MoCHi                  queue_negative  uniform batch of n (default)     all; ``extend`` adds mixes
                                                                        of each query's top N
=====================  ==============  ===============================  ============================

Pairs are known before the forward pass, so an index miner does its work in ``propose``. Its index
and embeddings are buffers, and its refresh depends on ``step`` alone. Negatives in the batch or in
the queue exist only after the encoder ran, so their miners work in ``select`` and ``extend``. A
similarity matrix goes in, and weights of the same shape come out. ``valid`` masks known duplicates
and the query's own image; ``positive`` holds each query's positive. Weights, not indices, because a
mean negative and a closest negative are both weights over the same scores.

Miners of examples mine pixels too: their scores are then ``[n, H, W]``, and ``valid`` is False
where a pixel has no label.

Chance is stateless: :meth:`Miner.generator` gives the generator of (seed, purpose, step). So a
resumed run draws what an undisturbed one draws, whatever other parts draw. Whatever else a miner
remembers is a buffer of fixed size.

A miner reports in three ways, at logged steps alone. :meth:`Miner.metrics` (scalars) and
:meth:`Miner.distributions` (values of a histogram) become part of the journal's row. They follow
from buffers and the step, so a resumed run reports the same. :meth:`Miner.clocks` (measured times)
goes to ``timing.jsonl``, which may differ from run to run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, TypedDict, Unpack

import torch
from torch import Tensor, nn

from minesweep.datasets.corpus import Corpus
from minesweep.seeding import generator


@dataclass(frozen=True)
class Pool:
    """What can be drawn.

    Attributes:
        size: How many examples there are, N.
        labels: ``[N]`` class indices; ``[N, H, W]`` of pixels.
        batch_size: How many examples a step scores, n.
        seed: The run's seed.
        steps: How many steps the run takes.
        encode: Maps ``[m]`` rows to ``[m, dim]`` embeddings of the present model, without
            gradient, in evaluation mode.
        lengths: ``[N]`` how long each example is; None where all are equal.
        corpus: Queries, documents and their pairs, where the dataset has such.
        bucket: How many batches are sorted by length together; 1 for none.
        candidate: What the objective scores; see :attr:`Miner.candidate`.
        reference: Maps the folder of a finished run to the ``[N]`` losses of its model on these
            examples; None outside of a run.
    """

    size: int
    labels: Tensor
    batch_size: int
    seed: int
    steps: int
    encode: Callable[[Tensor], Tensor]
    lengths: Tensor | None = None
    bucket: int = 1
    candidate: str = "example"
    reference: Callable[[str], Tensor] | None = None
    corpus: Corpus | None = None

    @property
    def device(self) -> torch.device:
        return self.labels.device


class Context(TypedDict, total=False):
    """What a miner may want to know beside the scores; each key is optional.

    Attributes:
        step: The training step, from 0.
        turn: Which of an image's views is the query, where each is in turn; from 0.
        rows: ``[n]`` or ``[n, 2]`` rows of the pool that the candidates come from; ``[B]`` of
            the queries where the candidates are negatives.
        labels: Class indices of the same.
        queue_labels: ``[K]`` class indices of the queue's entries.
        valid: Bool, shaped like the scores: False where a candidate must never be selected.
        probability: Of the true class of each pixel, shaped like the scores.
        positive: ``[B]`` score of each query's positive (batch and queue negatives).
        dim: Of the embeddings that the scores come from.
    """

    step: int
    turn: int
    rows: Tensor
    labels: Tensor
    queue_labels: Tensor
    valid: Tensor
    probability: Tensor
    positive: Tensor
    dim: int


class Miner(nn.Module):
    """Decides what the update learns from. Subclass it and override a hook or two.

    Args:
        start: Mining is on from this share of the run's steps, in [0, 1].
        end: Mining is off again from this share of the run's steps, in [0, 1].
        interrupt: While mining is on, every how many steps one step learns from everything;
            0 for never. (``start``, ``end`` and ``interrupt`` as in Composer.)

    While mining is off, batches are uniform, everything is selected and nothing is added.
    """

    candidate: ClassVar[str] = "example"
    """``example``, ``pixel``, ``pair``, ``document``, ``batch_negative`` or ``queue_negative``."""

    also: ClassVar[tuple[str, ...]] = ()
    """What else it can mine: ``pixel``, for miners of examples that take ``[n, H, W]`` scores."""

    def __init__(self, *, start: float = 0.0, end: float = 1.0, interrupt: int = 0) -> None:
        super().__init__()
        self.start, self.end, self.interrupt = start, end, interrupt
        self._seed = 0
        self._steps: int | None = None

    @classmethod
    def mines(cls) -> tuple[str, ...]:
        """All kinds of candidates that it can mine."""
        return cls.candidate, *cls.also

    def setup(self, pool: Pool) -> None:
        """Called once, before the first step and before a checkpoint is loaded.

        Override it to allocate buffers, whose sizes must depend on the pool and the
        configuration alone.
        """
        self._seed, self._steps = pool.seed, pool.steps

    def active(self, step: int) -> bool:
        """Whether mining is on at ``step``."""
        if self._steps is None:
            return True
        inside = self.start * self._steps <= step and (
            self.end >= 1 or step < self.end * self._steps
        )
        return inside and not (self.interrupt and (step + 1) % self.interrupt == 0)

    def generator(
        self, step: int, device: torch.device | str = "cpu", purpose: str = "miner"
    ) -> torch.Generator:
        """The generator of this miner's own draws at ``step``, one for each purpose."""
        return generator(self._seed, f"{purpose}/{step}", device)

    def uniform(self, pool: Pool, step: int) -> Tensor:
        """What is proposed while mining is off: a uniform batch, or random pairs."""
        return uniform_batch(pool, step)

    def propose(self, pool: Pool, step: int) -> Tensor:
        """The rows to score: ``[n]`` int64, ``[n, 2]`` for pairs, ``[n, 2 + m]`` for documents.

        A uniform batch here.
        """
        return self.uniform(pool, step)

    def foreseen(self, step: int) -> bool:
        """Whether the rows of ``step`` depend on pool and step alone, and so can be told early.

        True of uniform batches. A miner whose own ``propose`` looks at no model may say so too.
        """
        return type(self).propose is Miner.propose or not self.active(step)

    def extend(
        self, query: Tensor, negatives: Tensor, scores: Tensor, **context: Unpack[Context]
    ) -> Tensor | None:
        """Adds synthetic negatives (MoCHi, arXiv 2010.01028).

        Similarities are returned, not vectors: those of a mix follow from ``scores``, and
        ``[B, s, dim]`` vectors would need far more memory. Where vectors h are at hand, they are
        ``torch.einsum("bd,bsd->bs", query, h.detach())``.

        Args:
            query: ``[B, dim]`` embeddings.
            negatives: ``[K, dim]`` embeddings of the queue.
            scores: ``[B, K]`` similarities, ``-inf`` where masked or not selected.
            **context: See :class:`Context`.

        Returns:
            ``[B, s]`` similarities of the queries to their synthetic negatives, ``-inf`` for
            none, or None for no additions. Their gradient is that of the query, the synthetic
            negatives being constants.
        """
        return None

    def select(self, scores: Tensor, **context: Unpack[Context]) -> Tensor | Mapping[str, Tensor]:
        """Returns what the update learns from. Everything here.

        Args:
            scores: Detached; a larger score is a harder candidate. ``[n]`` for examples and
                pairs, ``[n, H, W]`` for pixels, ``[B, m]`` for negatives.
            **context: See :class:`Context`.

        Returns:
            Weights shaped like ``scores``, on its device; or one such tensor for each loss
            term, by its name.
        """
        return torch.ones_like(scores)

    def selected(self, n: int) -> int | None:
        """How many of n candidates :meth:`select` gives a weight; None if only it can tell.

        The cheapest way back is chosen by it. Override it where it is known before.
        """
        return n if type(self).select is Miner.select else None

    def metrics(self, step: int) -> dict[str, Tensor]:
        """Further scalars of the row that is logged after ``step``, e.g. ``mining/recall_at_k``.

        They follow from buffers and ``step`` (counted from 0, the step just made); one that is
        not finite is left out. Called at logged steps alone.
        """
        return {}

    def distributions(self, step: int) -> dict[str, Tensor]:
        """Values by name, of any shape, whose histograms are logged beside those of the losses.

        ``{"mining/negative_distance": d}`` is logged as ``mining/negative_distance_histogram``.
        """
        return {}

    def clocks(self) -> dict[str, float]:
        """Measured times, e.g. ``mining/build_ms``, for ``timing.jsonl``."""
        return {}


def uniform_batch(pool: Pool, step: int) -> Tensor:
    """``[batch_size]`` rows of the pool, each row once an epoch.

    An epoch is ``size // batch_size`` full batches of one permutation; the remainder sits out
    until the next. Depends on the seed and the step alone, so all miners see the same batches.
    With a bucket of m, each m batches of an epoch are sorted by length and dealt again. Then a
    batch holds examples of similar length.
    """
    n, per_epoch = pool.batch_size, pool.size // pool.batch_size
    epoch, position = divmod(step, per_epoch)
    order = _permutation(pool.seed, epoch, pool.size, str(pool.device))
    if pool.lengths is None or pool.bucket == 1:
        return order[position * n : (position + 1) * n]
    bucket, place = divmod(position, pool.bucket)
    rows = order[bucket * pool.bucket * n : min((bucket + 1) * pool.bucket, per_epoch) * n]
    rows = rows[pool.lengths[rows].argsort(stable=True)]
    # Dealt in random order, or the epoch would run from short to long again and again.
    turn = torch.randperm(
        len(rows) // n, generator=generator(pool.seed, f"bucket/{epoch}/{bucket}")
    )
    return rows[turn[place] * n :][:n]


_last: tuple[tuple[int, int, int, str], Tensor] | None = None


def _permutation(seed: int, epoch: int, size: int, device: str) -> Tensor:
    # Kept for one epoch: a permutation of 55,000 rows costs more than a small step.
    global _last
    key = (seed, epoch, size, device)
    if _last is None or _last[0] != key:
        order = torch.randperm(size, generator=generator(seed, f"batches/{epoch}")).to(device)
        _last = (key, order)
    return _last[1]
