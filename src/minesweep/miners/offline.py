"""Mining once, outside a training: negatives of each query, and the files that carry them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minesweep.datasets.corpus import Lists
from minesweep.datasets.retrieval_files import Collection
from minesweep.errors import UserError
from minesweep.indexes.similar import most_similar
from minesweep.miners.negatives import RULES, Rules, choose_negatives
from minesweep.seeding import generator
from minesweep.words import check_word

FORMATS = ("triplet", "n-tuple", "labeled-pair", "labeled-list")
AT_ONCE = 2048


@dataclass(frozen=True)
class MinedNegatives:
    """What was mined for Q queries.

    Attributes:
        rows: ``[Q, m]`` rows of the documents, the most similar first; -1: too few were left.
        scores: ``[Q, m]`` their cosines; -inf: none.
        positives: Cosines of each query's positives, in the order of ``known``.
        skipped: Candidates that each rule left out.
        candidates: How many candidates were looked at.
    """

    rows: Tensor
    scores: Tensor
    positives: Tensor
    skipped: dict[str, int]
    candidates: int


def mine_negatives(
    queries: Tensor,
    documents: Tensor,
    known: Lists,
    rules: Rules,
    seed: int = 0,
    memory: int = 64,
    advance: Callable[[int], None] | None = None,
) -> MinedNegatives:
    """Negatives of each query from a corpus, by exact search.

    Args:
        queries: ``[Q, dim]`` unit vectors.
        documents: ``[D, dim]`` unit vectors.
        known: Of each query, rows of its positives.
        rules: Which candidates are negatives.
        seed: Of ``sampling_strategy: random``.
        memory: MiB of working space for a search, about.
        advance: Called with the number of queries that are done, block by block.
    """
    most = int(known.sizes.max())
    last = rules.last_rank(most)
    totals, candidates = dict.fromkeys(RULES, 0), 0
    rows, scores, positives = [], [], []
    for block in torch.arange(len(queries), device=queries.device).split(AT_ONCE):
        which, answers = known.take(block)
        positive = (queries[block][which] * documents[answers]).sum(1)
        least = torch.full((len(block),), torch.inf, device=queries.device)
        least.scatter_reduce_(0, which, positive, "amin")
        found = most_similar(queries[block], documents, last + most, memory)
        answered = known.contains(block, found.rows)
        draws = generator(seed, f"negatives/{int(block[0])}")
        chosen = choose_negatives(rules, found.scores, found.rows, answered, least, draws, last)
        rows.append(chosen.rows)
        scores.append(chosen.scores)
        positives.append(positive)
        candidates += int((found.rows >= 0).sum())
        for rule, count in chosen.skipped.items():
            totals[rule] += count
        if advance is not None:
            advance(len(block))
    return MinedNegatives(
        torch.cat(rows), torch.cat(scores), torch.cat(positives), totals, candidates
    )


def records(
    found: Collection, known: Lists, mined: MinedNegatives, layout: str
) -> Iterator[dict[str, Any]]:
    """The lines of a file, in one of the four layouts of sentence-transformers.

    ``triplet``: one for each query, positive and negative. ``n-tuple``: one for each query and
    positive that has all its negatives. ``labeled-pair``: one for each document of a query, with
    its label. ``labeled-list``: one for each query.
    """
    check_word("--format", layout, FORMATS)
    rows, starts, answers = mined.rows.tolist(), known.starts.tolist(), known.rows.tolist()
    for number, query in enumerate(found.queries):
        negatives = [found.documents[row] for row in rows[number] if row >= 0]
        positives = [found.documents[r] for r in answers[starts[number] : starts[number + 1]]]
        if layout == "labeled-list" and negatives:
            labels = [1] * len(positives) + [0] * len(negatives)
            yield {"query": query, "documents": positives + negatives, "labels": labels}
        elif layout == "labeled-pair" and negatives:
            for text in positives:
                yield {"query": query, "document": text, "label": 1}
            for text in negatives:
                yield {"query": query, "document": text, "label": 0}
        elif layout == "triplet":
            for positive in positives:
                for negative in negatives:
                    yield {"query": query, "positive": positive, "negative": negative}
        elif layout == "n-tuple" and len(negatives) == len(rows[number]):
            names = [f"negative_{place}" for place in range(1, len(negatives) + 1)]
            for positive in positives:
                each = dict(zip(names, negatives, strict=True))
                yield {"query": query, "positive": positive, **each}


def write_records(lines: Iterator[dict[str, Any]], path: Path) -> int:
    """Writes the lines as JSONL, or as CSV by the file's ending; returns how many.

    Raises:
        UserError: The ending is another one, a list is to go into a table, or it cannot be written.
    """
    if path.suffix not in (".jsonl", ".csv"):
        raise UserError(f"--output={path} must end in .jsonl or .csv")
    count = 0
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8", newline="") as file:
            table = None
            for line in lines:
                if path.suffix == ".jsonl":
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
                else:
                    if any(isinstance(value, list) for value in line.values()):
                        raise UserError("labeled-list needs --output=FILE.jsonl, not a table")
                    table = table or csv.DictWriter(file, list(line))
                    if not count:
                        table.writeheader()
                    table.writerow(line)
                count += 1
        part.replace(path)
    except OSError as error:
        raise UserError(f"--output={path} cannot be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
    return count


def unit_vectors(
    encode: Callable[[list[str]], Tensor], texts: list[str], advance: Callable[[int], None]
) -> Tensor:
    """``[n, dim]`` unit vectors of texts, encoded block by block."""
    parts = []
    for start in range(0, len(texts), AT_ONCE):
        block = texts[start : start + AT_ONCE]
        parts.append(torch.nn.functional.normalize(encode(block).float(), dim=1))
        advance(len(block))
    return torch.cat(parts)
