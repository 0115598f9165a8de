"""Documents as candidates: runs that mine them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Killed, Train
from test_training import only_run, results

from minesweep.datasets.documents import Documents
from minesweep.datasets.retrieval import Retrieval
from minesweep.errors import UserError
from minesweep.models.static_embeddings import StaticEmbeddings


def pairs_file(path: Path, count: int = 60) -> Path:
    """Queries that share a word with their document; each tenth query has two."""
    lines = []
    for i in range(count):
        answers = [f"the answer {i} is w{i}"] + [f"also w{i} again"] * (i % 10 == 0)
        lines.append(json.dumps({"query": f"what is w{i}?", "positive": answers}))
    path.write_text("\n".join(lines) + "\n")
    return path


def small(path: Path) -> list[str]:
    return [
        *("dataset=retrieval", f"dataset.path={path}", "dataset.tokenizer=words"),
        *("model.table=random", "model.width=16", "logger=none", "trainer.progress=false"),
        *("trainer.batch_size=16", "trainer.max_steps=6", "trainer.eval_every=3", "logger.every=1"),
    ]


def load(path: Path, **settings: Any) -> tuple[Documents, Documents, Documents]:
    data = Retrieval(str(path), tokenizer="words", **settings).load(path.parent)
    splits = (data.train, data.val, data.test)
    assert all(isinstance(split, Documents) for split in splits)
    return splits  # type: ignore[return-value]


# --- runs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        ["miner=random_documents"],
        ["miner=random_documents", "miner.num_negatives=0"],
        ["miner=corpus", "miner.refresh=2", "miner.relative_margin=0.05"],
        ["miner=corpus", "miner.exclude=itself", "miner.sampling_strategy=random"],
        ["miner=corpus", "miner.factory=Flat", "miner.range_min=1", "miner.range_max=5"],
        ["miner=corpus", "objective.chunk=7", "objective.hardness=5"],
    ],
    ids=lambda settings: "-".join(settings),
)
def test_each_way_of_choosing_negatives_trains(
    settings: list[str], train: Train, tmp_path: Path
) -> None:
    path = pairs_file(tmp_path / "a.jsonl")
    summary = train(*settings, *small(path))
    assert 0 < summary["test/ndcg_at_10"] <= 1
    assert summary["samples/backward"] == 96
    if "miner=corpus" in settings:
        assert 0 <= summary["mining/false_negatives"] <= 1


def test_known_positives_are_never_mined_and_naive_mining_takes_them(
    train: Train, tmp_path: Path
) -> None:
    path = pairs_file(tmp_path / "a.jsonl")
    common = ["miner=corpus", "miner.num_negatives=4", *small(path)]
    assert train(*common)["mining/false_negatives"] == 0
    assert train(*common, "miner.exclude=itself")["mining/false_negatives"] > 0.1


def test_gradients_in_chunks_are_those_of_one_pass(tmp_path: Path) -> None:
    from minesweep.datasets.base import Batch
    from minesweep.miners.documents import RandomDocuments
    from minesweep.objectives.multiple_negatives import MultipleNegatives

    split, _, _ = load(pairs_file(tmp_path / "a.jsonl"))
    assert split.corpus is not None
    torch.manual_seed(0)
    model = StaticEmbeddings("random", 8, input_shape=(500,), num_classes=1).double()
    miner = RandomDocuments(2)
    pairs = split.corpus.pairs[:12]
    rows = torch.cat([pairs[:, :1] + split.documents, pairs[:, 1:], pairs[:, 1:].roll(1, 0)], 1)
    fetched = split.fetch(rows.flatten())
    batch = Batch(fetched.inputs, fetched.labels.view(rows.shape), rows)
    gradients = []
    for chunk in (None, 5):
        objective = MultipleNegatives(chunk=chunk)
        objective._corpus = split.corpus
        model.zero_grad()
        objective(model, batch, miner, 0).loss.backward()
        gradients.append(model.table.weight.grad.clone())
    assert torch.allclose(*gradients, rtol=1e-9, atol=1e-12)


def test_the_loss_is_that_of_a_loop(tmp_path: Path) -> None:
    from minesweep.datasets.base import Batch
    from minesweep.miners.documents import RandomDocuments
    from minesweep.objectives.multiple_negatives import MultipleNegatives

    split, _, _ = load(pairs_file(tmp_path / "a.jsonl"))
    assert split.corpus is not None
    torch.manual_seed(0)
    model = StaticEmbeddings("random", 8, input_shape=(500,), num_classes=1)
    pairs = split.corpus.pairs[:9]
    rows = torch.cat([pairs[:, :1] + split.documents, pairs[:, 1:], pairs[:, 1:].roll(2, 0)], 1)
    fetched = split.fetch(rows.flatten())
    batch = Batch(fetched.inputs, fetched.labels.view(rows.shape), rows)
    objective = MultipleNegatives(scale=10.0)
    objective._corpus = split.corpus
    found = objective(model, batch, RandomDocuments(1), 0)
    vectors = torch.nn.functional.normalize(model(fetched.inputs).detach(), dim=1).view(9, 3, 8)
    candidates = [(i, int(rows[i, 1]), vectors[i, 1]) for i in range(9)]
    mined = [(i, int(rows[i, 2]), vectors[i, 2]) for i in range(9)]
    for i in range(9):
        query = int(rows[i, 0]) - split.documents
        known = set(split.corpus.known.take(torch.tensor([query]))[1].tolist())
        total = 0.0
        for owner, row, vector in candidates:
            if owner == i or row not in known:
                total += math.exp(10 * float(vectors[i, 0] @ vector))
        for owner, row, vector in mined:
            if owner == i or row not in known:
                total += math.exp(10 * float(vectors[i, 0] @ vector))
        loss = math.log(total) - 10 * float(vectors[i, 0] @ vectors[i, 1])
        assert found.scores[i].item() == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["dataset=digits", "model=mlp"], "compares queries with documents"),
        (["dataset.hide_positives=1"], "hide_positives"),
        (["dataset.tokenizer=nowhere"], "tokenizer"),
        (["model.table=nowhere"], "model.table=nowhere"),
        (["miner.factory=foo"], "factory"),
        (["miner.relative_margin=2"], "relative_margin"),
    ],
)
def test_wrong_settings_are_one_line(
    wrong: list[str], told: str, train: Train, tmp_path: Path
) -> None:
    settings = ["miner=corpus", *small(pairs_file(tmp_path / "a.jsonl"))]
    if "dataset=digits" in wrong:
        settings = ["miner=corpus", "logger=none", "trainer.max_steps=2"]
    with pytest.raises(UserError, match=told):
        train(*settings, *wrong)


@pytest.mark.parametrize("search", ["miner.factory=null", "miner.factory=[IVF4,Flat]"])
def test_a_run_killed_between_two_refreshes_ends_as_an_undisturbed_one(
    search: str, train: Train, kill_at: Any, runs_dir: Path, tmp_path: Path
) -> None:
    if "IVF" in search:
        pytest.importorskip("faiss")
    further = ["miner.refresh=4", "trainer.max_steps=12", "trainer.checkpoint_every=1"]
    rules = ["miner.relative_margin=0.05", "miner.sampling_strategy=random"]
    chosen = ["miner=corpus", search, *small(pairs_file(tmp_path / "a.jsonl")), *further, *rules]
    train(*chosen, "study=whole")
    for step in (6, 11):
        kill_at(step)
        with pytest.raises(Killed):
            train(*chosen, "study=killed")
    kill_at(None)
    train(*chosen, "study=killed")
    whole, killed = (only_run(runs_dir, study) for study in ("whole", "killed"))
    assert results(whole) == results(killed)
