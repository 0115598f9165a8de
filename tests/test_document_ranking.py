"""Documents as candidates: search, the rules of mined negatives, and metrics of a ranking."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from torch import Tensor

from minesweep.datasets.corpus import Lists
from minesweep.errors import UserError
from minesweep.evaluation.ranking import ranking
from minesweep.indexes.similar import most_similar
from minesweep.miners.negatives import Rules, choose_negatives

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
