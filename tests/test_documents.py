"""Documents as candidates: search, rules, ranking, files, and runs that mine them."""

from __future__ import annotations

import importlib.util
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Train
from torch import Tensor

from minesweep.datasets.corpus import Lists
from minesweep.datasets.documents import Documents
from minesweep.datasets.retrieval import Retrieval, limited, linked
from minesweep.datasets.retrieval_files import read_collection
from minesweep.errors import UserError
from minesweep.evaluation.ranking import ranking
from minesweep.indexes.similar import most_similar
from minesweep.miners.negatives import Rules, choose_negatives
from minesweep.models.static_embeddings import StaticEmbeddings

NONE = -math.inf


# --- search ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_most_similar_is_that_of_a_full_sort(seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    size = int(torch.randint(1, 700, (), generator=draws))
    k = int(torch.randint(1, 20, (), generator=draws))
    # Small whole numbers: products are exact, and many documents are equally similar.
    documents = torch.randint(-2, 3, (size, 5), generator=draws).float()
    queries = torch.randint(-2, 3, (7, 5), generator=draws).float()
    found = most_similar(queries, documents, k, memory=1)
    exact = queries @ documents.T
    for q in range(7):
        wanted = sorted(range(size), key=lambda row: (-exact[q, row].item(), row))[:k]
        scores = [exact[q, row].item() for row in wanted] + [NONE] * (k - len(wanted))
        assert found.scores[q].tolist() == scores
        rows = [row for row in found.rows[q].tolist() if row >= 0]
        assert len(set(rows)) == len(wanted)
        # Those above the k-th place's score are told in order; at that score any may be kept.
        above = [row for row in wanted if exact[q, row] > scores[len(wanted) - 1]]
        assert rows[: len(above)] == above


# --- the rules -------------------------------------------------------------------------------


def naive(rules: Rules, scores: list[float], known: list[bool], positive: float) -> list[int]:
    """Places of one query's negatives, rule by rule."""
    left = [place for place in range(len(scores)) if not known[place]]
    if rules.absolute_margin is not None:
        left = [place for place in left if scores[place] + rules.absolute_margin <= positive]
    if rules.relative_margin is not None:
        limit = positive - abs(positive) * rules.relative_margin
        left = [place for place in left if scores[place] <= limit]
    if rules.max_score is not None:
        left = [place for place in left if scores[place] <= rules.max_score]
    if rules.min_score is not None:
        left = [place for place in left if scores[place] >= rules.min_score]
    return left[rules.range_min : rules.range_max]


def random_rules(draw: random.Random) -> Rules:
    first = draw.choice([0, 0, 2])
    return Rules(
        num_negatives=draw.randint(1, 4),
        range_min=first,
        range_max=first + draw.randint(4, 10),
        max_score=draw.choice([None, 0.5]),
        min_score=draw.choice([None, -0.25]),
        absolute_margin=draw.choice([None, 0.0, 0.25]),
        relative_margin=draw.choice([None, 0.25, 0.5]),
        sampling_strategy=draw.choice(["top", "random"]),
    )


@pytest.mark.parametrize("seed", range(200))
def test_negatives_are_those_of_a_loop_over_the_rules(seed: int) -> None:
    draw = random.Random(seed)
    rules, count = random_rules(draw), draw.randint(5, 25)
    # Eighths are exact in 32 bits; positives are negative numbers, too.
    scores = torch.tensor(
        [sorted((draw.randint(-8, 8) / 8 for _ in range(count)), reverse=True) for _ in range(6)]
    )
    known = torch.rand(6, count, generator=torch.Generator().manual_seed(seed)) < 0.2
    positive = torch.tensor([draw.randint(-8, 8) / 8 for _ in range(6)])
    rows = torch.arange(count).expand(6, -1) + 100
    draws = torch.Generator().manual_seed(seed)
    chosen = choose_negatives(rules, scores, rows, known, positive, draws)
    for q in range(6):
        allowed = naive(rules, scores[q].tolist(), known[q].tolist(), positive[q].item())
        taken = [row - 100 for row in chosen.rows[q].tolist() if row >= 0]
        assert len(taken) == min(rules.num_negatives, len(allowed))
        assert set(taken) <= set(allowed)
        if rules.sampling_strategy == "top":
            assert taken == allowed[: rules.num_negatives]
        assert chosen.scores[q].tolist()[: len(taken)] == [scores[q, p].item() for p in taken]


