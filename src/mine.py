"""Mines hard negatives once: ``python src/mine.py pairs.jsonl --output triplets.jsonl``.

The rules and the layouts are those of ``mine_hard_negatives`` of sentence-transformers.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from minesweep.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from minesweep.miners.offline import MinedNegatives

LAYOUTS = ("triplet", "n-tuple", "labeled-pair", "labeled-list")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Finds hard negatives of queries in a corpus and writes them to a file."
    )
    parser.add_argument(
        "pairs", type=Path, help="queries and positives: JSONL, CSV, or a folder in BEIR's layout"
    )
    parser.add_argument("--corpus", type=Path, metavar="FILE", help="further documents, one a line")
    parser.add_argument(
        "--model",
        default="wordllama",
        help="wordllama, a folder of static embeddings or sentence-transformers, or a run's folder",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help=".jsonl or .csv")
    parser.add_argument("--format", choices=LAYOUTS, default="triplet", help="what a line holds")
    parser.add_argument("--num-negatives", type=int, default=3, metavar="M", help="of each query")
    parser.add_argument("--range-min", type=int, default=0, metavar="RANK", help="ranks to skip")
    parser.add_argument("--range-max", type=int, metavar="RANK", help="the last rank to look at")
    parser.add_argument("--max-score", type=float, metavar="COS", help="negatives are at most this")
    parser.add_argument("--min-score", type=float, metavar="COS", help="or at least this similar")
    parser.add_argument(
        "--absolute-margin", type=float, metavar="COS", help="below the least similar positive"
    )
    parser.add_argument(
        "--relative-margin", type=float, metavar="SHARE", help="the same, as a share of it"
    )
    parser.add_argument("--sampling-strategy", choices=("top", "random"), default="top")
    parser.add_argument("--seed", type=int, default=0, help="of --sampling-strategy random")
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        mine(options)
    except UserError as error:
        print("minesweep: " + " ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


def mine(options: argparse.Namespace) -> None:
    # Imported here: --help and a wrong option must answer at once.
    from rich.console import Console
    from rich.progress import Progress

    from minesweep.datasets.corpus import Lists
    from minesweep.datasets.retrieval_files import read_collection
    from minesweep.miners.negatives import Rules
    from minesweep.miners.offline import mine_negatives, records, unit_vectors, write_records
    from minesweep.training.encoders import text_encoder

    names = [
        *("num_negatives", "range_min", "range_max", "max_score", "min_score"),
        *("absolute_margin", "relative_margin", "sampling_strategy"),
    ]
    rules = Rules(**{name: getattr(options, name) for name in names})
    found = read_collection(options.pairs.expanduser(), options.corpus)
    for note in found.notes:
        print(f"left out: {note}")
    encode = text_encoder(options.model)
    answers: list[list[int]] = [[] for _ in found.queries]
    for query, document in found.pairs:
        answers[query].append(document)
    known = Lists.of(answers)
    with Progress(transient=True) as progress:
        texts = len(found.queries) + len(found.documents)
        task = progress.add_task("encoding", total=texts)
        queries = unit_vectors(encode, found.queries, lambda n: progress.advance(task, n))
        documents = unit_vectors(encode, found.documents, lambda n: progress.advance(task, n))
        searched = progress.add_task("searching", total=len(found.queries))
        mined = mine_negatives(
            *(queries, documents, known, rules, options.seed),
            advance=lambda n: progress.advance(searched, n),
        )
    count = write_records(records(found, known, mined, options.format), options.output)
    Console().print(scores_table(mined), rules_table(mined))
    print(f"{count} lines of {len(found.queries)} queries")
    print(options.output)


def scores_table(mined: MinedNegatives) -> Table:
    """Count, mean and quantiles of the cosines of positives and negatives."""
    from rich.table import Table

    table = Table("cosine", "count", "mean", "min", "25 %", "50 %", "75 %", "max")
    taken = mined.scores[mined.rows >= 0]
    for name, values in (("positive", mined.positives), ("negative", taken)):
        if not len(values):
            table.add_row(name, "0")
            continue
        ranks = ((len(values) - 1) * share for share in (0, 0.25, 0.5, 0.75, 1))
        ordered = values.sort().values
        numbers = [float(values.mean()), *(float(ordered[round(rank)]) for rank in ranks)]
        table.add_row(name, str(len(values)), *(f"{number:.4f}" for number in numbers))
    return table


def rules_table(mined: MinedNegatives) -> Table:
    """How many candidates each rule left out, and how many queries found too few."""
    from rich.table import Table

    table = Table("rule", "skipped", "share")
    for rule, count in mined.skipped.items():
        if count:
            table.add_row(rule, str(count), f"{count / max(1, mined.candidates):.1%}")
    short = int((mined.rows < 0).any(1).sum())
    table.add_row("queries short of negatives", str(short), f"{short / len(mined.rows):.1%}")
    return table


if __name__ == "__main__":
    sys.exit(main())
