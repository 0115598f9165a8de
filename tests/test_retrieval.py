"""Retrieval metrics and distance statistics, against naive loops."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from minesweep.datasets.base import Split
from minesweep.errors import UserError
from minesweep.evaluation.embed import embed
from minesweep.evaluation.retrieval import distances, retrieval
from minesweep.models.embedding_mlp import EmbeddingMLP
from minesweep.objectives.contrastive import Contrastive

AT = (1, 3, 100)


def naive(vectors: list[list[float]], labels: list[int]) -> dict[str, float]:
    """Everything but NMI, a query at a time."""
    found: dict[str, list[float]] = {}
    for q, query in enumerate(vectors):
        others = [i for i in range(len(vectors)) if i != q]
        relevant = sum(labels[i] == labels[q] for i in others)
        if not relevant:
            continue
        others.sort(key=lambda i: math.dist(query, vectors[i]))
        hits = [labels[i] == labels[q] for i in others]
        precisions = [sum(hits[: i + 1]) / (i + 1) for i in range(relevant) if hits[i]]
        values = {
            "precision_at_1": hits[0],
            "r_precision": sum(hits[:relevant]) / relevant,
            "mean_average_precision_at_r": sum(precisions) / relevant,
            **{f"recall_at_{k}": any(hits[:k]) for k in AT},
        }
        for name, value in values.items():
            found.setdefault(name, []).append(float(value))
    return {name: sum(values) / len(values) for name, values in found.items()}


def points(size: int, dim: int, classes: int, seed: int, apart: float = 1.0):
    draws = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (size,), generator=draws)
    centres = torch.randn(classes, dim, generator=draws, dtype=torch.double)
    noise = torch.randn(size, dim, generator=draws, dtype=torch.double)
    return apart * centres[labels] + noise, labels


cases = {
    "size": st.integers(2, 40),
    "dim": st.integers(1, 6),
    "classes": st.integers(1, 12),
    "seed": st.integers(0, 1000),
}


@settings(max_examples=30, deadline=None)
@given(**cases)
def test_retrieval_is_what_loops_say(size: int, dim: int, classes: int, seed: int) -> None:
    vectors, labels = points(size, dim, classes, seed)
    expected = naive(vectors.tolist(), labels.tolist())
    # Labels beyond 2^24, where float32 no longer tells neighbours apart.
    found = retrieval(vectors, labels + 2**40, at=AT)
    nmi = found.pop("nmi")
    assert math.isnan(nmi) == math.isnan(found["precision_at_1"])
    assert math.isnan(nmi) or 0 <= nmi <= 1 + 1e-9
    if not expected or labels.unique().numel() == 1:
        assert all(math.isnan(value) for value in found.values())
    else:
        assert found == pytest.approx(expected, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(**cases, distance=st.sampled_from(["euclidean", "squared_euclidean", "cosine"]))
def test_distances_are_what_loops_say(size, dim, classes, seed, distance) -> None:
    vectors, labels = points(size, dim, classes, seed)

    def between(i: int, j: int) -> float:
        if distance == "cosine":
            return 1 - functional.cosine_similarity(vectors[i], vectors[j], dim=0).item()
        return math.dist(vectors[i], vectors[j]) ** (2 if distance[0] == "s" else 1)

    pairs = {(i, j): between(i, j) for i, j in combinations(range(size), 2)}
    intra = [d for (i, j), d in pairs.items() if labels[i] == labels[j]]
    inter = [d for (i, j), d in pairs.items() if labels[i] != labels[j]]
    found = distances(vectors, labels, margin=0.7, distance=distance)
    nan = float("nan")
    expected = {
        "intra/mean": sum(intra) / len(intra) if intra else nan,
        "intra/max": max(intra, default=nan),
        "inter/min": min(inter, default=nan),
        "inter/mean": sum(inter) / len(inter) if inter else nan,
        "violated_share": sum(d < 0.7 for d in inter) / len(inter) if inter else nan,
    }
    assert found == pytest.approx(expected, abs=1e-7, nan_ok=True)


def test_small_blocks_change_nothing() -> None:
    vectors, labels = points(700, 8, 5, seed=1)
    # With 0 MiB a block is one row.
    assert retrieval(vectors, labels, memory=0) == pytest.approx(retrieval(vectors, labels))
    small = distances(vectors, labels, margin=3.0, memory=0)
    assert small == pytest.approx(distances(vectors, labels, margin=3.0))
    assert 0 < small["violated_share"] < 1


def test_a_sample_of_queries_estimates_all_and_is_the_same_each_time() -> None:
    vectors, labels = points(3000, 8, 6, seed=2)
    whole, part = retrieval(vectors, labels), retrieval(vectors, labels, most=800)
    assert part == retrieval(vectors, labels, most=800) != whole
    for name, value in part.items():
        assert value == pytest.approx(whole[name], abs=0.05), name
    some = distances(vectors, labels, 3.0, most=500)
    assert some == distances(vectors, labels, 3.0, most=500)
    assert some["inter/mean"] == pytest.approx(distances(vectors, labels, 3.0)["inter/mean"], 0.02)


def test_clusters_far_apart_are_perfect_and_noise_is_chance() -> None:
    vectors, labels = points(600, 4, 3, seed=3, apart=1000.0)
    assert set(retrieval(vectors, labels).values()) == {1.0}
    noise, _ = points(600, 4, 1, seed=4)
    found = retrieval(noise, labels)
    assert found["precision_at_1"] == pytest.approx(1 / 3, abs=0.06)
    assert found["nmi"] < 0.03


def test_a_collapsed_model_scores_by_chance_whatever_the_order_of_its_rows() -> None:
    labels = torch.arange(1000) // 100  # class after class
    found = retrieval(torch.full((1000, 3), 2.5), labels)
    assert found["precision_at_1"] < 0.2
    assert found["mean_average_precision_at_r"] < 0.1
    assert found["nmi"] == 0
    still = distances(torch.full((1000, 3), 2.5), labels, margin=1.0)
    assert still["inter/mean"] == 0
    assert still["violated_share"] == 1


def test_tight_clusters_far_from_the_origin_keep_their_digits() -> None:
    vectors, labels = points(300, 3, 2, seed=5, apart=20.0)
    moved = (vectors * 1e-3 + 100).float()
    near = retrieval(vectors.float(), labels)
    assert retrieval(moved, labels) == pytest.approx(near, abs=0.02)
    assert near["precision_at_1"] == 1


def bounds(vectors: Tensor, labels: Tensor) -> tuple[dict[str, float], dict[str, float]]:
    """Metrics by float64 differences, with the worst and with the best order of equal distances."""
    rows, classes = vectors.double().numpy(), labels.numpy()
    apart = np.square(rows[:, None] - rows).sum(2)
    same = classes[:, None] == classes
    np.fill_diagonal(apart, np.inf)
    relevant = same.sum(1) - 1
    order = apart.argsort(1)
    sorted_apart = np.take_along_axis(apart, order, 1)
    # Equal up to the rounding of the sum: whose squares are added first is left open.
    gaps = np.diff(sorted_apart, prepend=-1) > 1e-14 * sorted_apart
    places = np.empty_like(order)
    np.put_along_axis(places, order, gaps.cumsum(1), 1)
    found = []
    for sign in (1, -1):
        ranked = np.stack([np.lexsort((sign * s, p)) for s, p in zip(same, places, strict=True)])
        hits = np.take_along_axis(same, ranked, 1)[:, :-1][relevant > 0]
        r = relevant[relevant > 0][:, None]
        rank = np.arange(1, hits.shape[1] + 1)
        precisions = np.where(hits & (rank <= r), hits.cumsum(1) / rank, 0.0)
        found.append(
            {
                "precision_at_1": hits[:, 0].mean(),
                "r_precision": ((hits & (rank <= r)).sum(1, keepdims=True) / r).mean(),
                "mean_average_precision_at_r": (precisions.sum(1, keepdims=True) / r).mean(),
            }
        )
    return found[0], found[1]


@pytest.mark.parametrize("part", range(10))
def test_ranks_are_exact_under_outliers_and_offsets(part: int) -> None:
    """200 cases: offsets up to 1e8, outliers of 1e6 and 1e8, both precisions."""
    for case in range(20):
        seed = 20 * part + case
        draws = torch.Generator().manual_seed(seed)
        size, dim = 30 + 4 * case, 1 + seed % 17
        vectors, labels = points(size, dim, 3, seed, apart=0.5 + case % 3)
        vectors += [0.0, 1.0, 1e3, 1e6, 1e8][case % 5] * torch.randn(dim, generator=draws).double()
        for outlier in range(case % 4):
            vectors[outlier, outlier % dim] += (1e6, 1e8)[seed % 2]
        if case % 2:
            vectors = vectors.float()
        worst, best = bounds(vectors, labels)
        found = retrieval(vectors, labels)
        for name in worst:
            assert worst[name] - 1e-12 <= found[name] <= best[name] + 1e-12, (seed, name)
        apart = distances(vectors, labels, margin=3.0)
        exact = (vectors.double()[:, None] - vectors.double()).square().sum(2).sqrt()
        other = exact[labels[:, None] != labels]
        assert apart["inter/min"] == pytest.approx(other.min().item(), rel=1e-8, abs=1e-12)
        assert apart["inter/mean"] == pytest.approx(other.mean().item(), rel=1e-8)
        assert apart["violated_share"] == (other < 3.0).double().mean().item()


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_the_distance_of_a_zero_vector_is_the_losss(distance: str) -> None:
    vectors = torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0], [4.0, -3.0], [0.0, 2.0]])
    labels = torch.tensor([0, 0, 1, 0, 1])
    loss = Contrastive(margin=1.0, distance=distance)
    units = loss.vectors(vectors)
    pairs = {(i, j): loss.between(units[i], units[j]).item() for i, j in combinations(range(5), 2)}
    intra = [d for (i, j), d in pairs.items() if labels[i] == labels[j]]
    inter = [d for (i, j), d in pairs.items() if labels[i] != labels[j]]
    found = distances(vectors, labels, margin=0.9, distance=distance)
    assert found["intra/mean"] == pytest.approx(sum(intra) / len(intra))
    assert found["inter/min"] == pytest.approx(min(inter))
    assert found["violated_share"] == sum(d < 0.9 for d in inter) / len(inter)
    if distance == "cosine":
        assert pairs[0, 1] == pairs[0, 2] == 1
        # In Euclidean units, as the objective logs it: sqrt(2 * cosine distance).
        chords = distances(vectors, labels, margin=0.9, cosine=True)
        assert chords["intra/max"] == pytest.approx(math.sqrt(2 * max(intra)))
        # By cosine the zero vectors are no nearer to each other than to what is at right angles.
        ranks = retrieval(vectors[[0, 1, 4]], labels[[0, 1, 4]], cosine=True)
        assert ranks["recall_at_1"] <= 1


def test_retrieval_needs_two_classes_and_a_pair() -> None:
    vectors = torch.randn(5, 2)
    for labels in (torch.zeros(5), torch.arange(5)):
        assert all(math.isnan(value) for value in retrieval(vectors, labels).values())
    assert all(math.isnan(value) for value in retrieval(vectors[:0], torch.zeros(0)).values())


def test_not_finite() -> None:
    vectors, labels = points(20, 3, 2, seed=0)
    vectors[3, 1] = float("nan")
    for call in (lambda: retrieval(vectors, labels), lambda: distances(vectors, labels, 1.0)):
        with pytest.raises(UserError, match="1 of 20 embeddings are not finite"):
            call()
    with pytest.raises(UserError, match="did you mean 'euclidean'"):
        distances(vectors, labels, 1.0, distance="euclid")


def test_nothing_is_drawn_from_the_global_generator() -> None:
    vectors, labels = points(50, 3, 2, seed=0)
    before = torch.get_rng_state()
    retrieval(vectors, labels)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.gpu
def test_a_gpu_finds_the_same() -> None:
    vectors, labels = points(3000, 16, 7, seed=6)
    there = vectors.cuda(), labels.cuda()
    assert retrieval(*there) == pytest.approx(retrieval(vectors, labels))
    assert distances(*there, 3.0) == pytest.approx(distances(vectors, labels, 3.0))


# --- embeddings of a split ---


def test_a_projection_head_is_passed_by() -> None:
    torch.manual_seed(0)
    model = EmbeddingMLP([8], dim=4, projection=2, input_shape=(5,), num_classes=3)
    split = Split(torch.randn(10, 5), torch.arange(10) % 3)
    vectors, labels = embed(model, split, chunk=3)
    torch.testing.assert_close(vectors, model.body(split.inputs))
    assert torch.equal(labels, split.labels)
    rows = torch.tensor([7, 2])
    some, their_labels = embed(model, split, rows)
    torch.testing.assert_close(some, vectors[rows])
    assert their_labels.tolist() == [1, 2]


def test_pairs_give_two_embeddings_each() -> None:
    class Pairs(Split):
        def fetch(self, rows: Tensor):
            batch = super().fetch(rows)
            return type(batch)(torch.cat([batch.inputs, -batch.inputs]), batch.labels, rows)

    split = Pairs(torch.arange(12.0).view(6, 2), torch.arange(6))
    vectors, labels = embed(nn.Identity(), split, chunk=4)
    assert torch.equal(vectors, torch.cat([split.inputs, -split.inputs]))
    assert labels.tolist() == [*range(6), *range(6)]
