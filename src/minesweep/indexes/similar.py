"""The documents that are most similar to a query, by inner product; exact, in blocks."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

GROUP = 32
"""Documents in a group, of which only the best is looked at first."""
AT_ONCE = 256
"""Queries in a block: its scores stay near the cache."""


class Similar(NamedTuple):
    """The k most similar documents of each of q queries, best first."""

    scores: Tensor
    """Inner products ``[q, k]``; -inf: no such document."""

    rows: Tensor
    """Rows of the documents ``[q, k]``, int64; -1: no such document."""


def most_similar(queries: Tensor, documents: Tensor, k: int, memory: int = 64) -> Similar:
    """The k documents of largest inner product, none missed.

    Of documents that are equally similar, the lower row comes first, except at the k-th place,
    where any of them may be kept.

    Args:
        queries: ``[q, dim]``.
        documents: ``[D, dim]``.
        k: At least 1; where there are fewer documents, -1 fills up.
        memory: MiB of working space for the scores, about.
    """
    size = len(documents)
    transposed = pad(documents, (0, 0, 0, -size % GROUP)).T
    at_once = max(1, min(AT_ONCE, memory * 2**18 // max(1, transposed.shape[1])))
    buffer = queries.new_empty(min(at_once, len(queries)), transposed.shape[1])
    parts = []
    for block in queries.split(at_once):
        scores = torch.mm(block, transposed, out=buffer[: len(block)])
        scores[:, size:] = -torch.inf
        parts.append(_best(scores, min(k, size)))
    if not parts:
        return Similar(queries.new_zeros(0, k), torch.zeros(0, k, dtype=torch.long))
    scores, rows = (torch.cat(part) for part in zip(*parts, strict=True))
    missing = (0, k - scores.shape[1])
    return Similar(pad(scores, missing, value=-torch.inf), pad(rows, missing, value=-1))


def _best(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row and their columns; the k lie in the k groups of largest maximum."""
    groups = scores.shape[1] // GROUP
    columns = None
    if 2 * k < groups:
        grouped = scores.view(len(scores), groups, GROUP)
        best = grouped.amax(2).topk(k, sorted=False).indices
        inside = torch.arange(GROUP, device=scores.device)
        columns = (best[:, :, None] * GROUP + inside).flatten(1)
        scores = scores.gather(1, columns)
    values, at = scores.topk(k)
    rows = at if columns is None else columns.gather(1, at)
    # Stable twice: by row, then by score.
    order = rows.argsort(dim=1)
    values, rows = values.gather(1, order), rows.gather(1, order)
    order = values.argsort(dim=1, descending=True, stable=True)
    return values.gather(1, order), rows.gather(1, order)
