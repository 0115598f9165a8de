"""Retrieval metrics and distance statistics, against naive loops."""

from __future__ import annotations

import math
from itertools import combinations

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
    assert 0 <= found.pop("nmi") <= 1 + 1e-9
    assert all(math.isnan(value) for value in found.values()) == (not expected)
    if expected:
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
