"""Indexes against a naive search, and every edge where a neighbour can be missing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from minesweep.errors import UserError
from minesweep.indexes import search, trees
from minesweep.indexes.base import Index, Neighbours
from minesweep.indexes.class_lists import ClassLists
from minesweep.indexes.exact import Exact
from minesweep.indexes.faiss import Factory
from minesweep.indexes.lsh import Lsh

ALL = 10**6
COMPLETE: dict[str, Callable[[int], Index]] = {
    "exact": lambda memory: Exact(memory),
    "class lists": lambda memory: ClassLists(ALL, memory),
    "lsh": lambda memory: Lsh(8, shortlist=ALL, memory=memory),
    "flat": lambda memory: Factory("Flat", memory=memory),
    "ivf": lambda memory: Factory("IVF3,Flat", "nprobe=3", memory=memory),
    "faiss lsh": lambda memory: Factory("LSH", shortlist=ALL, memory=memory),
}
"""Every index, set so that it can miss nothing."""

ROUGH: dict[str, Callable[[], Index]] = {
    "class lists": lambda: ClassLists(1),
    "lsh": lambda: Lsh(16, shortlist=1),
    "ivf": lambda: Factory("IVF16,Flat", "nprobe=1"),
    "hnsw": lambda: Factory("HNSW8"),
    "sq": lambda: Factory("SQ8"),
}

FACTORIES = ("Flat", "IVF8,Flat", "HNSW8", "LSH", "SQ8", "PCA4,Flat", "IVF8,SQ8,RFlat")

Case = tuple[Tensor, Tensor, Tensor, int]


def naive(vectors: Tensor, labels: Tensor, rows: Tensor, k: int, nearest: bool) -> Neighbours:
    """Each row by itself, in float64: by distance, then by row."""
    points, classes = vectors.double().numpy(), labels.tolist()
    distances, found = [], []
    sign = 1 if nearest else -1
    for row in rows.tolist():
        far = ((points - points[row]) ** 2).sum(1)
        others = [
            (sign * far[j], j)
            for j in range(len(points))
            if j != row and (classes[j] != classes[row]) == nearest
        ]
        best = sorted(others)[:k]
        missing = k - len(best)
        distances.append([sign * d for d, _ in best] + [sign * math.inf] * missing)
        found.append([j for _, j in best] + [-1] * missing)
    return Neighbours(torch.tensor(distances, dtype=torch.double), torch.tensor(found))


def same(found: Tensor, true: Tensor) -> None:
    torch.testing.assert_close(found.double(), true.double(), rtol=1e-5, atol=1e-6)


def points(
    n: int, dim: int, classes: int, seed: int, kind: str = "normal"
) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=draws)
    if kind == "ties":
        return torch.randint(3, (n, dim), generator=draws).float(), labels
    vectors = torch.randn(n, dim, generator=draws)
    if kind == "clusters":
        vectors = torch.randn(classes, dim, generator=draws)[labels] + 0.1 * vectors
    return vectors, labels


@st.composite
def cases(draw: st.DrawFn) -> Case:
    n = draw(st.sampled_from([3, 9, 60, 300]))
    classes = draw(st.sampled_from([1, 2, 7, 40, n]))
    kind = draw(st.sampled_from(["normal", "ties", "clusters"]))
    vectors, labels = points(n, draw(st.integers(1, 9)), classes, draw(st.integers(0, 99)), kind)
    rows = draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=12))
    return vectors, labels, torch.tensor(rows), draw(st.sampled_from([1, 3, 8, 20]))


def check(index: Index, case: Case, same_rows: bool) -> None:
    vectors, labels, rows, k = case
    index.build(vectors, labels)
    for ask, nearest in ((index.negatives, True), (index.positives, False)):
        found, expected = ask(rows, k), naive(vectors, labels, rows, k, nearest)
        same(found.distances, expected.distances)
        if same_rows:
            assert torch.equal(found.rows, expected.rows)
        valid(found, case, nearest)


def valid(found: Neighbours, case: Case, nearest: bool) -> None:
    """Right classes, true distances, in order, none twice, none that is there left out."""
    vectors, labels, rows, k = case
    there = found.rows >= 0
    counts = (labels == labels[rows, None]).sum(1)
    assert there.sum(1).tolist() == [
        min(k, int(len(labels) - c if nearest else c - 1)) for c in counts
    ]
    true = (vectors[found.rows] - vectors[rows, None]).square().sum(2)
    same(found.distances[there], true[there])
    assert ((labels[found.rows] != labels[rows, None]) == nearest)[there].all()
    assert (found.distances[~there] == (math.inf if nearest else -math.inf)).all()
    steps = found.distances[:, 1:] - found.distances[:, :-1]
    assert ((steps if nearest else -steps).nan_to_num(0) >= 0).all()
    for row, others in zip(rows.tolist(), found.rows.tolist(), strict=True):
        others = [other for other in others if other >= 0]
        assert len({row, *others}) == 1 + len(others)


@pytest.mark.parametrize("memory", [1, 64])
@pytest.mark.parametrize("name", COMPLETE)
@settings(max_examples=30, deadline=None)
@given(case=cases())
def test_every_index_that_misses_nothing_is_the_naive_search(
    name: str, memory: int, case: Case
) -> None:
    check(COMPLETE[name](memory), case, same_rows=name in ("exact", "class lists"))


@pytest.mark.parametrize("name", ROUGH)
@settings(max_examples=15, deadline=None)
@given(case=cases().filter(lambda case: len(case[0]) == 300))
def test_what_an_approximate_index_finds_is_valid_and_never_too_little(
    name: str, case: Case
) -> None:
    vectors, labels, rows, k = case
    index = ROUGH[name]()
    index.build(vectors, labels)
    valid(index.negatives(rows, k), case, nearest=True)
    assert 0 <= index.candidates <= len(vectors)
    valid(index.positives(rows, k), case, nearest=False)


@settings(max_examples=30, deadline=None)
@given(case=cases())
def test_trees_over_the_classes_are_the_naive_search(case: Case) -> None:
    vectors, labels, rows, k = case
    vectors = vectors[:, :3]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trees, "_PER_LEVEL", 1)
        check(Exact(), (vectors, labels, rows, k), same_rows=True)


@pytest.mark.parametrize("kind", ["normal", "ties", "clusters"])
@pytest.mark.parametrize("classes", [2, 12, 900])
def test_exact_search_in_many_blocks(kind: str, classes: int) -> None:
    """More points than fit in one block, and more rows than are searched at once."""
    vectors, labels = points(6000, 24, classes, seed=1, kind=kind)
    draws = torch.Generator().manual_seed(2)
    rows = torch.randperm(6000, generator=draws)[:300]
    index = Exact(memory=1)
    index.build(vectors, labels)
    some = rows[::30]
    for ask, nearest in ((index.negatives, True), (index.positives, False)):
        found = ask(rows, 10)
        expected = naive(vectors, labels, some, 10, nearest)
        assert torch.equal(found.rows[::30], expected.rows)


def test_a_search_by_products_is_proved_or_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Far from the origin a float32 product is worth little; and ties fill every group."""
    again: list[int] = []
    direct = search.direct

    def counted(*words: Any) -> Any:
        again.append(len(words[3]))
        return direct(*words)

    monkeypatch.setattr(search, "direct", counted)
    draws = torch.Generator().manual_seed(0)
    vectors, labels = points(3000, 16, 5, seed=0)
    spread = 10.0 ** torch.randint(-3, 4, (3000, 1), generator=draws)
    for hard, expected in ((vectors, 0), (vectors * spread, None), (vectors * 0 + 3, 40)):
        again.clear()
        rows = torch.arange(0, 3000, 75)
        index = Exact()
        index.build(hard, labels)
        found, truth = index.negatives(rows, 8), naive(hard, labels, rows, 8, True)
        same(found.distances, truth.distances)
        assert expected is None or sum(again) == expected
    assert torch.equal(found.rows, truth.rows)  # all coincide: the lowest rows


