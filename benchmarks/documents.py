"""Negatives of 61,673 queries among 69,086 documents, beside sentence-transformers' function.

    python benchmarks/documents.py      # two minutes; wants sentence-transformers and datasets,
                                        # and Quora's file; writes results/documents.json

Both mine the same vectors (the first 64 of wordllama's 256 numbers) by the same rules: two
negatives, 5 % below the least similar positive. Both give back the texts. The queries come in four
parts of 15,418 and the two take turns; the peer's default is 16,384 at a time. Times are the
processor's, one thread. Growth: random unit vectors, 2,000 queries, up to a million documents.

Expected before the first run: 2.0 times the peer's speed, and time in proportion to the documents.
"""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from common import Row, facts, options, peak, seconds, write
from torch import Tensor
from torch.nn.functional import normalize

from minesweep.compat import import_torchvision
from minesweep.config.entry import clear_errors
from minesweep.datasets.corpus import Lists
from minesweep.datasets.quora import quora_rows
from minesweep.datasets.retrieval_files import Collection
from minesweep.errors import UserError
from minesweep.miners.negatives import Rules
from minesweep.miners.offline import mine_negatives, records

QUERIES, DOCUMENTS, PARTS, WIDTH = 61_673, 69_086, 4, 64
RULES: dict[str, Any] = {"num_negatives": 2, "relative_margin": 0.05}
SIZES = (62_500, 125_000, 250_000, 500_000, 1_000_000)
GROWTH_QUERIES = 2000


def main(argv: list[str] | None = None) -> None:
    parser = options(str(__doc__), "documents", rounds=1)
    parser.add_argument("--queries", type=int, default=QUERIES)
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    found, vectors = questions(given.queries)
    ours, theirs, same, taken = beside(found, vectors)
    version = facts(("sentence-transformers",))["versions"]["sentence-transformers"]
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    row = Row(
        what=f"negatives of {len(found.queries):,} queries among {DOCUMENTS:,} documents",
        against=f"mine_hard_negatives of sentence-transformers {version}",
        ratio=round(sum(theirs) / sum(ours), 4),
        low=round(min(ratios), 4),
        high=round(max(ratios), 4),
        goal=2.0,
        at="least",
        unit="peer's time / ours",
        ours=sum(ours),
        theirs=sum(theirs),
        note=f"processor time; {same:.2%} of {taken:,} triplets are the same",
    )
    details = {
        "seconds of each part": {"ours": ours, "theirs": theirs},
        "triplets of both": same,
        "growth": growth(),
    }
    write(given.output, [row], details, note=given.note, **facts(("sentence-transformers",)))


def questions(count: int) -> tuple[Collection, Tensor]:
    """Quora's questions that have a duplicate, and unit vectors of them.

    The first 69,086 are the documents. The first ``count`` of those with a duplicate among them are
    the queries.
    """
    from safetensors.torch import load_file

    from minesweep.datasets.tokenizers import WORDLLAMA, tokenize, wordllama_file

    _, rows = quora_rows(Path(os.environ.get("MINESWEEP_DATA", "data")) / "quora")
    texts, numbers = rows.questions()
    pairs = [p for p, y in zip(numbers.tolist(), rows.is_duplicate, strict=True) if y]
    used = list(dict.fromkeys(texts[number] for pair in pairs for number in pair))[:DOCUMENTS]
    place = {text: row for row, text in enumerate(used)}
    answers: dict[int, list[int]] = {}
    for first, second in pairs:
        a, b = (place.get(texts[number], -1) for number in (first, second))
        if min(a, b) >= 0 and a != b:
            answers.setdefault(a, []).append(b)
            answers.setdefault(b, []).append(a)
    asked = list(answers)[:count]
    found = Collection(
        used,
        [used[row] for row in asked],
        [(query, row) for query, held in enumerate(asked) for row in dict.fromkeys(answers[held])],
    )
    tokens, _ = tokenize(WORDLLAMA, used, 64)
    (table,) = load_file(wordllama_file("weights/l2_supercat_256.safetensors")).values()
    starts = tokens.lengths.cumsum(0) - tokens.lengths
    flat = tokens.ids[tokens.inside()]
    means = torch.nn.functional.embedding_bag(flat, table[:, :WIDTH].float(), starts)
    return found, normalize(means, dim=1)


