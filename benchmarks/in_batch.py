"""Time and peak memory of the in-batch miners beside those of PML and OML, on the same input.

    make bench-peers && python benchmarks/in_batch.py      # minutes; writes results/in_batch.json

(Two peers loop in Python and take minutes at B = 4096: these are called once. OML is measured where
it is installed; it stands in the details alone.)

A batch is B unit vectors of 128 dimensions, 4 of each class; a call starts from them and from the
labels, so the similarities are part of it. Ours gives the weights of the hard negative. The miners
take turns, so that a machine that slows down slows all of them; one thread. Ratios survive a busy
machine, milliseconds do not. Memory is what the resident set of another process, which hands freed
memory back at once, grows by at its peak during one call. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import compare, facts, in_turns, options, write
from torch import Tensor
from torch.nn import functional

from minesweep.config.entry import clear_errors
from minesweep.errors import UserError
from minesweep.miners.band import Band
from minesweep.miners.base import Context
from minesweep.miners.closest_negative import ClosestNegative
from minesweep.miners.distance_weighted import DistanceWeighted
from minesweep.miners.in_batch import InBatch
from minesweep.miners.smooth import Smooth

SIZES, DIM, PER_CLASS = (256, 1024, 4096), 128, 4
RIVALS = {
    "minesweep hardest": "PML BatchHard",
    "minesweep semi_hard": "PML BatchEasyHard semihard",
    "minesweep distance_weighted": "PML DistanceWeighted",
}
MOST_CUBED = 1024
"""PML's semi-hard triplets need B^3 booleans: 64 GiB at B = 4096."""

Mine = Callable[[Tensor, Tensor], Any]


def main(argv: list[str] | None = None) -> None:
    parser = options(str(__doc__), "in_batch", rounds=15)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--peaks", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    if given.peaks:
        print(json.dumps(peaks(given.peaks)))
        return
    known = facts(("pytorch-metric-learning",))
    pml = known["versions"]["pytorch-metric-learning"]
    rows, details = [], {}
    for size in given.sizes:
        vectors, labels = batch(size)
        cases = ours() | peers(size)
        calls = {name: partial(mine, vectors, labels) for name, mine in cases.items()}
        times, memory = in_turns(calls, given.rounds), peaks_apart(size)
        for name, peer in RIVALS.items():
            if peer in cases:
                mib = f"peak {memory[name] / 2**20:.3g} MiB against {memory[peer] / 2**20:.3g}"
                label = f"{name.removeprefix('minesweep ')} negative, B = {size}, d = {DIM}"
                against = peer.replace("PML", f"PML {pml}")
                row = compare(label, against, times[name], times[peer], least=3, note=mib)
                rows.append(row)
        details[str(size)] = {
            "miners": summarised(times, memory),
            "equal": equal(cases, vectors, labels),
        }
    write(given.output, rows, details, note=given.note, dim=DIM, per_class=PER_CLASS, **known)


