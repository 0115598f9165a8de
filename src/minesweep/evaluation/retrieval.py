"""How well do embeddings retrieve their own class, and how far apart are the classes?

Precision@1, R-precision, MAP@R and NMI as in Musgrave, Belongie and Lim, "A Metric Learning
Reality Check" (arXiv 2003.08505, section 3.2), and as in ``AccuracyCalculator`` of
pytorch-metric-learning 2.9: a query is compared with all other rows, never with itself, and a row
that is alone in its class is no query (but it is among the others, and it is clustered).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from minesweep.errors import UserError
from minesweep.seeding import generator
from minesweep.words import check_word

DISTANCES = ("euclidean", "squared_euclidean", "cosine")
NAN = float("nan")


class Points(NamedTuple):
    """Attributes:
    vectors: ``[N, dim]``, shuffled, their mean taken away.
    classes: ``[N]`` int64 from 0, without gaps.
    sizes: How many rows each class has.
    """

    vectors: Tensor
    classes: Tensor
    sizes: Tensor


@torch.no_grad()
def retrieval(
    embeddings: Tensor,
    labels: Tensor,
    at: Sequence[int] = (1, 5, 10),
    most: int | None = None,
    memory: int = 64,
) -> dict[str, float]:
    """Retrieval metrics by Euclidean distance; normalise first for those by cosine.

    Coinciding points are ranked by chance (a fixed one), so that a collapsed model gains nothing
    from the order of its rows.

    Args:
        embeddings: ``[N, dim]``; computed in float64 if they are, else in float32.
        labels: ``[N]`` integers of any size.
        at: The k of ``recall_at_<k>``: the share of queries that have one of their class among
            the k nearest.
        most: At most so many queries, and rows to cluster; drawn once and for all for a given N.
            The queries are compared with all rows. None for all: 10,000 x 64 take about three
            seconds on one core, 2,000 queries among them half a second.
        memory: MiB of working space, about.

    Returns:
        ``precision_at_1``, ``r_precision``, ``mean_average_precision_at_r``, ``nmi`` and
        ``recall_at_<k>``, all in [0, 1]; NaN (but for ``nmi``) where no class has two rows.

    Raises:
        UserError: An embedding is not finite.
    """
    points = _points(embeddings, labels)
    ranked = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
    names = [*ranked, *(f"recall_at_{k}" for k in at)]
    relevant = points.sizes[points.classes] - 1  # R of each row
    queries = torch.arange(len(relevant), device=relevant.device)[:most]
    queries = queries[relevant[queries] > 0]
    # Queries of like R together: each block ranks no more neighbours than it needs.
    queries = queries[relevant[queries].argsort(descending=True, stable=True)]
    sums = torch.zeros(len(names), dtype=torch.double, device=relevant.device)
    start = 0
    while start < len(queries):
        longest = min(max(int(relevant[queries[start]]), *at), len(relevant) - 1)
        # Distances of 4 or 8 bytes, and about 40 bytes for each ranked neighbour.
        count = _rows_in(memory, points.vectors.element_size() * len(relevant) + 40 * longest)
        block = queries[start : start + count]
        sums += _ranked(points, block, relevant[block], longest, at)
        start += count
    means = (sums / len(queries)).tolist() if len(queries) else [NAN] * len(names)
    return {"nmi": _nmi(points, most), **dict(zip(names, means, strict=True))}


def _ranked(
    points: Points, queries: Tensor, relevant: Tensor, longest: int, at: Sequence[int]
) -> Tensor:
    """Sums over a block of queries, ``[3 + len(at)]``."""
    squared = _squared(points.vectors, queries)
    squared[torch.arange(len(queries), device=queries.device), queries] = torch.inf
    nearest = squared.topk(longest, largest=False).indices
    same = points.classes[nearest] == points.classes[queries][:, None]
    rank = torch.arange(1, longest + 1, device=queries.device)
    hits = same & (rank <= relevant[:, None])
    precision = hits.cumsum(1).double() / rank
    average_precision = torch.where(hits, precision, 0.0).sum(1) / relevant
    sums = [same[:, 0].sum(), (hits.sum(1) / relevant.double()).sum(), average_precision.sum()]
    sums += [same[:, :k].any(1).sum() for k in at]
    return torch.stack([value.double() for value in sums])


def _nmi(points: Points, most: int | None) -> float:
    """NMI of the labels and as many k-means clusters (the best of three seeded starts)."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import normalized_mutual_info_score
    from threadpoolctl import threadpool_limits

    vectors, classes = points.vectors[:most].cpu().numpy(), points.classes[:most].cpu().numpy()
    clusters = KMeans(len(set(classes.tolist())), n_init=3, random_state=0)
    # One thread: with more, the order of the sums, and so the last bits, is left to chance.
    with warnings.catch_warnings(), threadpool_limits(1):
        # Fewer different points than classes: a collapsed model is no reason to warn each time.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = clusters.fit_predict(vectors)
    return float(normalized_mutual_info_score(classes, found))