def test_a_lowered_matmul_precision_changes_nothing() -> None:
    vectors, labels = points(3000, 32, 10, seed=3)
    index = Exact()
    index.build(vectors, labels)
    rows = torch.arange(100)
    expected = index.negatives(rows, 8)
    torch.set_float32_matmul_precision("medium")
    try:
        found = index.negatives(rows, 8)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(found.rows, expected.rows)


# --- edges -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMPLETE)
def test_edges(name: str) -> None:
    vectors, labels = points(40, 4, 3, seed=5)
    labels[7] = -5  # alone in its class; the classes between are empty
    labels[labels == 2] = 10**12
    index = COMPLETE[name](8)
    index.build(vectors.double(), labels)
    none = index.negatives(torch.empty(0, dtype=torch.long), 3)
    assert none.rows.shape == none.distances.shape == (0, 3)
    alone = index.positives(torch.tensor([7]), 2)
    assert alone.rows.tolist() == [[-1, -1]]
    assert alone.distances.tolist() == [[-math.inf, -math.inf]]
    everything = index.negatives(torch.tensor([7, 7, 0]), 100)
    assert sorted(everything.rows[0, :39].tolist()) == [row for row in range(40) if row != 7]
    assert (everything.rows[0, 39:] == -1).all()
    assert torch.equal(everything.rows[0], everything.rows[1])
    index.build(vectors, torch.zeros(40, dtype=torch.long))
    assert (index.negatives(torch.arange(40), 3).rows == -1).all()
    assert (index.positives(torch.arange(40), 39).rows >= 0).all()
    index.build(vectors[:3], torch.arange(3))
    assert (index.positives(torch.tensor([0]), 2).rows == -1).all()
    assert (index.negatives(torch.tensor([0]), 2).rows > 0).all()


