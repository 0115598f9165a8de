"""How well do embeddings retrieve their own class, and how far apart are the classes?

Precision@1, R-precision, MAP@R and NMI as in Musgrave, Belongie and Lim, "A Metric Learning
Reality Check" (arXiv 2003.08505, section 3.2), and as in ``AccuracyCalculator`` of
pytorch-metric-learning 2.9. A query is compared with all other rows, never with itself. A row that
is alone in its class is no query, but it is compared and clustered.

Distances are those of float64 differences, whatever offset or outliers the embeddings have. A
matrix product ranks first. Its error is at most A (|x| + |y|)^2 for x and y around their median,
with A = (2 d + 16) u. Here u is the unit round-off and d the dimension (Higham, Accuracy and
Stability of Numerical Algorithms, 2nd ed., section 3.1). A query whose ranks these errors could
change is ranked once more by differences.

Cosine distance is 1 - cos, and 1 where one of the vectors is zero: its cosine is taken as 0, as
the losses take it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from minesweep.errors import UserError
from minesweep.evaluation.missing import NAN, tell
from minesweep.seeding import generator
from minesweep.words import check_word

DISTANCES = ("euclidean", "squared_euclidean", "cosine")
NO_DIRECTION = 1e-12
"""A shorter vector is not scaled to unit length, as in ``torch.nn.functional.normalize``."""
PRECISE = 1e-9
"""Relative error of a squared distance above which it is computed from differences."""


class Points(NamedTuple):
    """Attributes:
    vectors: ``[N, dim]`` float64, shuffled, their median taken away.
    classes: ``[N]`` int64 from 0, without gaps.
    sizes: How many rows each class has.
    directionless: ``[N]`` bool, for cosine distance: vectors too short to be of unit length.
    """

    vectors: Tensor
    classes: Tensor
    sizes: Tensor
    directionless: Tensor | None = None


@torch.no_grad()
def retrieval(
    embeddings: Tensor,
    labels: Tensor,
    at: Sequence[int] = (1, 5, 10),
    most: int | None = None,
    memory: int = 64,
    cosine: bool = False,
) -> dict[str, float]:
    """Retrieval metrics by Euclidean or cosine distance.

    Coinciding points are ranked by chance (a fixed one), so that a collapsed model gains nothing
    from the order of its rows.

    Args:
        embeddings: ``[N, dim]``.
        labels: ``[N]`` integers of any size.
        at: The k of ``recall_at_<k>``: the share of queries that have one of their class among
            the k nearest.
        most: At most so many queries, and rows to cluster; drawn once and for all for a given N.
            The queries are compared with all rows. None for all: 10,000 x 64 take about three
            seconds on one quiet core, 2,000 queries among them half a second; the first call
            takes one to two seconds more, to import scikit-learn.
        memory: MiB of working space, about.
        cosine: Whether distances are those of the directions.

    Returns:
        ``precision_at_1``, ``r_precision``, ``mean_average_precision_at_r``, ``nmi`` and
        ``recall_at_<k>``, all in [0, 1]. All are NaN where there is one class alone, or no class
        of two rows.

    Raises:
        UserError: An embedding is not finite.
    """
    points = _points(embeddings, labels, cosine)
    relevant = points.sizes[points.classes] - 1  # R of each row
    ranked = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
    names = [*ranked, *(f"recall_at_{k}" for k in at)]
    if len(points.sizes) < 2 or not relevant.any():
        tell(
            "no retrieval metrics: they need embeddings of two classes or more, one of which has "
            "two examples or more"
        )
        return dict.fromkeys(("nmi", *names), NAN)
    queries = torch.arange(len(relevant), device=relevant.device)[:most]
    queries = queries[relevant[queries] > 0]
    # Queries of like R together: each block ranks no more neighbours than it needs.
    queries = queries[relevant[queries].argsort(descending=True, stable=True)]
    sums = torch.zeros(len(names), dtype=torch.double, device=relevant.device)
    start = 0
    while start < len(queries):
        longest = min(max(int(relevant[queries[start]]), *at), len(relevant) - 1)
        # Distances of 8 bytes twice, and about 64 bytes for each ranked neighbour.
        count = _rows_in(memory, 16 * len(relevant) + 64 * longest)
        block = queries[start : start + count]
        sums += _sums(points, block, relevant[block], _nearest(points, block, longest), at)
        start += count
    means = (sums / len(queries)).tolist() if len(queries) else [NAN] * len(names)
    return {"nmi": _nmi(points, most), **dict(zip(names, means, strict=True))}


def _nearest(points: Points, queries: Tensor, count: int) -> Tensor:
    """``[q, count]`` rows by their distance to the queries, without the query itself."""
    vectors = points.vectors
    norms, error = _norms(points), _error(points)
    own = torch.arange(len(queries), device=queries.device)
    # Lower bounds of the squared distances, less the queries' own share of them.
    bounds = torch.addmm((1 - 2 * error) * norms, vectors[queries], vectors.T, alpha=-2)
    bounds[own, queries] = torch.inf
    some = min(count + 1, len(vectors))
    low, rows = bounds.topk(some, largest=False)
    high = low + 4 * error * (norms[rows] + norms[queries, None])
    # In order for sure: no lower bound is below the upper bound of one before it.
    doubtful = (low[:, 1:] < high[:, :-1].cummax(1).values).any(1).nonzero().squeeze(1)
    for part in doubtful.split(max(1, len(queries) // 2)):
        again = _differences(points, queries[part])
        again[torch.arange(len(part), device=part.device), queries[part]] = torch.inf
        rows[part] = again.topk(some, largest=False).indices
    return rows[:, :count]


def _sums(
    points: Points, queries: Tensor, relevant: Tensor, nearest: Tensor, at: Sequence[int]
) -> Tensor:
    """Sums over a block of queries and their ``[q, m]`` nearest rows, ``[3 + len(at)]``."""
    same = points.classes[nearest] == points.classes[queries][:, None]
    rank = torch.arange(1, nearest.shape[1] + 1, device=queries.device)
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

    vectors = points.vectors[:most].float().cpu().numpy()
    classes = points.classes[:most].cpu().numpy()
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
    cosine: bool = False,
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
        cosine: Whether distances are those of the directions, in the units of ``distance``; of
            ``distance=cosine`` they always are.

    Returns:
        ``intra/mean``, ``intra/max``, ``inter/min``, ``inter/mean`` and ``violated_share``, the
        share of the pairs of two classes that are closer than the margin. NaN where there are no
        such pairs.

    Raises:
        UserError: An embedding is not finite, or ``distance`` is unknown.
    """
    check_word("distance", distance, DISTANCES)
    points = _points(embeddings, labels, cosine or distance == "cosine")
    none = points.directionless
    points = points._replace(
        vectors=points.vectors[:most],
        classes=points.classes[:most],
        directionless=none if none is None else none[:most],
    )
    classes = points.classes
    rows = torch.arange(len(classes), device=classes.device)
    intra, inter, violated = Statistics(), Statistics(), 0
    for block in rows.split(_rows_in(memory, 32 * len(rows))):
        d = _distances(points, block)
        if distance != "euclidean":
            d.square_()
        if distance == "cosine":
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


