"""k nearest rows of another class: exact search against FAISS flat, approximate against exact.

    python benchmarks/neighbours.py      # about eight minutes; writes results/neighbours.json

50,000 points of 64 dimensions in 10, 100 or 1,000 clusters that are the classes, k = 32, 10,000 of
them as anchors; building the index is part of each time. FAISS flat knows no classes: unfiltered it
answers an easier question (on such data all 32 neighbours are of the anchor's own class); filtered
it asks for as many neighbours as the largest class has members and k more, and drops those of the
own class. One thread; the cases take turns. The details hold recall and cost of the approximate
indexes, also where the classes overlap.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from common import Row, compare, facts, in_turns, options, write
from points import points, sample
from torch import Tensor

from minesweep.config.entry import clear_errors
from minesweep.errors import UserError
from minesweep.indexes.base import Index, Neighbours
from minesweep.indexes.class_lists import ClassLists
from minesweep.indexes.exact import Exact
from minesweep.indexes.faiss import Factory, import_faiss
from minesweep.indexes.lsh import Lsh
from minesweep.miners.index import recall

N, DIM, K = 50_000, 64, 32
CLASSES, SEPARATED, OVERLAPPING = (10, 100, 1000), 0.35, 0.9
PROBES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)
ENOUGH = 0.97
CHECKED = 500  # anchors on which recall is measured


def main(argv: list[str] | None = None) -> None:
    parser = options(str(__doc__), "neighbours", rounds=7)
    parser.add_argument("--points", type=int, default=N)
    parser.add_argument("--queries", type=int, default=10_000)
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    import_faiss().omp_set_num_threads(1)
    known = facts(("faiss-cpu",))
    version = f"FAISS {known['versions']['faiss-cpu']}"
    rows: list[Row] = []
    details: dict[str, Any] = {}
    for spread in (SEPARATED, OVERLAPPING):
        for classes in CLASSES:
            cell = Cell(given.points, classes, spread, given.queries)
            times = in_turns(cell.calls(spread == SEPARATED), given.rounds)
            name = f"{classes} classes, spread {spread:g}"
            details[name] = cell.summary(times)
            if spread == SEPARATED:
                rows += cell.rows(times, version)
    write(given.output, rows, details, note=given.note, **known)


class Cell:
    """One set of points, and every way to search in it."""

    def __init__(self, n: int, classes: int, spread: float, queries: int) -> None:
        self.vectors, self.labels = points(n, DIM, classes, spread)
        self.classes, self.spread = classes, spread
        self.anchors = sample(n, queries)
        self.truth = self.search(Exact(), self.anchors[:CHECKED])
        self.probes = self._probes()
        self.indexes: dict[str, Callable[[], Index]] = {
            "exact": Exact,
            f"class lists, {self.probes} probed": lambda: ClassLists(self.probes),
            "lsh, 256 bits": lambda: Lsh(256),
            "IVF256, 16 probed": lambda: Factory("IVF256,Flat", "nprobe=16"),
        }

    def search(self, index: Index, anchors: Tensor) -> Neighbours:
        index.build(self.vectors, self.labels)
        return index.negatives(anchors, K)

    def recall(self, index: Index) -> float:
        found = self.search(index, self.anchors[:CHECKED])
        return float(recall(found, self.truth, nearest=True))

    def _probes(self) -> int:
        """The fewest probes that find enough."""
        for probes in PROBES:
            if self.recall(ClassLists(probes)) >= ENOUGH:
                return probes
        return PROBES[-1]

    def calls(self, peers: bool) -> dict[str, Callable[[], Any]]:
        found: dict[str, Callable[[], Any]] = {
            name: lambda make=make: self.search(make(), self.anchors)
            for name, make in self.indexes.items()
        }
        if peers:
            found |= {"unfiltered": self.unfiltered, "filtered": self.filtered}
            self._agree(self.filtered())
        return found

    def unfiltered(self) -> Any:
        index = import_faiss().IndexFlatL2(DIM)
        index.add(self.vectors.numpy())
        return index.search(self.vectors[self.anchors].numpy(), K)

    def filtered(self) -> Tensor:
        """What FAISS finds of other classes, in parts that fit in memory."""
        index = import_faiss().IndexFlatL2(DIM)
        index.add(self.vectors.numpy())
        many = int(self.labels.bincount().max()) + K
        found = []
        for part in self.anchors.split(2048):
            rows = torch.from_numpy(index.search(self.vectors[part].numpy(), many)[1])
            own = (self.labels[rows] == self.labels[part, None]).to(torch.uint8)
            found.append(rows.gather(1, own.sort(dim=1, stable=True).indices[:, :K]))
        return torch.cat(found)

    def _agree(self, theirs: Tensor) -> None:
        found = (self.truth.rows[:, :, None] == theirs[:CHECKED, None]).any(2).float().mean()
        if found < 0.999:  # their rounding is not ours
            raise UserError(f"FAISS and exact search agree on {found:.2%} only: no comparison")

    def rows(self, times: dict[str, list[float]], version: str) -> list[Row]:
        size = f"{len(self.vectors):,} x {DIM}, {self.classes} classes, k = {K}"
        what = f"k nearest negatives, exact, {size}"
        unfiltered, filtered = (
            compare(what, f"{version} flat, {name}", times["exact"], times[name], most=goal)
            for name, goal in (("unfiltered", 1.25), ("filtered", 1.0))
        )
        name = f"class lists, {self.probes} probed"
        found = self.recall(ClassLists(self.probes))
        approximate = compare(
            f"the same, approximate, {size}",
            "exact search of ours",
            times[name],
            times["exact"],
            most=0.5,
            note=f"{name}: recall {found:.3f}, spread {self.spread:g} around the centres"
            + ("; that many are searched exactly" if 4 * self.probes >= self.classes else ""),
        )
        return [unfiltered, filtered, approximate]

    def summary(self, times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
        """Cost beside exact search, and recall where classes are looked at."""
        exact = statistics.median(times["exact"])
        found: dict[str, dict[str, float]] = {}
        for name, values in times.items():
            seconds = statistics.median(values)
            found[name] = {"seconds": seconds, "cost": round(seconds / exact, 3)}
            if name in self.indexes:
                found[name]["recall"] = round(self.recall(self.indexes[name]()), 4)
        return found


if __name__ == "__main__":
    with clear_errors():
        main()
