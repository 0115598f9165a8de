"""From which number of points on is approximate search worth it for mining, LSH above all?

    python benchmarks/mining.py      # about ten minutes; writes results/mining.json, .md and .png

k = 32 nearest rows of another class, for n = 1,000 to 1,000,000 points of 3, 64 and 128 dimensions,
uniform (labels say nothing) or in 100 clusters that are the classes. Each index is built and asked
for a sample of rows; the seconds of a refresh that mines for all n rows are those of the build and
n / sample times those of the queries, an extrapolation where the sample is smaller than n. Recall
is of these queries, against exact search. One thread; the indexes take turns, each round in an
order of its own. Graphs are only built up to 100,000 points. Peak memory at a million points is
measured in processes of their own (Linux).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import duration, facts, in_turns, options, peak, seconds, write
from points import points, sample

from minesweep.config.entry import clear_errors
from minesweep.indexes.base import Index
from minesweep.indexes.class_lists import ClassLists
from minesweep.indexes.exact import Exact
from minesweep.indexes.faiss import Factory, import_faiss
from minesweep.indexes.lsh import Lsh
from minesweep.miners.index import recall
from minesweep.training.folder import write_atomically

K, CLASSES, SPREAD = 32, 100, 0.35
SIZES, DIMS = (1_000, 10_000, 100_000, 1_000_000), (3, 64, 128)
MOST_IN_A_GRAPH, MOST_TWICE = 100_000, 100_000
ENOUGH = 0.9
Cell = dict[str, Any]


def main(argv: list[str] | None = None) -> None:
    parser = options(str(__doc__), "mining", rounds=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--dims", type=int, nargs="+", default=DIMS)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    import_faiss().omp_set_num_threads(1)
    if given.peak:
        print(json.dumps(alone(given.peak, max(given.sizes), given.queries)))
        return
    cells: list[Cell] = []
    for n in given.sizes:
        for dim in given.dims:
            for data in ("uniform", "clustered"):
                found = measure(n, dim, data, given.queries, given.rounds)
                cells += found
                print(f"n = {n:,}, d = {dim}, {data}: {len(found)} indexes", flush=True)
    largest = {name: in_a_process(name, given) for name in ("exact", "LSH, 256 bits")}
    details = {"k": K, "cells": cells, "largest": {"n": max(given.sizes), "dim": 64, **largest}}
    write(given.output, [], details, note=given.note, **facts(("faiss-cpu",)))
    text = given.output.with_suffix(".md")
    write_atomically(text, markdown(cells, max(given.sizes), largest))
    draw(cells, given.output.with_suffix(".png"))
    print(answer(cells))
    print(text)


def indexes(n: int) -> dict[str, Callable[[], Index]]:
    lists = max(16, min(1024, 4 * round(n**0.5) // 16 * 16))
    found: dict[str, Callable[[], Index]] = {
        "exact": Exact,
        "FAISS flat": lambda: Factory("Flat"),
        "LSH, 64 bits": lambda: Lsh(64),
        "LSH, 256 bits": lambda: Lsh(256),
        "LSH, 1024 bits": lambda: Lsh(1024),
        f"IVF{lists}, 16 probed": lambda: Factory(f"IVF{lists},Flat", "nprobe=16"),
        "class lists, 8 probed": lambda: ClassLists(8),
    }
    if n <= MOST_IN_A_GRAPH:
        found["HNSW16"] = lambda: Factory("HNSW16", "efSearch=64")
    return found


def embeddings(n: int, dim: int, data: str) -> tuple[torch.Tensor, torch.Tensor]:
    return points(n, dim, CLASSES, SPREAD if data == "clustered" else None)


def measure(n: int, dim: int, data: str, queries: int, rounds: int) -> list[Cell]:
    """Every index on one set of points."""
    vectors, labels = embeddings(n, dim, data)
    anchors = sample(n, min(n, queries))
    made = {name: make() for name, make in indexes(n).items()}
    builds = {name: partial(index.build, vectors, labels) for name, index in made.items()}
    turns = rounds if n <= MOST_TWICE else 1
    built = in_turns(builds, turns)
    asked = in_turns({name: partial(i.negatives, anchors, K) for name, i in made.items()}, turns)
    truth = made["exact"].negatives(anchors, K)
    cells = []
    for name, index in made.items():
        build, query = statistics.median(built[name]), statistics.median(asked[name])
        found = index.negatives(anchors, K)
        cells.append(
            {
                "n": n,
                "dim": dim,
                "data": data,
                "index": name,
                "build_seconds": build,
                "query_seconds": query,
                "queries": len(anchors),
                "spread": [min(asked[name]), max(asked[name])],
                "all_rows_seconds": build + query * n / len(anchors),
                "recall": float(recall(found, truth, nearest=True)),
                "candidates": index.candidates,
            }
        )
    return cells


def alone(name: str, n: int, queries: int) -> dict[str, float]:
    """Seconds and bytes of one index over the most points, at 64 clustered dimensions."""
    vectors, labels = embeddings(n, 64, "clustered")
    anchors = sample(n, min(n, queries))
    index = indexes(n)[name]()
    spent: dict[str, float] = {}

    def work() -> None:
        spent["build_seconds"] = seconds(lambda: index.build(vectors, labels))
        spent["query_seconds"] = seconds(lambda: index.negatives(anchors, K))

    spent["peak_bytes"] = peak(work)
    spent["points_bytes"] = vectors.numel() * 4
    return spent


def in_a_process(name: str, given: argparse.Namespace) -> dict[str, float]:
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, __file__, "--peak", name, "--queries", str(given.queries)]
    command += ["--sizes", str(max(given.sizes))]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)


def crossings(cells: list[Cell], family: str) -> dict[tuple[int, str], int | None]:
    """By dimension and data, the fewest points from which an index of this family is worth it.

    Worth it: recall of at least 0.9 in fewer seconds than exact search, at every larger n too.
    """
    found: dict[tuple[int, str], int | None] = {}
    for dim, data in dict.fromkeys((cell["dim"], cell["data"]) for cell in cells):
        own = [cell for cell in cells if (cell["dim"], cell["data"]) == (dim, data)]
        exact = {c["n"]: c["all_rows_seconds"] for c in own if c["index"] == "exact"}
        good = {
            cell["n"]
            for cell in own
            if cell["index"].startswith(family)
            and cell["recall"] >= ENOUGH
            and cell["all_rows_seconds"] < exact[cell["n"]]
        }
        at = None
        for n in sorted(exact, reverse=True):
            if n not in good:
                break
            at = n
        found[dim, data] = at
    return found


def answer(cells: list[Cell]) -> str:
    """The question of this file, answered from its rows."""
    told = []
    for family in ("LSH", "IVF", "class lists"):
        where = {place: n for place, n in crossings(cells, family).items() if n is not None}
        if not where:
            told.append(
                f"{family}: no crossover; nowhere a recall of {ENOUGH} for less than exact."
            )
            continue
        places = "; ".join(
            f"d = {dim}, {data}: from {n:,}" for (dim, data), n in sorted(where.items())
        )
        told.append(f"{family} is worth it at a recall of {ENOUGH}: {places} points; else nowhere.")
    return " ".join(told)


def markdown(cells: list[Cell], n: int, largest: dict[str, dict[str, float]]) -> str:
    lines = [answer(cells), ""]
    for name, spent in largest.items():
        lines.append(
            f"- {n:,} points, 64 dimensions, {name}: built in "
            f"{duration(spent['build_seconds'])}, the queries in "
            f"{duration(spent['query_seconds'])}, peak memory "
            f"{spent['peak_bytes'] / 2**20:,.0f} MiB beside the points' "
            f"{spent['points_bytes'] / 2**20:,.0f} MiB."
        )
    head = "| n | d | data | index | build | 1,000 queries | all rows | of exact | recall@32 |"
    lines += ["", head, "|" + "---|" * 9]
    exact = {(c["n"], c["dim"], c["data"]): c for c in cells if c["index"] == "exact"}
    for cell in cells:
        base = exact[cell["n"], cell["dim"], cell["data"]]["all_rows_seconds"]
        values = [
            f"{cell['n']:,}",
            cell["dim"],
            cell["data"],
            cell["index"],
            duration(cell["build_seconds"]),
            duration(cell["query_seconds"] * 1_000 / cell["queries"]),
            duration(cell["all_rows_seconds"]),
            f"{cell['all_rows_seconds'] / base:.2f}",
            f"{cell['recall']:.3f}",
        ]
        lines.append("| " + " | ".join(map(str, values)) + " |")
    return "\n".join(lines) + "\n"


def draw(cells: list[Cell], path: Path) -> None:
    """Above, recall against time at the most points; below, time against n."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    kinds = [
        (dim, data)
        for dim, data in dict.fromkeys((cell["dim"], cell["data"]) for cell in cells)
        if dim == 64 or data == "clustered"
    ]
    figure, axes = plt.subplots(2, len(kinds), figsize=(5 * len(kinds), 9), squeeze=False)
    families = list(dict.fromkeys(_family(cell["index"]) for cell in cells))
    colours = dict(zip(families, plt.colormaps["tab10"].colors, strict=False))
    for column, (dim, data) in enumerate(kinds):
        own = [cell for cell in cells if (cell["dim"], cell["data"]) == (dim, data)]
        most = max(cell["n"] for cell in own)
        for family in families:
            mine = [cell for cell in own if _family(cell["index"]) == family]
            at_most = [cell for cell in mine if cell["n"] == most]
            style = {"color": colours[family], "label": family, "marker": "o"}
            axes[0, column].plot(
                [c["all_rows_seconds"] for c in at_most], [c["recall"] for c in at_most], **style
            )
            axes[1, column].plot(
                [c["n"] for c in mine], [c["all_rows_seconds"] for c in mine], **style
            )
        axes[0, column].axhline(ENOUGH, color="grey", linewidth=1, linestyle=":")
        axes[0, column].set(
            xscale="log",
            xlabel="seconds to mine for all rows",
            ylabel="recall@32",
            title=f"{most:,} points, d = {dim}, {data}",
        )
        axes[1, column].set(
            xscale="log", yscale="log", xlabel="points n", ylabel="seconds to mine for all rows"
        )
    axes[0, 0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    print(path)


def _family(index: str) -> str:
    """IVF's lists grow with n; it is one line all the same."""
    return "IVF, 16 probed" if index.startswith("IVF") else index


if __name__ == "__main__":
    with clear_errors():
        main()