def _points(embeddings: Tensor, labels: Tensor, cosine: bool) -> Points:
    if wrong := int((~embeddings.isfinite()).any(1).sum()):
        raise UserError(
            f"{wrong} of {len(embeddings)} embeddings are not finite: nothing can be retrieved "
            "with them; try a lower optimizer.lr"
        )
    vectors, directionless = embeddings.double(), None
    order = torch.randperm(len(labels), generator=generator(0, "retrieval")).to(vectors.device)
    if cosine:
        lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        directionless = (lengths < NO_DIRECTION).squeeze(1)[order]
        vectors = vectors / lengths.clamp(min=NO_DIRECTION)
    elif len(vectors):
        # Around their median, which no outlier moves.
        vectors = vectors - vectors.median(0).values
    _, classes, sizes = labels.unique(return_inverse=True, return_counts=True)
    return Points(vectors[order], classes[order], sizes, directionless)


def _distances(points: Points, rows: Tensor) -> Tensor:
    """``[m, N]`` Euclidean distances of some rows to all, to a relative error of 1e-9."""
    norms = _norms(points)
    squared = torch.addmm(norms, points.vectors[rows], points.vectors.T, alpha=-2)
    squared += norms[rows, None]
    # Half the bound: (|x| + |y|)^2 is at most twice |x|^2 + |y|^2.
    doubtful = squared * (PRECISE / 2 / _error(points)) < norms[rows, None] + norms
    doubtful[torch.arange(len(rows), device=rows.device), rows] = False
    found = squared.clamp_(min=0).sqrt_()
    if len(some := doubtful.any(1).nonzero().squeeze(1)):
        found[some] = _differences(points, rows[some])
    return found


def _differences(points: Points, rows: Tensor) -> Tensor:
    """``[m, N]`` Euclidean distances of some rows to all, from differences."""
    found = torch.cdist(
        points.vectors[rows], points.vectors, compute_mode="donot_use_mm_for_euclid_dist"
    )
    if (none := points.directionless) is not None and none.any():
        cosines = points.vectors[rows] @ points.vectors.T
        found = torch.where(none[rows, None] | none, (2 - 2 * cosines).sqrt(), found)
    return found


def _error(points: Points) -> float:
    """A of the module's bound."""
    return (2 * points.vectors.shape[1] + 16) * 2.0**-53


def _norms(points: Points) -> Tensor:
    """``[N]`` squared lengths, all 1 for cosine distance: then |x - y|^2 is 2 - 2 cos."""
    if points.directionless is not None:
        return torch.ones_like(points.vectors[:, 0])
    return points.vectors.square().sum(1)


def _rows_in(memory: int, row: int) -> int:
    """How many rows of so many bytes fit into so many MiB; at least one."""
    return max(1, memory * 2**20 // row)