def test_a_relative_margin_moves_the_limit_of_a_negative_positive_down() -> None:
    scores, rows = torch.tensor([[-0.4, -0.45, -0.6]]), torch.tensor([[0, 1, 2]])
    rules = Rules(num_negatives=3, range_max=3, relative_margin=0.1)
    known = torch.zeros(1, 3, dtype=torch.bool)
    chosen = choose_negatives(rules, scores, rows, known, torch.tensor([-0.4]))
    assert chosen.rows.tolist() == [[1, 2, -1]]  # the limit is -0.44
    assert chosen.skipped["relative_margin"] == 1


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"num_negatives": 0}, "num_negatives=0"),
        ({"range_min": -1}, "range_min=-1"),
        ({"range_min": 5, "range_max": 6, "num_negatives": 2}, "range_max=6 leaves 1"),
        ({"max_score": math.nan}, "max_score=nan"),
        ({"sampling_strategy": "tpo"}, "top"),
    ],
)
def test_rules_that_cannot_be_meant(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        Rules(**settings)


# --- ranking ---------------------------------------------------------------------------------


def reference(scores: Tensor, answers: list[set[int]]) -> dict[str, float]:
    """The metrics by their definitions, one query at a time."""
    names = ("ndcg_at_10", "mrr_at_10", "recall_at_1", "recall_at_10", "recall_at_100")
    rows: list[list[float]] = []
    for q, relevant in enumerate(answers):
        if not relevant:
            continue
        order = sorted(range(scores.shape[1]), key=lambda row: (-scores[q, row].item(), row))
        gain = sum(
            1 / math.log2(place + 2)
            for place in range(10)
            if order[place : place + 1] and order[place] in relevant
        )
        ideal = sum(1 / math.log2(place + 2) for place in range(min(10, len(relevant))))
        first = next((1 / (p + 1) for p, row in enumerate(order[:10]) if row in relevant), 0.0)
        recalls = [len(relevant & set(order[:k])) / len(relevant) for k in (1, 10, 100)]
        rows.append([gain / ideal, first, *recalls])
    means = [sum(column) / len(column) for column in zip(*rows, strict=True)]
    return dict(zip(names, means, strict=True))


def ranking_case(seed: int) -> tuple[Tensor, Tensor, list[set[int]]]:
    draws = torch.Generator().manual_seed(seed)
    size = int(torch.randint(3, 100, (), generator=draws))
    documents = torch.randint(-3, 4, (size, 4), generator=draws).float()
    queries = torch.randint(-3, 4, (9, 4), generator=draws).float()
    drawn = torch.rand(9, size, generator=draws) < 0.08
    answers = [set(row.nonzero().flatten().tolist()) for row in drawn]
    answers[0].add(0)
    return queries, documents, answers


@pytest.mark.parametrize("seed", range(100))
def test_ranking_is_that_of_the_definitions(seed: int) -> None:
    queries, documents, answers = ranking_case(seed)
    # Distinct similarities: what ties at the last place do is search's own business.
    documents = torch.cat([documents, torch.arange(len(documents))[:, None] * -1e-3], 1)
    queries = torch.cat([queries, torch.ones(len(queries), 1)], 1)
    found = ranking(queries.double(), documents.double(), Lists.of([sorted(a) for a in answers]))
    wanted = reference(queries.double() @ documents.double().T, answers)
    assert found == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("seed", range(100))
def test_ranking_is_that_of_trec_eval(seed: int) -> None:
    evaluator = pytest.importorskip("pytrec_eval")
    queries, documents, answers = ranking_case(seed)
    found = ranking(queries, documents, Lists.of([sorted(a) for a in answers]))
    # trec_eval puts equally similar documents into the reverse order of their names.
    name = [f"{len(documents) - row:06d}" for row in range(len(documents))]
    truth = {str(q): {name[row]: 1 for row in rows} for q, rows in enumerate(answers) if rows}
    scores = queries @ documents.T
    run = {
        q: {name[row]: scores[int(q), row].item() for row in range(len(documents))} for q in truth
    }
    asked = evaluator.RelevanceEvaluator(truth, {"ndcg_cut.10", "recip_rank", "recall.1,10,100"})
    results = list(asked.evaluate(run).values())
    for ours, theirs in (
        ("ndcg_at_10", "ndcg_cut_10"),
        ("recall_at_1", "recall_1"),
        ("recall_at_10", "recall_10"),
        ("recall_at_100", "recall_100"),
    ):
        mean = sum(result[theirs] for result in results) / len(results)
        assert found[ours] == pytest.approx(mean, abs=1e-9)


def test_a_query_without_an_answer_does_not_count_and_itself_is_left_out() -> None:
    documents, queries = torch.eye(3), torch.eye(3)
    relevant = Lists.of([[1], [], [0]])
    found = ranking(queries, documents, relevant, excluded=torch.tensor([0, 1, 2]), at=(1,))
    # Without itself, the others are equally similar: the lower row comes first.
    assert found["recall_at_1"] == 1
    none = ranking(queries, documents, Lists.of([[], [], []]), at=(1,))
    assert all(math.isnan(value) for value in none.values())


def test_lists_know_what_they_contain() -> None:
    lists = Lists.of([[3, 1], [], [0, 2]])
    asked = torch.tensor([2, 0, 1])
    rows = torch.tensor([[0, 3, -1], [1, 2, 3], [0, 1, 2]])
    assert lists.contains(asked, rows).tolist() == [
        [True, False, False],
        [True, False, True],
        [False, False, False],
    ]


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
