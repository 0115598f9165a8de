"""What mining costs: time, recall and memory of each index, from 1,000 to a million points.

    python benchmarks/mining.py     # about 20 minutes; writes results/mining.json, .md and .png

k = 32 nearest rows of another class, for 1,000 anchors, over uniform points with random labels and
over clusters that are the classes (100 of them; 10 among 1,000 points). Seconds for all n rows as
anchors are extrapolated: build + query * n / 1,000. One thread. In a round each index is built
anew, asked and dropped, one after another, so that a machine that slows down slows all of them; an
index that takes more than ten seconds to build is built once. The rounds of a set of points end
when its share of ``--minutes`` is spent; the first round is always whole. Graph indexes are built
for at most 200,000 points. Recall is measured against exact search; an index that finds too few
rows asks exact search itself, and that time counts.

For a million points of 64 dimensions the peak memory is that of the whole process less the points
and their labels, each index in a process of its own (Linux).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import torch
from common import duration, facts, options, peak, seconds, write
from points import points, sample
from torch import Tensor

from minesweep.config.entry import clear_errors
from minesweep.files import write_atomically
from minesweep.indexes.base import Index, Neighbours
from minesweep.indexes.class_lists import ClassLists
from minesweep.indexes.exact import Exact
from minesweep.indexes.faiss import Factory, import_faiss
from minesweep.indexes.lsh import Lsh
from minesweep.miners.index import recall

SIZES, DIMS = (1_000, 10_000, 100_000, 1_000_000), (3, 64, 128)
SPREADS = {"uniform": None, "clustered": 0.35}
K, ANCHORS = 32, 1_000
MOST_IN_A_GRAPH = 200_000
SLOW = 10.0  # seconds: an index that takes longer is built once
WORTH = 0.9  # the recall from which an index is compared with exact search
WEIGHED = (1_000_000, 64, "clustered")  # the points for which memory is measured
LIGHT = ("exact", "FAISS Flat", "LSH 256 bits", "IVF", "class lists")


def main(argv: list[str] | None = None) -> None:
    parser = options(str(__doc__), "mining", rounds=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--dims", type=int, nargs="+", default=DIMS)
    parser.add_argument("--minutes", type=float, default=18, help="for the timed rounds")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    import_faiss().omp_set_num_threads(1)
    if given.peak:
        print(peak_of(given.peak))
        return
    known = facts(("faiss-cpu",))
    cells: list[dict[str, Any]] = []
    sets = sorted(product(given.sizes, given.dims, SPREADS))
    left = [n * (dim + 64) for n, dim, _ in sets]  # how the time is shared out
    ends = time.monotonic() + given.minutes * 60
    for n, dim, data in sets:
        share = left[0] / sum(left)
        left.pop(0)
        cells += measure(n, dim, data, given.rounds, (ends - time.monotonic()) * share)
        for cell in cells[-len(candidates(n)) :]:
            print(line(cell), flush=True)
    memory = peaks(given.sizes, given.dims)
    details = {"cells": cells, "peak_mib": memory, "k": K, "anchors": ANCHORS}
    write(given.output, [], details, note=given.note, **known)
    page = given.output.with_suffix(".md")
    write_atomically(page, markdown(cells, memory, known, given.note))
    draw(cells, given.output.with_suffix(".png"))
    print(page)


# --- one set of points -------------------------------------------------------------------------


def candidates(n: int) -> dict[str, Callable[[], Index]]:
    """Every index that is asked, by its name in the tables."""
    lists = next(size for size in (16, 64, 256, 1024) if size >= n**0.5)
    probes = max(1, lists // 16)
    found: dict[str, Callable[[], Index]] = {
        "exact": Exact,
        "FAISS Flat": lambda: Factory("Flat"),
        "LSH 64 bits": lambda: Lsh(64),
        "LSH 256 bits": lambda: Lsh(256),
        "LSH 256 bits, longer list": lambda: Lsh(256, shortlist=32),
        "LSH 1024 bits, longer list": lambda: Lsh(1024, shortlist=32),
        "IVF": lambda: Factory(f"IVF{lists},Flat", f"nprobe={probes}"),
        "class lists": lambda: ClassLists(8),
    }
    if n <= MOST_IN_A_GRAPH:
        found["HNSW"] = lambda: Factory("HNSW16", "efSearch=64")
    return found


def measure(n: int, dim: int, data: str, rounds: int, budget: float) -> list[dict[str, Any]]:
    """A row for each index, from as many rounds as the budget (seconds) allows."""
    vectors, labels, anchors = cell_of(n, dim, data)
    cases = {name: Case(make) for name, make in candidates(n).items()}
    began = time.monotonic()
    truth = cases["exact"].turn(vectors, labels, anchors)
    for case in list(cases.values())[1:]:
        found = case.turn(vectors, labels, anchors)
        case.recall = float(recall(found, truth, nearest=True))
    round_ = time.monotonic() - began
    for _ in range(rounds - 1):
        if time.monotonic() - began + round_ > budget:
            break
        for case in cases.values():
            case.turn(vectors, labels, anchors)
    return [
        {"n": n, "dim": dim, "data": data, "index": name} | case.row(n, len(anchors))
        for name, case in cases.items()
    ]


def cell_of(n: int, dim: int, data: str) -> tuple[Tensor, Tensor, Tensor]:
    vectors, labels = points(n, dim, min(100, n // 100), SPREADS[data])
    return vectors, labels, sample(n, min(n, ANCHORS))


@dataclass
class Case:
    """One index on one set of points, and what it has taken so far."""

    make: Callable[[], Index]
    built: list[float] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)
    recall: float = 1.0
    candidates: float = 0.0
    kept: Index | None = None

    def turn(self, vectors: Tensor, labels: Tensor, anchors: Tensor) -> Neighbours:
        index = self.kept or self.make()
        if self.kept is None:
            self.built.append(seconds(lambda: index.build(vectors, labels)))
            self.kept = index if self.built[-1] > SLOW else None
        answers: list[Neighbours] = []
        self.asked.append(seconds(lambda: answers.append(index.negatives(anchors, K))))
        self.candidates = index.candidates
        return answers[0]

    def row(self, n: int, anchors: int) -> dict[str, Any]:
        build, query = statistics.median(self.built), statistics.median(self.asked)
        return {
            "recall": round(self.recall, 4),
            "candidates": round(self.candidates, 1),
            "build_seconds": build,
            "query_seconds": query,
            "query_lowest": min(self.asked),
            "query_highest": max(self.asked),
            "all_rows_seconds": build + query * n / anchors,
            "rounds": len(self.asked),
        }


# --- memory ------------------------------------------------------------------------------------


def peaks(sizes: list[int], dims: list[int]) -> dict[str, float]:
    """MiB at the peak of building and asking, for a million points of 64 dimensions."""
    if WEIGHED[0] not in sizes or WEIGHED[1] not in dims:
        return {}
    trim = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    found = {}
    for name in LIGHT:
        command = [sys.executable, __file__, "--peak", name]
        done = subprocess.run(
            command, env=os.environ | trim, stdout=subprocess.PIPE, check=True, text=True
        )
        found[name] = round(json.loads(done.stdout) / 2**20, 1)
    return found


def peak_of(name: str) -> int:
    vectors, labels, anchors = cell_of(*WEIGHED)
    make = candidates(WEIGHED[0])[name]

    def case() -> None:
        index = make()
        index.build(vectors, labels)
        index.negatives(anchors, K)

    return peak(case)


# --- what it says ------------------------------------------------------------------------------


def worth(cells: list[dict[str, Any]]) -> str:
    """From which n, if any, LSH is worth it at a recall of at least .9, in one sentence."""
    wins, tried, near = [], 0, []
    for n, dim, data in {(c["n"], c["dim"], c["data"]): None for c in cells}:
        here = [c for c in cells if (c["n"], c["dim"], c["data"]) == (n, dim, data)]
        (exact,) = (c for c in here if c["index"] == "exact")
        good = [c for c in here if c["index"].startswith("LSH") and c["recall"] >= WORTH]
        tried += 1
        if good:
            best = min(good, key=lambda c: c["all_rows_seconds"])
            ratio = best["all_rows_seconds"] / exact["all_rows_seconds"]
            near.append((ratio, n, dim, data))
            if ratio < 1:
                wins.append(f"n = {n:,}, d = {dim}, {data} ({best['index']}, {ratio:.2f} x)")
    if wins:
        return (
            f"LSH with a recall@{K} of at least {WORTH} takes less time than exact search in "
            f"{len(wins)} of {tried} sets of points: {'; '.join(wins)}."
        )
    text = (
        f"No crossover: from n = {min(c['n'] for c in cells):,} to "
        f"{max(c['n'] for c in cells):,} LSH is never worth it at a recall@{K} of at least {WORTH}"
    )
    if not near:
        return f"{text}; none of its settings reaches that recall."
    ratio, n, dim, data = min(near)
    return (
        f"{text}. It reaches that recall in {len(near)} of {tried} sets of points, and takes "
        f"{ratio:.1f} x the time of exact search at best (n = {n:,}, d = {dim}, {data})."
    )


def line(cell: dict[str, Any]) -> str:
    return (
        f"{cell['n']:>9,} x {cell['dim']:<3} {cell['data']:9} {cell['index']:27}"
        f" recall {cell['recall']:.3f}  build {duration(cell['build_seconds']):>8}"
        f"  query {duration(cell['query_seconds']):>8}  all {duration(cell['all_rows_seconds']):>8}"
        f"  ({cell['rounds']} rounds)"
    )


def markdown(
    cells: list[dict[str, Any]], memory: dict[str, float], known: dict[str, Any], note: str
) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in known["versions"].items())
    lines = [
        f"From which n, if any, is LSH worth it at a recall of at least {WORTH}? {worth(cells)}",
        "",
        f"k = {K} nearest rows of another class. Seconds are the medians of the rounds (lowest and "
        f"highest query in brackets) for {ANCHORS:,} anchors; those for all n rows as anchors are "
        f"extrapolated. {versions}; {known['threads']} thread, {known['cpu']}"
        + (f"; {note}." if note else "."),
        "",
        "| n | d | points | index | recall | candidates | build | query | all rows | / exact |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    exact = 1.0
    for cell in cells:
        if cell["index"] == "exact":
            exact = cell["all_rows_seconds"]
        spread = f"[{duration(cell['query_lowest'])}, {duration(cell['query_highest'])}]"
        values = [
            f"{cell['n']:,}",
            str(cell["dim"]),
            cell["data"],
            cell["index"],
            f"{cell['recall']:.3f}",
            f"{cell['candidates']:,.0f}",
            duration(cell["build_seconds"]),
            f"{duration(cell['query_seconds'])} {spread}",
            duration(cell["all_rows_seconds"]),
            f"{cell['all_rows_seconds'] / exact:.2f}",
        ]
        lines.append("| " + " | ".join(values) + " |")
    if memory:
        n, dim, data = WEIGHED
        lines += [
            "",
            f"{n:,} points of {dim} dimensions, {data}: seconds, and MiB beyond the points",
        ]
        lines += ["", "| index | build | query | all rows | peak MiB |", "|---|---|---|---|---|"]
        for cell in cells:
            if (cell["n"], cell["dim"], cell["data"]) == WEIGHED and cell["index"] in memory:
                times = (cell[f"{part}_seconds"] for part in ("build", "query", "all_rows"))
                words = [cell["index"], *map(duration, times), f"{memory[cell['index']]:,.0f}"]
                lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines) + "\n"


def draw(cells: list[dict[str, Any]], path: Path) -> None:
    """Recall against time at the largest n, and time against n, at 64 dimensions if measured."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    dims = sorted({cell["dim"] for cell in cells})
    dim = 64 if 64 in dims else dims[-1]
    largest = max(cell["n"] for cell in cells)
    names = list(dict.fromkeys(cell["index"] for cell in cells))
    colours = dict(zip(names, plt.get_cmap("tab10").colors, strict=False))
    figure, axes = plt.subplots(2, len(SPREADS), figsize=(13, 10), squeeze=False)
    for column, data in enumerate(SPREADS):
        here = [cell for cell in cells if cell["data"] == data and cell["dim"] == dim]
        for name in names:
            own = sorted((c for c in here if c["index"] == name), key=lambda c: c["n"])
            style = {"marker": "o", "color": colours[name], "label": name}
            last = [c for c in own if c["n"] == largest]
            axes[0][column].plot(
                [c["all_rows_seconds"] for c in last], [c["recall"] for c in last], **style
            )
            axes[1][column].plot(
                [c["n"] for c in own], [c["all_rows_seconds"] for c in own], **style
            )
        axes[0][column].set(
            title=f"{data}, d = {dim}, n = {largest:,}",
            xlabel="seconds, all rows as anchors",
            ylabel=f"recall@{K}",
            xscale="log",
            ylim=(0, 1.03),
        )
        axes[1][column].set(
            title=f"{data}, d = {dim}",
            xlabel="points n",
            ylabel="seconds, all rows as anchors",
            xscale="log",
            yscale="log",
        )
    for plot in axes.flat:
        plot.grid(alpha=0.3)
    axes[1][0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    print(path)


if __name__ == "__main__":
    with clear_errors():
        main()