@pytest.mark.parametrize("name", COMPLETE)
def test_broken_embeddings_are_told(name: str) -> None:
    vectors, labels = points(40, 4, 3, seed=5)
    for bad in (math.nan, math.inf, 1e20):
        broken = vectors.clone()
        broken[[11, 30], 2] = bad
        with pytest.raises(UserError, match=r"^2 of 40 embeddings are NaN .*first is row 11\)"):
            COMPLETE[name](8).build(broken, labels)
    with pytest.raises(UserError, match=r"\[40, 4\] and \[39\]"):
        COMPLETE[name](8).build(vectors, labels[:39])


def test_wrong_settings_are_told() -> None:
    vectors, labels = points(300, 16, 3, seed=5)
    index = Exact()
    index.build(vectors, labels)
    with pytest.raises(UserError, match="k=0"):
        index.negatives(torch.arange(3), 0)
    wrong: list[tuple[Callable[[], Any], str]] = [
        (lambda: Exact(0), "memory=0"),
        (lambda: Lsh(n_bits=60), "n_bits=60 must be a multiple of 8, such as 64"),
        (lambda: Lsh(shortlist=0), "shortlist=0"),
        (lambda: ClassLists(0), "n_probes=0"),
        (lambda: Factory("Flt").build(vectors, labels), "factory=Flt .*could not parse"),
        (lambda: Factory("PQ7").build(vectors, labels), "factory=PQ7 .*multiple of the number"),
        (lambda: Factory("IVF999,Flat").build(vectors, labels), "from 300 embeddings .*clusters"),
        (lambda: Factory("IVF4,Flat", "nprob=2").build(vectors, labels), "parameters=nprob=2"),
    ]
    for make, message in wrong:
        with pytest.raises(UserError, match=message) as caught:
            make()
        assert "\n" not in str(caught.value)
        assert ".cpp" not in str(caught.value)


@pytest.mark.parametrize("name", COMPLETE)
def test_the_same_settings_give_the_same_answer(name: str) -> None:
    vectors, labels = points(500, 8, 4, seed=9)
    answers = []
    for _ in range(2):
        index = COMPLETE[name](8)
        index.build(vectors, labels)
        index.build(vectors, labels)
        answers.append(index.negatives(torch.arange(50), 5))
    assert torch.equal(answers[0].rows, answers[1].rows)
    assert torch.equal(answers[0].distances, answers[1].distances)


def test_neighbours_of_another_class_behind_hundreds_of_the_same() -> None:
    """Clustered embeddings: the first 600 neighbours of every row are of its own class."""
    vectors, labels = points(2400, 8, 4, seed=4, kind="clusters")
    rows = torch.arange(0, 2400, 60)
    truth = naive(vectors, labels, rows, 5, True)
    plain = torch.cdist(vectors[rows], vectors).topk(500, 1, largest=False).indices
    assert (labels[plain] == labels[rows, None]).all()
    for factory in FACTORIES:
        index = Factory(factory)
        index.build(vectors, labels)
        found = index.negatives(rows, 5)
        valid(found, (vectors, labels, rows, 5), nearest=True)
        if factory == "Flat":
            assert torch.equal(found.rows, truth.rows)


# --- memory ------------------------------------------------------------------------------------


class Sizes(TorchDispatchMode):
    """Bytes of the tensors alive that were made inside, at most."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for part in out if isinstance(out, tuple | list) else [out]:
            if isinstance(part, Tensor):
                self.largest = max(self.largest, part.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize("memory", [1, 4])
@pytest.mark.parametrize("kind", ["normal", "ties"])
def test_no_block_is_larger_than_the_memory_setting(memory: int, kind: str) -> None:
    """One distance for each of the 100 rows and the points alone would be 4.6 MiB."""
    vectors, labels = points(12_000, 4, 30, seed=0, kind=kind)
    for index in (Exact(memory), ClassLists(2, memory), Lsh(64, memory=memory)):
        index.build(vectors, labels)
        with Sizes() as sizes:
            index.negatives(torch.arange(100), 10)
            index.positives(torch.arange(100), 10)
        kept = vectors.untyped_storage().nbytes() * 8 // 4  # the norms' like: one number a point
        assert sizes.largest <= max(memory * 2**20, kept), type(index)


# --- the device --------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("classes", [3, 300])
def test_on_a_gpu_as_on_the_cpu(classes: int) -> None:
    vectors, labels = points(20_000, 32, classes, seed=1)
    rows = torch.arange(0, 20_000, 40)
    for make in (Exact, lambda: ClassLists(4)):
        answers = []
        for device in ("cpu", "cuda"):
            index = make()
            index.build(vectors.to(device), labels.to(device))
            some = index.negatives(rows.to(device), 16), index.positives(rows.to(device), 16)
            assert some[0].rows.device.type == device
            answers.append([part.rows.cpu() for part in some])
        for ours, theirs in zip(*answers, strict=True):
            assert torch.equal(ours, theirs)
