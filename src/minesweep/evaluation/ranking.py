"""How well does a ranking of documents answer queries: nDCG@10, MRR@10 and recall@k.

As defined by trec_eval with binary relevance: ``ndcg_cut_10`` (Järvelin and Kekäläinen, 2002),
``recip_rank`` cut at 10, ``recall_k``. Of equally similar documents the lower row comes first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from minesweep.datasets.corpus import Lists
from minesweep.indexes.similar import most_similar

CUT = 10


@torch.no_grad()
def ranking(
    queries: Tensor,
    documents: Tensor,
    relevant: Lists,
    excluded: Tensor | None = None,
    at: Sequence[int] = (1, 10, 100),
    memory: int = 64,
) -> dict[str, float]:
    """Retrieval metrics against the whole corpus, by inner product.

    Args:
        queries: ``[Q, dim]``; normalise both for cosine similarity.
        documents: ``[D, dim]``.
        relevant: Of each query, the rows of the documents that answer it.
        excluded: ``[Q]`` a document that is left out of the query's ranking (itself); -1: none.
        at: The k of ``recall_at_<k>``: the share of a query's relevant documents among its first
            k, averaged over the queries.
        memory: MiB of working space, about.

    Returns:
        ``ndcg_at_10``, ``mrr_at_10`` and ``recall_at_<k>`` over the queries that have an answer,
        in [0, 1]; NaN where none has.
    """
    names = ["ndcg_at_10", "mrr_at_10", *(f"recall_at_{k}" for k in at)]
    asked = (relevant.sizes > 0).nonzero().squeeze(1)
    if not len(asked):
        return dict.fromkeys(names, float("nan"))
    deepest = min(max(CUT, *at), len(documents))
    discount = 1 / torch.arange(2, deepest + 2, device=queries.device).double().log2()
    ideal = discount[:CUT].cumsum(0)
    sums = torch.zeros(len(names), dtype=torch.double, device=queries.device)
    for block in asked.split(1024):
        found = most_similar(queries[block], documents, deepest + 1, memory).rows
        if excluded is not None:
            # What is left out goes to the end; the others keep their order.
            own = found == excluded[block, None]
            found = found.gather(1, own.int().argsort(dim=1, stable=True))
            found = found.masked_fill(found == excluded[block, None], -1)
        hits = relevant.contains(block, found[:, :deepest]).double()
        count = relevant.sizes[block]
        first = hits[:, :CUT].argmax(1)
        got = [
            (hits[:, :CUT] * discount[:CUT]).sum(1) / ideal[count.clamp(max=len(ideal)) - 1],
            hits[:, :CUT].amax(1) / (first + 1),
            *(hits[:, :k].sum(1) / count for k in at),
        ]
        sums += torch.stack([value.sum() for value in got])
    return dict(zip(names, (sums / len(asked)).tolist(), strict=True))
