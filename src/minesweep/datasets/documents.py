"""Splits whose rows are texts: the documents of a corpus, then the queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from minesweep.datasets.base import Batch, Split
from minesweep.datasets.corpus import Lists
from minesweep.datasets.text import Tokens


@dataclass
class Documents(Split):
    """Texts of a corpus and of queries, one row each, and what answers what.

    Attributes:
        inputs: ``[N]`` rows of ``sentences``: documents, then queries.
        labels: ``[N]`` group of texts that answer each other; used by embeddings' pictures.
        sentences: The texts as token numbers.
        texts: The texts as they were written.
        documents: How many documents there are; the queries follow them.
        queries: ``[Q]`` rows of the queries that this split is evaluated with.
        relevant: Rows of the documents that answer each of them.
        excluded: ``[Q]`` a document's row that is the query itself, and so is no answer; -1: none.
    """

    sentences: Tokens = None  # type: ignore[assignment]
    texts: Sequence[str] = ()
    documents: int = 0
    queries: Tensor = None  # type: ignore[assignment]
    relevant: Lists = None  # type: ignore[assignment]
    excluded: Tensor = None  # type: ignore[assignment]

    @property
    def examples(self) -> int:
        """Training pairs; of a split that is not trained on, its queries."""
        return len(self.corpus.pairs) if self.corpus else len(self.queries)

    def to(self, device: torch.device | str) -> Documents:
        moved: dict[str, Any] = {
            name: getattr(self, name).to(device)
            for name in ("inputs", "labels", "sentences", "queries", "relevant", "excluded")
        }
        if self.corpus is not None:
            moved["corpus"] = self.corpus.to(device)
        return replace(self, **moved)

    def fetch(self, rows: Tensor) -> Batch:
        """The texts at ``rows``."""
        return Batch(self.sentences[self.inputs[rows]], self.labels[rows], rows)