def beside(found: Collection, vectors: Tensor) -> tuple[list[float], list[float], float, int]:
    """Seconds of each part, ours and the peer's; the share of triplets in both, and how many."""
    import_torchvision()  # transformers imports it where it is installed
    try:
        warnings.simplefilter("ignore")
        import datasets
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.util import mine_hard_negatives
    except ImportError as error:
        raise UserError(f"{error}: pip install sentence-transformers datasets") from None
    # To hash a table for the cache fails with some versions of dill and pyarrow.
    datasets.arrow_dataset.generate_fingerprint = lambda table: "0"
    place = {text: row for row, text in enumerate(found.documents)}

    class Known(SentenceTransformer):
        """Vectors that are there already."""

        def encode(self, texts: Any, **more: Any) -> Any:
            return vectors[[place[text] for text in texts]].numpy()

        encode_query = encode_document = encode

    model = Known(modules=[torch.nn.Identity()], device="cpu", similarity_fn_name="dot")
    ours, theirs, equal, total = [], [], 0, 0
    for part in torch.arange(len(found.queries)).tensor_split(PARTS):
        first, last = int(part[0]), int(part[-1])
        pairs = [(q - first, d) for q, d in found.pairs if first <= q <= last]
        block = Collection(found.documents, found.queries[first : last + 1], pairs)
        table = datasets.Dataset.from_dict(
            {
                "query": [block.queries[q] for q, _ in pairs],
                "positive": [block.documents[d] for _, d in pairs],
            }
        )
        made: dict[str, set[tuple[str, ...]]] = {}

        def mine(block: Collection = block, made: dict[str, Any] = made) -> None:
            answers: list[list[int]] = [[] for _ in block.queries]
            for query, document in block.pairs:
                answers[query].append(document)
            known = Lists.of(answers)
            asked = vectors[[place[text] for text in block.queries]]
            mined = mine_negatives(asked, vectors, known, Rules(**RULES))
            made["ours"] = list(records(block, known, mined, "triplet"))

        def peer(
            block: Collection = block, table: Any = table, made: dict[str, Any] = made
        ) -> None:
            given = {"corpus": block.documents, "verbose": False, "output_format": "triplet"}
            made["theirs"] = mine_hard_negatives(table, model, **given, **RULES)

        for case, times in ((mine, ours), (peer, theirs)):
            times.append(seconds(case, time.process_time))
            print(f"{case.__name__}: {times[-1]:.1f} s", flush=True)
        sides = [{tuple(line.values()) for line in made[side]} for side in ("ours", "theirs")]
        equal, total = equal + len(sides[0] & sides[1]), total + len(sides[0] | sides[1])
    return ours, theirs, equal / total, total


def growth() -> list[dict[str, float]]:
    """Seconds and memory of a search among more and more documents."""
    draws = torch.Generator().manual_seed(0)
    everything = normalize(torch.randn(max(SIZES), WIDTH, generator=draws), dim=1)
    queries = normalize(torch.randn(GROWTH_QUERIES, WIDTH, generator=draws), dim=1)
    known = Lists.of([[query] for query in range(GROWTH_QUERIES)])
    found = []
    for size in SIZES:
        taken: list[float] = []

        def case(size: int = size, taken: list[float] = taken) -> None:
            began = time.process_time()
            mine_negatives(queries, everything[:size], known, Rules(**RULES))
            taken.append(time.process_time() - began)

        memory = peak(case)
        found.append({"documents": size, "seconds": taken[0], "peak_mib": memory / 2**20})
        print(found[-1], flush=True)
    return found


if __name__ == "__main__":
    with clear_errors():
        main()
