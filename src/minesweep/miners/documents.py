"""Random negatives from a corpus: the control of every claim about mined ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from minesweep.datasets.corpus import Corpus
from minesweep.errors import UserError
from minesweep.miners.base import Miner, Pool, uniform_batch

DRAWS = 20
"""How often a random negative that is a known positive is drawn again."""


class RandomDocuments(Miner):
    """Proposes a query, its positive, and documents drawn at random from the corpus.

    Known positives of the query, and itself, are not drawn. A batch of n pairs of the training
    split is ``[n, 2 + m]`` rows; each pair comes once an epoch.

    Args:
        num_negatives: m; 0 leaves the other positives of the batch as the only negatives.
        **schedule: ``start``, ``end``, ``interrupt`` of :class:`~minesweep.miners.base.Miner`.
    """

    candidate = "document"

    def __init__(self, num_negatives: int = 2, **schedule: Any) -> None:
        super().__init__(**schedule)
        if num_negatives < 0:
            raise UserError(f"miner.num_negatives={num_negatives} must be at least 0")
        self.num_negatives = num_negatives
        self._pairs: Pool | None = None

    def setup(self, pool: Pool) -> None:
        super().setup(pool)
        if pool.corpus is None:
            raise UserError(
                "this miner takes negatives from a corpus, and the dataset has none: "
                "choose dataset=quora_retrieval or dataset=retrieval"
            )
        self._pairs = replace(pool, size=len(pool.corpus.pairs))

    def foreseen(self, step: int) -> bool:
        return type(self).propose is RandomDocuments.propose or super().foreseen(step)

    def propose(self, pool: Pool, step: int) -> Tensor:
        """``[n, 2 + m]`` rows: the query, its positive, its negatives."""
        return self.uniform(pool, step)

    def uniform(self, pool: Pool, step: int) -> Tensor:
        """What is proposed, mining or not."""
        pairs = self.pairs(pool, step)
        corpus = corpus_of(pool)
        negatives = self.random(corpus, pairs[:, 0], step)
        return rows(corpus, pairs, negatives)

    def pairs(self, pool: Pool, step: int) -> Tensor:
        """``[n, 2]``: numbers of the queries, rows of their positives."""
        assert self._pairs is not None, "setup() comes first"
        return corpus_of(pool).pairs[uniform_batch(self._pairs, step)]

    def random(self, corpus: Corpus, queries: Tensor, step: int) -> Tensor:
        """``[n, m]`` rows of random documents that are not known to answer the query."""
        draws = self.generator(step, purpose="documents")
        shape = (len(queries), self.num_negatives)

        def draw() -> Tensor:
            return torch.randint(corpus.documents, shape, generator=draws).to(queries.device)

        drawn = draw()
        for _ in range(DRAWS):
            wrong = barred(corpus, queries, drawn)
            if not wrong.any():
                break
            drawn = torch.where(wrong, draw(), drawn)
        return drawn


def corpus_of(pool: Pool) -> Corpus:
    """The pool's corpus, which ``setup`` has seen to be there."""
    assert pool.corpus is not None
    return pool.corpus


def barred(corpus: Corpus, queries: Tensor, documents: Tensor) -> Tensor:
    """``[n, m]`` bool: documents that are known to answer the query, or are the query itself."""
    itself = documents == corpus.itself[queries][:, None]
    return corpus.known.contains(queries, documents) | itself


def rows(corpus: Corpus, pairs: Tensor, negatives: Tensor) -> Tensor:
    """``[n, 2 + m]`` rows of texts; the queries lie behind the documents."""
    return torch.cat([pairs[:, :1] + corpus.documents, pairs[:, 1:], negatives], 1)
