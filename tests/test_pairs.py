"""Random and mined pairs against naive loops, and the faults of the original."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, Train
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from minesweep.errors import UserError
from minesweep.indexes.base import Index, Neighbours
from minesweep.indexes.exact import Exact
from minesweep.miners.base import Miner, Pool, uniform_batch
from minesweep.miners.curriculum import Curriculum
from minesweep.miners.index import IndexPairs, Knn, recall
from minesweep.miners.pairs import Random
from minesweep.tracking.journal import read_rows


def pool_of(vectors: Tensor, labels: Tensor, n: int | None = None, seed: int = 0) -> Pool:
    size = len(labels)
    return Pool(size, labels, n or size, seed, 100, lambda rows: vectors[rows])


def points(size: int, classes: int, dim: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return (
        torch.randn(size, dim, generator=draws),
        torch.randint(classes, (size,), generator=draws),
    )


def ready(miner: Miner, pool: Pool) -> Any:
    miner.setup(pool)
    return miner


# --- random pairs --------------------------------------------------------------------------------

labelled = st.lists(st.integers(0, 4), min_size=2, max_size=30).filter(
    lambda labels: len(set(labels)) > 1 and len(set(labels)) < len(labels)
)


@given(labels=labelled, share=st.sampled_from([0.0, 0.3, 0.5, 1.0]), step=st.integers(0, 50))
def test_random_pairs_have_the_share_and_never_pair_a_row_with_itself(
    labels: list[int], share: float, step: int
) -> None:
    given_labels = torch.tensor(labels) * 10**12  # any integers
    pool = pool_of(torch.zeros(len(labels), 1), given_labels)
    miner = ready(Random(share), pool)
    pairs = miner.propose(pool, step)
    assert pairs.shape == (len(labels), 2)
    assert sorted(pairs[:, 0].tolist()) == list(range(len(labels)))
    positive = round(share * len(labels))
    for place, (first, second) in enumerate(pairs.tolist()):
        alone = labels.count(labels[first]) == 1
        assert first != second
        assert (labels[first] == labels[second]) == (place < positive and not alone)
    assert torch.equal(pairs, miner.propose(pool, step))


def test_every_partner_is_drawn_equally_often() -> None:
    labels = torch.tensor([0, 1, 1, 0, 1, 2, 0])
    pool = pool_of(torch.zeros(7, 1), labels)
    for share, partners in [(1.0, {0: [3, 6], 1: [2, 4]}), (0.0, {0: [1, 2, 4, 5], 5: [0, 1, 2]})]:
        miner, seen = ready(Random(share), pool), torch.zeros(7, 7)
        for step in range(3000):
            pairs = miner.propose(pool, step)
            seen[pairs[:, 0], pairs[:, 1]] += 1
        for row, others in partners.items():
            expected = 3000 / int((seen[row] > 0).sum())
            assert set(others) <= set(seen[row].nonzero().flatten().tolist())
            assert (seen[row][seen[row] > 0] - expected).abs().max() < 5 * expected**0.5


def test_the_permutation_of_the_original_can_pair_a_row_with_itself() -> None:
    """Its fault, kept as a setting: such a pair counts as a positive one that costs nothing."""
    pool = pool_of(torch.zeros(10, 1), torch.arange(10) % 2)
    faithful, ours = ready(Random(None), pool), ready(Random(0.5), pool)
    met = [bool((m.propose(pool, s)[:, 0] == m.propose(pool, s)[:, 1]).any())
           for m in (faithful, ours) for s in range(40)]  # fmt: skip
    assert any(met[:40])
    assert not any(met[40:])
    pairs = faithful.propose(pool, 3)
    assert sorted(pairs[:, 1].tolist()) == sorted(uniform_batch(pool, 3).tolist())


def test_what_the_data_cannot_give_is_told() -> None:
    with pytest.raises(UserError, match=r"all 6 training examples are of one class"):
        Random(0.5).setup(pool_of(torch.zeros(6, 1), torch.zeros(6, dtype=torch.long)))
    with pytest.raises(UserError, match=r"each of the 6 training examples is alone"):
        Random(0.5).setup(pool_of(torch.zeros(6, 1), torch.arange(6)))
    Random(1.0).setup(pool_of(torch.zeros(6, 1), torch.zeros(6, dtype=torch.long)))
    Random(0.0).setup(pool_of(torch.zeros(6, 1), torch.arange(6)))


# --- mined pairs ---------------------------------------------------------------------------------


def naive(vectors: Tensor, labels: Tensor, row: int, k: int, same: bool) -> list[float]:
    """Distances to the k furthest of the class, or the k nearest of another, in a loop."""
    found = [
        (vectors[row] - vectors[other]).double().square().sum().item()
        for other in range(len(labels))
        if other != row and (labels[other] == labels[row]) == same
    ]
    return sorted(found, reverse=same)[:k]


@settings(max_examples=30)
@given(data=st.data())
def test_mined_pairs_are_those_of_a_naive_search(data: st.DataObject) -> None:
    size, classes = data.draw(st.integers(6, 40)), data.draw(st.integers(2, 15))
    dim, k = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 12))
    vectors, labels = points(size, classes, dim, data.draw(st.integers(0, 999)))
    if data.draw(st.booleans()):
        vectors = vectors.round()  # ties and duplicates
    labels[:4] = torch.tensor([0, 0, 1, 1])
    mine = data.draw(st.sampled_from(["both", "positives", "negatives"]))
    pool = pool_of(vectors, labels, n=data.draw(st.integers(1, size)))
    miner = ready(IndexPairs(Exact(), mine, positives=0.5, k=k), pool)
    step = data.draw(st.integers(0, 20))
    pairs = miner.propose(pool, step).tolist()
    positive = round(0.5 * len(pairs))
    for place, (first, second) in enumerate(pairs):
        alone = labels.tolist().count(labels[first].item()) == 1
        same = place < positive and not alone
        assert first != second
        assert (labels[first] == labels[second]).item() == same
        if place < positive and alone:
            continue  # it has no positive, and is paired at random
        if mine in ("both", "positives" if same else "negatives"):
            allowed = naive(vectors, labels, first, k, same)
            distance = (vectors[first] - vectors[second]).double().square().sum().item()
            assert min(abs(distance - other) for other in allowed) < 1e-4 * max(1, distance)


def test_more_than_ten_classes_are_told_apart() -> None:
    """The original read one character of a label, and mined for the labels 0 and 1 alone."""
    vectors, labels = points(90, 30)
    labels = torch.arange(90) % 30
    pool = pool_of(vectors, labels)
    pairs = ready(IndexPairs(Exact(), positives=1.0, k=2), pool).propose(pool, 0)
    assert (labels[pairs[:, 0]] == labels[pairs[:, 1]]).all()
    assert len(labels[pairs].unique()) == 30


def test_the_neighbour_is_drawn_evenly_among_k() -> None:
    vectors, labels = points(50, 2)
    pool = pool_of(vectors, labels)
    miner = ready(IndexPairs(Exact(), positives=0.0, k=4), pool)
    seen: dict[int, int] = {}
    for step in range(800):
        pairs = miner.propose(pool, step)
        partner = int(pairs[pairs[:, 0] == 7][0, 1])
        seen[partner] = seen.get(partner, 0) + 1
    index = Exact()
    index.build(vectors, labels)
    assert set(seen) == set(index.negatives(torch.tensor([7]), 4).rows[0].tolist())
    assert min(seen.values()) > 150


class Blind(Index):
    """Finds nothing: what an approximate search may do."""

    def _build(self) -> None: ...

    def _negatives(self, places: Tensor, k: int) -> tuple[Tensor, Tensor]:
        return torch.full((len(places), k), torch.inf), torch.full((len(places), k), -1)

    def _positives(self, places: Tensor, k: int) -> tuple[Tensor, Tensor]:
        return -torch.full((len(places), k), torch.inf), torch.full((len(places), k), -1)


def test_an_anchor_for_which_nothing_is_found_is_paired_at_random() -> None:
    vectors, labels = points(40, 4)
    pool = pool_of(vectors, labels)
    miner = ready(IndexPairs(Blind()), pool)
    pairs = miner.propose(pool, 5)
    assert torch.equal(pairs, ready(Random(0.5), pool).propose(pool, 5))
    assert miner.metrics(5)["mining/recall_at_k"] == 0


def test_the_index_is_refreshed_when_due_and_says_how_far_it_was_left_behind() -> None:
    vectors, labels = points(60, 3)
    seen: list[int] = []

    def encode(rows: Tensor) -> Tensor:
        seen.append(len(rows))
        return vectors[rows] * len(seen)

    pool = Pool(60, labels, 20, 0, 100, encode)
    miner = ready(IndexPairs(Exact(), refresh=10, k=3, sample=16), pool)
    for step in range(25):
        miner.propose(pool, step)
        assert miner.metrics(step)["mining/staleness"] == step % 10
    assert seen == [1, 60, 60, 60]  # one row to learn the dimension
    told = miner.metrics(24)
    assert told["mining/encoded"] == 180
    assert told["mining/recall_at_k"] == told["mining/recall_at_k_positives"] == 1
    spread = (vectors - vectors.mean(0)).norm(dim=1).mean() * 4
    assert told["mining/moved"].item() == pytest.approx(
        (vectors.norm(dim=1).mean() / spread).item()
    )
    assert miner.distributions(24)["mining/negative_distance"].shape == (16, 3)
    assert set(miner.clocks()) == {f"mining/{name}_ms" for name in ("encode", "build", "query")}


def test_recall_counts_what_is_found_or_as_near() -> None:
    exact = Neighbours(
        torch.tensor([[1.0, 2.0], [1.0, torch.inf]]), torch.tensor([[3, 4], [5, -1]])
    )
    found = Neighbours(
        torch.tensor([[2.0, 9.0], [1.0, torch.inf]]), torch.tensor([[8, 9], [5, -1]])
    )
    assert recall(exact, exact, nearest=True) == 1
    assert recall(found, exact, nearest=True).item() == pytest.approx((0.5 + 1) / 2)
    assert recall(exact._replace(rows=exact.rows * 0 - 1), exact, nearest=True) == 0


def test_embeddings_that_are_no_vectors_of_the_examples_are_told() -> None:
    pool = Pool(10, torch.arange(10) % 2, 5, 0, 9, lambda rows: torch.zeros(2 * len(rows), 3))
    with pytest.raises(UserError, match="one vector for each example"):
        IndexPairs(Exact()).setup(pool)
    vectors, labels = points(20, 2)
    vectors[3] = torch.nan
    pool = pool_of(vectors, labels)
    with pytest.raises(UserError, match="NaN or infinite"):
        ready(IndexPairs(Exact()), pool).propose(pool, 0)


def test_a_misspelt_kind_and_numbers_below_1_are_told() -> None:
    with pytest.raises(UserError, match="did you mean 'negatives'"):
        IndexPairs(Exact(), mine="negative")
    with pytest.raises(UserError, match="must be at least 1"):
        IndexPairs(Exact(), refresh=0)


def test_a_batch_is_blended_and_the_curriculum_hears_of_the_random_part() -> None:
    vectors, labels = points(80, 4)
    pool = pool_of(vectors, labels, n=40)
    heard: list[tuple[int, int]] = []

    class Quarter(Curriculum):
        def share(self, step: int, steps: int) -> float:
            return 0.25

        def observe(self, losses: Tensor, random: int) -> None:
            heard.append((len(losses), random))

    miner = ready(IndexPairs(Exact(), positives=0.2, k=1, curriculum=Quarter()), pool)
    pairs = miner.propose(pool, 3)
    assert torch.equal(miner.select(torch.rand(40), step=3), torch.ones(40))
    assert heard == [(40, 30)]
    same = labels[pairs[:, 0]] == labels[pairs[:, 1]]
    assert same.tolist() == [True] * 15 + [False] * 15 + [True] * 2 + [False] * 8
    index = Exact()
    index.build(vectors, labels)
    assert pairs[32:, 1].tolist() == index.negatives(pairs[32:, 0], 1).rows[:, 0].tolist()
    assert miner.metrics(3)["mining/mined_share"] == 0.25


# --- whole runs ----------------------------------------------------------------------------------

SMALL = ["experiment=pairs/seed_knn", "dataset.size=40", "trainer.batch_size=40", "logger.every=5"]
"""The whole system reproduced, in small: 40 points, all in one batch."""


def journal(runs_dir: Path, study: str) -> list[dict[str, Any]]:
    (path,) = (runs_dir / study).glob("*/journal.jsonl")
    return read_rows(path)


def test_a_run_killed_in_a_curriculum_with_a_built_index_ends_as_an_undisturbed_one(
    train: Train, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minesweep.training.loop import Trainer

    chosen = [
        *("miner=knn", "miner.refresh=7", "miner.curriculum.window=4", "trainer.max_steps=60"),
        *("miner.curriculum.patience=1", "miner.curriculum.below=0.8", "miner.sample=32"),
        *("trainer.checkpoint_every=11", "trainer.eval_every=20", "logger.every=3"),
    ]
    train(*chosen, "study=whole")
    advance = Trainer.advance
    stages = []

    def killed_at(at: int) -> Any:
        def stop(self: Trainer, *arguments: Any) -> None:
            if self.step == at:
                stages.append((int(self.miner.curriculum.stage), int(self.miner.refreshed)))
                raise SystemExit
            advance(self, *arguments)

        return stop

    for at in (30, 41, 58):
        monkeypatch.setattr(Trainer, "advance", killed_at(at))
        with pytest.raises(SystemExit):
            train(*chosen, "study=killed")
    monkeypatch.setattr(Trainer, "advance", advance)
    train(*chosen, "study=killed")
    assert journal(runs_dir, "whole") == journal(runs_dir, "killed")
    # It was in the middle of it: mined from, and not yet all that it goes up to.
    assert stages[0][0] > 0
    assert all(0 < refreshed < 60 and refreshed % 11 for _, refreshed in stages)
    for part in ("model", "miner", "objective"):
        ends = [
            torch.load(next((runs_dir / study).glob("*/checkpoints/step-00000060.pt")))[part]
            for study in ("whole", "killed")
        ]
        assert ends[0].keys() == ends[1].keys()
        for key, value in ends[0].items():
            if isinstance(value, Tensor):
                assert torch.equal(value.nan_to_num(-9), ends[1][key].nan_to_num(-9)), key


def test_what_a_miner_tells_is_in_the_journal_and_its_clocks_are_not(
    train: Train, runs_dir: Path
) -> None:
    train("miner=knn", "curriculum@miner.curriculum=always", "logger.histogram_every=10")
    rows = journal(runs_dir, "single")
    assert rows[-1]["mining/recall_at_k"] == rows[-1]["mining/mined_share"] == 1
    assert rows[-1]["train/positive_share"] == 0.5
    assert rows[-1]["samples/backward"] == 30 * 64
    for kind in ("positive", "negative"):
        assert sum(rows[-1][f"mining/{kind}_distance_histogram"]["counts"]) == 256 * 10
    (path,) = (runs_dir / "single").glob("*/timing.jsonl")
    clocks = [row for row in read_rows(path) if "step" in row and "event" not in row][-1]
    assert clocks["mining/build_ms"] > 0
    assert clocks["mining/query_ms"] > 0
    assert not any(name.endswith("_ms") for row in rows for name in row)


def test_the_modes_of_the_original_switch_and_drop_all_negatives(
    train: Train, runs_dir: Path
) -> None:
    small = ["dataset=blobs", "trainer.max_steps=30", "trainer.batch_size=40"]
    train(*SMALL, *small, "dataset.held_out=null", "miner.curriculum.below=1e9",
          "miner.curriculum.window=10")  # fmt: skip
    shares = {row["step"]: row["mining/mined_share"] for row in journal(runs_dir, "single")}
    assert shares == {1: 0, 5: 0, 10: 0, 15: 1, 20: 1, 25: 1, 30: 1}
    positive = {row["step"]: row["train/positive_share"] for row in journal(runs_dir, "single")}
    assert positive[5] < 0.9
    assert positive[15] == positive[30] == 1


def test_positives_alone_trip_the_alarm_of_negatives_inside_the_margin(
    train: Train, caplog: pytest.LogCaptureFixture
) -> None:
    """Its seed 1 ended with every negative pair inside its own margin, and nothing said so."""
    train(*SMALL, "dataset=blobs", "dataset.held_out=null", "trainer.batch_size=40",
          "trainer.max_steps=80", "miner.curriculum.below=1e9",
          "miner.curriculum.window=5")  # fmt: skip
    (told,) = [r.getMessage() for r in caplog.records if "inside the margin" in r.getMessage()]
    assert "100 % of the negatives are inside the margin of 50" in told
    assert "miner.positives below 1" in told


def test_kept_negatives_trip_no_such_alarm(train: Train, caplog: pytest.LogCaptureFixture) -> None:
    train("miner=knn", "curriculum@miner.curriculum=always", "trainer.max_steps=80")
    assert not [r for r in caplog.records if "inside the margin" in r.getMessage()]


def test_pairs_import_neither_cuda_nor_faiss() -> None:
    """The original loaded a CUDA library on import, so that not even random pairs ran without."""
    code = (
        "import sys, minesweep.miners.index, minesweep.miners.pairs, torch\n"
        "print(torch.cuda.is_initialized(), 'faiss' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.split() == ["False", "False"]


def test_any_index_of_faiss_finds_what_exact_search_finds_where_it_looks_everywhere() -> None:
    pytest.importorskip("faiss")
    vectors, labels = points(300, 5, dim=8)
    pool = pool_of(vectors, labels, n=64)
    exact = ready(Knn(k=3), pool)
    for factory in ("Flat", ["IVF4", "Flat"]):
        searched = ready(Knn(factory, {"nprobe": 4} if factory != "Flat" else None, k=3), pool)
        for step in (0, 60):
            assert torch.equal(searched.propose(pool, step), exact.propose(pool, step))
        assert searched.metrics(60)["mining/recall_at_k"] == 1
    approximate = ready(Knn("LSH", k=3), pool)
    approximate.propose(pool, 0)
    assert 0 < approximate.metrics(0)["mining/recall_at_k"] < 1
    with pytest.raises(UserError, match="factory=Nonsense describes no FAISS index"):
        ready(Knn("Nonsense"), pool).propose(pool, 0)
