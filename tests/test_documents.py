"""Documents as candidates: files, and runs that mine them."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Train

from minesweep.datasets.documents import Documents
from minesweep.datasets.retrieval import Retrieval, limited, linked
from minesweep.datasets.retrieval_files import read_collection
from minesweep.errors import UserError
from minesweep.models.static_embeddings import StaticEmbeddings

# --- files -----------------------------------------------------------------------------------


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


def test_pairs_are_read_alike_from_jsonl_csv_and_beir(tmp_path: Path) -> None:
    found = read_collection(pairs_file(tmp_path / "a.jsonl"))
    table = tmp_path / "a.csv"
    lines = ["\ufeffanchor,positive"]
    lines += [f'"{found.queries[q]}","{found.documents[d]}"' for q, d in found.pairs]
    table.write_text("\n".join(lines))
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    for name, texts in (("corpus", found.documents), ("queries", found.queries)):
        rows = [json.dumps({"_id": f"{name}{i}", "text": text}) for i, text in enumerate(texts)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
    rows = ["query-id\tcorpus-id\tscore"]
    rows += [f"queries{q}\tcorpus{d}\t1" for q, d in found.pairs]
    (folder / "qrels" / "all.tsv").write_text("\n".join([*rows, "queries0\tcorpus1\t0"]))
    for path in (table, folder):
        again = read_collection(path)
        assert (again.queries, again.pairs) == (found.queries, found.pairs)
        assert again.documents == found.documents
        assert not again.notes


def test_a_limit_keeps_whole_groups_and_the_documents_that_answer_nothing(tmp_path: Path) -> None:
    further = tmp_path / "more.txt"
    further.write_text("of nobody\n")
    found = read_collection(pairs_file(tmp_path / "a.jsonl"), further)
    groups = linked(found)
    left, kept = limited(found, groups, 7, np.random.default_rng(0))
    assert len(left.queries) == 7
    assert "of nobody" in left.documents
    wanted = [(found.queries[q], found.documents[d]) for q, d in found.pairs]
    named = [(left.queries[q], left.documents[d]) for q, d in left.pairs]
    assert named == [pair for pair in wanted if pair[0] in left.queries]
    assert len(left.documents) == len({d for _, d in named}) + 1
    rows = [found.documents.index(text) for text in left.documents]
    rows += [len(found.documents) + found.queries.index(text) for text in left.queries]
    assert (kept == groups[rows]).all()


@pytest.mark.skipif(importlib.util.find_spec("wordllama") is None, reason="needs the extra 'text'")
def test_the_first_numbers_of_wordllamas_table_serve_alone() -> None:
    whole = StaticEmbeddings(input_shape=(32000,), num_classes=1).table.weight
    part = StaticEmbeddings(width=64, input_shape=(32000,), num_classes=1).table.weight
    torch.testing.assert_close(part, whole[:, :64], rtol=0, atol=0)
    with pytest.raises(UserError, match=r"model.width=300 must be 1 to 256"):
        StaticEmbeddings(width=300, input_shape=(32000,), num_classes=1)


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"query": "a", "positive": "b"}\n\n{"query": "a", "positive": "b"}\n'
        '{"query": "", "positive": "c"}\n{"query": "d", "positive": []}\n'
        '{"query": "e", "positive": " "}\n'
    )
    further = tmp_path / "more.txt"
    further.write_text("x\n\nb\nx\n")
    found = read_collection(path, further)
    assert found.documents == ["b", "x"]
    assert found.notes == [
        "1 queries are empty",
        "2 queries have no positive",
        "1 pairs are there twice",
        "2 documents of more.txt are there twice",
        "1 documents of more.txt are empty",
    ]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.jsonl", '{"query": "a", "positive": "b"}\n{"query": \n', "line 2 is not JSON"),
        ("a.jsonl", "[1, 2]\n", "line 1 is not a JSON object"),
        ("a.jsonl", '{"qery": "a", "positive": "b"}\n', "there is no query; its keys are qery"),
        ("a.jsonl", '{"query": "a"}\n', "there is no positive"),
        ("a.jsonl", '{"query": "a", "positive": [1]}\n', "positive is not a list of texts"),
        ("a.jsonl", '{"query": {"a": 1}, "positive": "b"}\n', "query is not a text"),
        ("a.jsonl", "", "holds no query with a positive"),
        ("a.csv", "x,y\n1,2\n", "there is no query"),
        ("b.jsonl", None, "is not there"),
    ],
)
def test_broken_files_are_one_line(name: str, text: str | None, told: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=told):
        read_collection(tmp_path / name)


def test_a_file_that_is_not_utf8_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"query": "\xff\xfe", "positive": "b"}')
    with pytest.raises(UserError, match="not UTF-8"):
        read_collection(tmp_path / "a.jsonl")


def test_beir_needs_its_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no corpus\.jsonl"):
        read_collection(tmp_path)
    for name in ("corpus", "queries"):
        (tmp_path / f"{name}.jsonl").write_text('{"_id": "1", "text": "a"}\n')
    with pytest.raises(UserError, match="no qrels"):
        read_collection(tmp_path)


def load(path: Path, **settings: Any) -> tuple[Documents, Documents, Documents]:
    data = Retrieval(str(path), tokenizer="words", **settings).load(path.parent)
    splits = (data.train, data.val, data.test)
    assert all(isinstance(split, Documents) for split in splits)
    return splits  # type: ignore[return-value]


def test_splits_share_no_linked_text(tmp_path: Path) -> None:
    train, val, test = load(pairs_file(tmp_path / "a.jsonl"))
    assert train.corpus is not None
    asked = [
        {split.texts[int(split.inputs[row])] for row in split.queries.tolist()}
        for split in (train, val, test)
    ]
    assert not asked[0] & asked[1]
    assert not asked[0] & asked[2]
    assert not asked[1] & asked[2]
    mined = {train.texts[int(row)] for row in train.inputs[: train.documents]}
    for split in (val, test):
        answers = {split.texts[int(row)] for row in split.relevant.rows}
        assert answers
        assert not answers & mined
        assert split.documents == 66  # evaluation searches all


def test_hidden_positives_are_unknown_to_mining_and_known_to_the_log(tmp_path: Path) -> None:
    path = pairs_file(tmp_path / "a.jsonl")
    whole, half = load(path)[0].corpus, load(path, hide_positives=0.5)[0].corpus
    assert whole is not None
    assert half is not None
    assert len(half.pairs) == round(len(whole.pairs) / 2)
    assert len(half.known.rows) == len(half.pairs)
    assert len(half.answers.rows) >= len(half.known.rows)


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
    from minesweep.models.static_embeddings import StaticEmbeddings
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
    from minesweep.models.static_embeddings import StaticEmbeddings
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
