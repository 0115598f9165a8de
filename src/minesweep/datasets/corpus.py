"""What can be mined for whom: queries, the documents of a corpus, and who answers whom."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Lists:
    """A list of rows for each query, all in one tensor.

    Attributes:
        starts: ``[Q + 1]``: the list of query q is ``rows[starts[q]:starts[q + 1]]``.
        rows: ``[M]`` rows, ascending within a list, each once.
    """

    starts: Tensor
    rows: Tensor

    @classmethod
    def of(cls, lists: Sequence[Iterable[int]]) -> Lists:
        """The lists, sorted, each row once."""
        parts = [sorted(set(rows)) for rows in lists]
        sizes = torch.tensor([0, *(len(part) for part in parts)])
        flat = [row for part in parts for row in part]
        return cls(sizes.cumsum(0), torch.tensor(flat, dtype=torch.long))

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def sizes(self) -> Tensor:
        """``[Q]`` lengths."""
        return self.starts.diff()

    def to(self, device: torch.device | str) -> Lists:
        return Lists(self.starts.to(device), self.rows.to(device))

    def take(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """The lists of some queries.

        Args:
            queries: ``[q]``.

        Returns:
            ``[M]`` places among ``queries``, and ``[M]`` rows.
        """
        sizes = self.sizes[queries]
        which = torch.arange(len(queries), device=queries.device).repeat_interleave(sizes)
        first = self.starts[queries] - (sizes.cumsum(0) - sizes)
        return which, self.rows[first[which] + torch.arange(len(which), device=queries.device)]

    def contains(self, queries: Tensor, rows: Tensor) -> Tensor:
        """Whether each row is in its query's list.

        Args:
            queries: ``[q]``.
            rows: ``[q, m]``.

        Returns:
            ``[q, m]`` bool.
        """
        which, listed = self.take(queries)
        size = int(torch.cat([listed, rows.flatten()]).max()) + 2 if rows.numel() else 1
        keys = which * size + listed  # ascending
        asked = torch.arange(len(queries), device=rows.device)[:, None] * size + rows
        at = torch.searchsorted(keys, asked).clamp(max=max(0, len(keys) - 1))
        return (keys[at] == asked) & (rows >= 0) if len(keys) else torch.zeros_like(asked) > 0


@dataclass(frozen=True)
class Corpus:
    """What can be mined for whom.

    Rows are those of the split's texts: first the documents, then the queries.

    Attributes:
        documents: How many documents there are, D: rows 0 to D - 1.
        pairs: ``[P, 2]`` training pairs: a query (its number, from 0) and a document that
            answers it.
        known: Known positives of each query: the documents of its pairs.
        itself: ``[Q]`` row of the document that is the query itself; -1: none.
        answers: All documents that answer each query, hidden ones included; for the log alone.
    """

    documents: int
    pairs: Tensor
    known: Lists
    itself: Tensor
    answers: Lists

    def to(self, device: torch.device | str) -> Corpus:
        return Corpus(
            self.documents,
            self.pairs.to(device),
            self.known.to(device),
            self.itself.to(device),
            self.answers.to(device),
        )
