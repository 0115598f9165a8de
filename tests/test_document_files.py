"""Files of queries and documents: what is read, counted, refused, and how splits are dealt."""

from __future__ import annotations

import html
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Train
from test_documents import load, pairs_file, small
from test_training import only_run

from minesweep.dashboard.mined import write_mined
from minesweep.datasets.retrieval import Retrieval, limited, linked
from minesweep.datasets.retrieval_files import read_collection
from minesweep.datasets.show import shown
from minesweep.errors import UserError
from minesweep.models.static_embeddings import StaticEmbeddings
from minesweep.tracking.journal import read_rows


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
        ("a.jsonl", '{"query": ' + "[" * 100_000, "line 1 is not JSON: lists in lists"),
        ("a.jsonl", '{"query": "\\ud83d", "positive": "b"}\n', "line 1 holds half a character"),
        ("a.jsonl", '{"query": "a", "positive": null}\n', "positive: 1 queries have no positive"),
        ("a.csv", "x,y\n1,2\n", "there is no query"),
        ("a.csv", "query,positive\na,b, and c\n", "line 2 has more fields than the header"),
        ("a.csv", 'query,positive\n"a,b\nc,d\n', "after line 1: unexpected end of data"),
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


def test_a_query_of_two_splits_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    for name in ("corpus", "queries"):
        (tmp_path / f"{name}.jsonl").write_text('{"_id": "1", "text": "a"}\n')
    for split in ("train", "test"):
        (tmp_path / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n1\t1\t1\n")
    with pytest.raises(UserError, match=r"train\.tsv, line 2: the query 1 is of test, too"):
        read_collection(tmp_path)


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


def test_the_page_shows_queries_with_their_positive_and_what_was_mined(
    train: Train, runs_dir: Path, tmp_path: Path
) -> None:
    path = pairs_file(tmp_path / "a.jsonl")
    settings = ["miner=corpus", "miner.exclude=itself", "miner.num_negatives=3"]
    train(*settings, *small(path), "logger.histogram_every=2")
    run = only_run(runs_dir)
    page = html.unescape(write_mined(run).read_text())
    answers = {}
    for line in path.read_text().splitlines():
        pair = json.loads(line)
        answers[pair["query"]] = pair["positive"]
    split = Retrieval(str(path), tokenizer="words").load(tmp_path).train
    seen = [shown(split, torch.tensor(column)) for column in columns(run)]
    for query, positive, negative, answered in zip(*seen, marks(run), strict=True):
        assert all(text in page for text in (query[0], positive[0], negative[0]))
        assert positive[0] in answers[query[0]]
        assert (negative[0] in answers[query[0]]) == answered
    assert "similarity of the negative minus the positive" in page


def columns(run: Path) -> list[list[int]]:
    record = read_rows(run / "mined.jsonl")[0]
    return [record["rows"][role] for role in ("query", "positive", "negative")]


def marks(run: Path) -> list[bool]:
    return read_rows(run / "mined.jsonl")[0]["values"]["answers_the_query"]