@torch.no_grad()
def distances(
    embeddings: Tensor,
    labels: Tensor,
    margin: float,
    distance: str = "euclidean",
    most: int | None = None,
    memory: int = 64,
) -> dict[str, float]:
    """Distances within and between classes over all pairs of rows, computed in float64.

    Args:
        embeddings: ``[N, dim]``.
        labels: ``[N]`` integers of any size.
        margin: In units of ``distance``.
        distance: ``euclidean``, ``squared_euclidean`` or ``cosine`` (1 - cosine).
        most: The pairs of at most so many rows, drawn once and for all for a given N; None for
            all.
        memory: MiB of working space, about.

    Returns:
        ``intra/mean``, ``intra/max``, ``inter/min``, ``inter/mean`` and ``violated_share``, the
        share of the pairs of two classes that are closer than the margin. NaN where there are no
        such pairs.

    Raises:
        UserError: An embedding is not finite, or ``distance`` is unknown.
    """
    check_word("distance", distance, DISTANCES)
    vectors = embeddings.double()
    if distance == "cosine":
        vectors = torch.nn.functional.normalize(vectors, dim=1)
    vectors, classes, _ = _points(vectors, labels)
    vectors, classes = vectors[:most], classes[:most]
    rows = torch.arange(len(vectors), device=vectors.device)
    intra, inter, violated = Statistics(), Statistics(), 0
    for block in rows.split(_rows_in(memory, 32 * len(rows))):
        d = _squared(vectors, block).add_(vectors[block].square().sum(1, keepdim=True))
        d.clamp_(min=0)
        if distance == "euclidean":
            d.sqrt_()
        elif distance == "cosine":
            d /= 2  # of unit vectors, 1 - cosine is half the squared distance
        different = classes[block][:, None] != classes
        alike = ~different
        alike[rows[: len(block)], block] = False
        intra.add(d[alike])
        apart = d[different]
        inter.add(apart)
        violated += int((apart < margin).sum())
    return {
        "intra/mean": intra.mean,
        "intra/max": intra.high,
        "inter/min": inter.low,
        "inter/mean": inter.mean,
        "violated_share": violated / inter.count if inter.count else NAN,
    }


class Statistics:
    """Mean and extremes of values that come in parts; NaN of none."""

    def __init__(self) -> None:
        self.count, self.total = 0, 0.0
        self.low = self.high = NAN

    def add(self, values: Tensor) -> None:
        if not len(values):
            return
        low, high = (bound.item() for bound in values.aminmax())
        self.low = min(low, self.low) if self.count else low
        self.high = max(high, self.high) if self.count else high
        self.count += len(values)
        self.total += values.sum().item()

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else NAN


def _points(embeddings: Tensor, labels: Tensor) -> Points:
    if wrong := int((~embeddings.isfinite()).any(1).sum()):
        raise UserError(
            f"{wrong} of {len(embeddings)} embeddings are not finite: nothing can be retrieved "
            "with them; try a lower optimizer.lr"
        )
    vectors = embeddings if embeddings.dtype == torch.double else embeddings.float()
    order = torch.randperm(len(labels), generator=generator(0, "retrieval")).to(vectors.device)
    _, classes, sizes = labels.unique(return_inverse=True, return_counts=True)
    # Around their mean, or the distances of close points far from the origin lose their digits.
    return Points((vectors - vectors.mean(0))[order], classes[order], sizes)


def _squared(vectors: Tensor, rows: Tensor) -> Tensor:
    """``[m, N]`` squared distances of some rows to all, less the rows' own squared norms."""
    return torch.addmm(vectors.square().sum(1), vectors[rows], vectors.T, alpha=-2)


def _rows_in(memory: int, row: int) -> int:
    """How many rows of so many bytes fit into so many MiB; at least one."""
    return max(1, memory * 2**20 // row)
