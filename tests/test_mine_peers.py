"""The rules beside ``mine_hard_negatives`` of sentence-transformers, on the same embeddings."""

from __future__ import annotations

import random
import warnings
from typing import Any

import pytest
import torch

from minesweep.compat import import_torchvision
from minesweep.datasets.corpus import Lists
from minesweep.datasets.retrieval_files import Collection
from minesweep.miners.negatives import Rules
from minesweep.miners.offline import mine_negatives, records, unit_vectors

pytestmark = pytest.mark.slow

WORDS = [f"w{i}" for i in range(60)]


def model(seed: int) -> Any:
    """A real SentenceTransformer whose vectors are drawn by the seed."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    vocabulary = {word: place for place, word in enumerate(["[UNK]", *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    draws = torch.Generator().manual_seed(seed)
    weights = torch.randn(len(vocabulary), 8, generator=draws).numpy()
    module = StaticEmbedding(tokenizer, embedding_weights=weights)
    return SentenceTransformer(modules=[module], device="cpu")


def collection(draw: random.Random) -> Collection:
    """Texts of a few words; some queries have several positives."""

    def text() -> str:
        return " ".join(draw.sample(WORDS, draw.randint(2, 5)))

    documents = list(dict.fromkeys(text() for _ in range(draw.randint(30, 80))))
    queries = list(dict.fromkeys(text() for _ in range(draw.randint(4, 12))))
    pairs = [
        (query, document)
        for query in range(len(queries))
        for document in sorted(draw.sample(range(len(documents)), draw.choice([1, 1, 2, 3])))
    ]
    return Collection(documents, queries, pairs)


def settings(draw: random.Random) -> dict[str, Any]:
    first = draw.choice([0, 0, 1, 3])
    chosen: dict[str, Any] = {"num_negatives": draw.randint(1, 4), "range_min": first}
    if draw.random() < 0.5:
        chosen["range_max"] = first + draw.randint(4, 12)
    for name, values in (
        ("max_score", [0.6, 0.8]),
        ("min_score", [-0.1, 0.1]),
        ("absolute_margin", [0.0, 0.1]),
        ("relative_margin", [0.05, 0.3]),
    ):
        if draw.random() < 0.35:
            chosen[name] = draw.choice(values)
    return chosen


@pytest.mark.parametrize("part", range(10))
def test_the_mined_documents_are_those_of_sentence_transformers(
    part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_torchvision()  # transformers imports it where it is installed
    pytest.importorskip("sentence_transformers", exc_type=ImportError)
    datasets = pytest.importorskip("datasets")
    from sentence_transformers.util import mine_hard_negatives

    # It hashes a table for its cache, which some versions of dill and pyarrow cannot.
    monkeypatch.setattr(datasets.arrow_dataset, "generate_fingerprint", lambda table: "0")
    encoder = model(part)
    for case in range(20):
        draw = random.Random(20 * part + case)
        found, chosen = collection(draw), settings(draw)
        table = datasets.Dataset.from_dict(
            {
                "query": [found.queries[query] for query, _ in found.pairs],
                "positive": [found.documents[document] for _, document in found.pairs],
            }
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = mine_hard_negatives(
                *(table, encoder),
                corpus=found.documents,
                output_format="labeled-list",
                verbose=False,
                **chosen,
            )
        answers: list[list[int]] = [[] for _ in found.queries]
        for query, document in found.pairs:
            answers[query].append(document)
        known = Lists.of(answers)

        def encode(texts: list[str]) -> torch.Tensor:
            return encoder.encode(texts, convert_to_tensor=True, show_progress_bar=False)

        def nothing(count: int) -> None:
            pass

        queries = unit_vectors(encode, found.queries, nothing)
        documents = unit_vectors(encode, found.documents, nothing)
        mined = mine_negatives(queries, documents, known, Rules(**chosen))
        ours = {line["query"]: line for line in records(found, known, mined, "labeled-list")}
        wanted = {row["query"]: row for row in theirs if 0 in row["labels"]}
        assert ours.keys() == wanted.keys(), chosen
        for query, row in wanted.items():
            negatives = [d for d, y in zip(row["positive"], row["labels"], strict=True) if not y]
            line = ours[query]
            taken = [d for d, y in zip(line["documents"], line["labels"], strict=True) if not y]
            assert taken == negatives, (query, chosen)