def batch(size: int) -> tuple[Tensor, Tensor]:
    """``[B, 128]`` unit vectors and their classes; those of a class lie closer together."""
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(size // PER_CLASS).repeat_interleave(PER_CLASS)
    centres = torch.randn(size // PER_CLASS, DIM, generator=draws)[labels]
    return functional.normalize(centres + torch.randn(size, DIM, generator=draws), dim=1), labels


def ours() -> dict[str, Mine]:
    """Every miner, with the hardest positive of each anchor."""
    miners: dict[str, InBatch] = {
        "hardest": ClosestNegative("none"),
        "semi_hard": ClosestNegative("semi_hard"),
        "annealed": ClosestNegative("annealed"),
        "smooth": Smooth(),
        "band": Band(),
        "distance_weighted": DistanceWeighted(),
    }
    return {f"minesweep {name}": selecting(miner) for name, miner in miners.items()}


def selecting(miner: InBatch) -> Mine:
    miner._steps = 1000

    def mine(vectors: Tensor, labels: Tensor) -> Any:
        scores = vectors @ vectors.T
        same = labels[:, None] == labels
        positives = same.clone().fill_diagonal_(False)
        positive = torch.where(positives, scores, torch.inf).amin(1)
        context = Context(step=100, dim=DIM)
        return miner.hard(scores, positive[:, None], ~same, context)

    return mine


def peers(size: int) -> dict[str, Mine]:
    """The other libraries' miners of the same kinds, on cosines where they take them."""
    try:
        from pytorch_metric_learning import miners
        from pytorch_metric_learning.distances import CosineSimilarity
    except ImportError as error:
        raise UserError(f"{error}: make bench-peers installs the peers") from None
    cosine = CosineSimilarity()
    found: dict[str, Mine] = {
        "PML BatchHard": miners.BatchHardMiner(distance=cosine),
        "PML BatchEasyHard semihard": miners.BatchEasyHardMiner(
            "hard", "semihard", distance=cosine
        ),
        "PML DistanceWeighted": miners.DistanceWeightedMiner(),
    }
    if size <= MOST_CUBED:
        found["PML TripletMargin semihard"] = miners.TripletMarginMiner(
            0.25, "semihard", distance=cosine
        )
    return found | oml()


def oml() -> dict[str, Mine]:
    """OML's, where it is installed (it asks for an older NumPy, and runs with ours)."""
    try:
        from oml.miners.inbatch_hard_tri import HardTripletsMiner
        from oml.miners.inbatch_nhard_tri import NHardTripletsMiner
    except ImportError:
        return {}
    return {
        f"OML {name}": lambda vectors, labels, miner=miner: miner._sample(
            vectors,
            labels.tolist(),  # the indices alone, as PML gives them
        )
        for name, miner in (("HardTriplets", HardTripletsMiner()), ("NHard", NHardTripletsMiner()))
    }


def summarised(times: dict[str, list[float]], memory: dict[str, int]) -> dict[str, dict[str, Any]]:
    """Medians, spread, and how many times the median of our hardest that is."""
    base = statistics.median(times["minesweep hardest"])
    return {
        name: {
            "median_ms": round(statistics.median(values) * 1e3, 3),
            "lowest_ms": round(min(values) * 1e3, 3),
            "highest_ms": round(max(values) * 1e3, 3),
            "rounds": len(values),
            "times_hardest": round(statistics.median(values) / base, 2),
            "peak_mib": round(memory[name] / 2**20, 1),
        }
        for name, values in times.items()
    }


def peaks_apart(size: int) -> dict[str, int]:
    """:func:`peaks` in a process whose freed memory leaves its resident set."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, __file__, "--peaks", str(size)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)


def peaks(size: int) -> dict[str, int]:
    """Bytes that the resident set grows by at its peak, for each case."""
    found = {}
    vectors, labels = batch(size)
    for name, mine in (ours() | peers(size)).items():
        mine(*batch(64))  # what is imported or set up at a first call
        Path("/proc/self/clear_refs").write_text("5")  # the peak is now the present size
        before = _bytes("VmRSS")
        mine(vectors, labels)
        found[name] = max(0, _bytes("VmHWM") - before)
    return found


def _bytes(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def equal(cases: dict[str, Mine], vectors: Tensor, labels: Tensor) -> dict[str, bool]:
    """Whether the peers find the same negative for each anchor."""
    negatives = {
        kind: cases[f"minesweep {kind}"](vectors, labels) for kind in ("hardest", "semi_hard")
    }
    ours = {
        kind: dict(zip(*(part.tolist() for part in weights.nonzero(as_tuple=True)), strict=True))
        for kind, weights in negatives.items()
    }
    hard = cases["PML BatchHard"](vectors, labels)
    semi = cases["PML BatchEasyHard semihard"](vectors, labels)
    found = {
        "PML BatchHard": ours["hardest"] == _mapping(hard[0], hard[2]),
        "PML BatchEasyHard semihard": ours["semi_hard"] == _mapping(semi[0], semi[3]),
    }
    if "OML HardTriplets" in cases:
        other = cases["OML HardTriplets"](vectors, labels)
        found["OML HardTriplets"] = ours["hardest"] == _mapping(other[0], other[2])
    return found


def _mapping(anchors: Any, negatives: Any) -> dict[int, int]:
    both = (torch.as_tensor(part).tolist() for part in (anchors, negatives))
    return dict(zip(*both, strict=True))


if __name__ == "__main__":
    with clear_errors():
        main()
