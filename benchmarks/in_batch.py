"""Time and peak memory of the in-batch miners beside those of PML and OML, on the same input.

    pip install -e '.[bench]'
    pip install --no-deps open-metric-learning==4.0.0 gdown validators beautifulsoup4 soupsieve
    python benchmarks/in_batch.py            # a quarter of an hour; writes results/in_batch.json

(OML asks for an older NumPy than the rest; its miners run with this one. Two peers loop in
Python and take minutes at B = 4096: these are called once.)

A batch is B unit vectors of 128 dimensions, 4 of each class; a call starts from them and from the
labels, so the similarities are part of it. The miners take turns, so that a machine that slows down
slows all of them; one thread. Ratios survive a busy machine, milliseconds do not. Memory is what
the resident set of another process, which hands freed memory back at once, grows by at its peak
during one call. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from minesweep.config.entry import clear_errors
from minesweep.errors import UserError
from minesweep.miners.band import Band
from minesweep.miners.base import Miner
from minesweep.miners.closest_negative import ClosestNegative
from minesweep.miners.distance_weighted import DistanceWeighted
from minesweep.miners.in_batch import HARD
from minesweep.miners.smooth import Smooth
from minesweep.training.folder import write_atomically

SIZES, DIM, PER_CLASS = (512, 4096), 128, 4
PACKAGES = ("torch", "pytorch-metric-learning", "open-metric-learning")
ONCE = 10.0  # seconds: what takes longer is measured once
MOST_CUBED = 1024
"""PML's semi-hard triplets need B^3 booleans: 64 GiB at B = 4096."""

Mine = Callable[[Tensor, Tensor], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--note", default="", help="kept beside the numbers: the machine's state")
    parser.add_argument("--peaks", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=Path("results/in_batch.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peaks:
        print(json.dumps(peaks(options.peaks)))
        return
    found: dict[str, Any] = {}
    for size in options.sizes:
        cases = ours() | peers(size)
        times = measure(cases, *batch(size), options.rounds)
        rows = summarised(times, peaks_apart(size))
        found[str(size)] = {"miners": rows, "equal": equal(cases, *batch(size))}
        show(size, rows)
    versions = {"python": platform.python_version()}
    versions |= {name: metadata.version(name) for name in PACKAGES}
    result = {"dim": DIM, "per_class": PER_CLASS, "threads": 1, "versions": versions}
    result |= {"note": options.note, "batch": found}
    options.output.parent.mkdir(exist_ok=True)
    write_atomically(options.output, json.dumps(result, indent=1) + "\n")
    print(options.output)


def batch(size: int) -> tuple[Tensor, Tensor]:
    """``[B, 128]`` unit vectors and their classes; those of a class lie closer together."""
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(size // PER_CLASS).repeat_interleave(PER_CLASS)
    centres = torch.randn(size // PER_CLASS, DIM, generator=draws)[labels]
    return functional.normalize(centres + torch.randn(size, DIM, generator=draws), dim=1), labels


def ours() -> dict[str, Mine]:
    """Every miner, with the hardest positive of each anchor."""
    miners: dict[str, Miner] = {
        "hardest": ClosestNegative("none"),
        "semi_hard": ClosestNegative(),
        "annealed": ClosestNegative("annealed"),
        "smooth": Smooth(),
        "band": Band(),
        "distance_weighted": DistanceWeighted(),
    }
    return {f"minesweep {name}": selecting(miner) for name, miner in miners.items()}


def selecting(miner: Miner) -> Mine:
    miner._steps = 1000

    def mine(vectors: Tensor, labels: Tensor) -> Any:
        scores = vectors @ vectors.T
        same = labels[:, None] == labels
        positives = same.clone().fill_diagonal_(False)
        positive = scores.masked_fill(~positives, torch.inf).amin(1)
        return miner.select(scores, step=100, valid=~same, positive=positive, dim=DIM)

    return mine


def peers(size: int) -> dict[str, Mine]:
    """The other libraries' miners of the same kinds, on cosines where they take them."""
    try:
        from oml.miners.inbatch_hard_tri import HardTripletsMiner
        from oml.miners.inbatch_nhard_tri import NHardTripletsMiner
        from pytorch_metric_learning import miners
        from pytorch_metric_learning.distances import CosineSimilarity
    except ImportError as error:
        raise UserError(f"{error}; how to install the peers is at the top of this file") from None
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
    for name, miner in (("HardTriplets", HardTripletsMiner()), ("NHard", NHardTripletsMiner())):
        found[f"OML {name}"] = lambda vectors, labels, miner=miner: miner._sample(
            vectors,
            labels.tolist(),  # the indices alone, as PML gives them
        )
    return found


def measure(
    cases: dict[str, Mine], vectors: Tensor, labels: Tensor, rounds: int
) -> dict[str, list[float]]:
    """Seconds of each case, one number a round."""
    first = {name: seconds(mine, vectors, labels) for name, mine in cases.items()}
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, mine in cases.items():
            if first[name] < ONCE:
                times[name].append(seconds(mine, vectors, labels))
    return {name: values or [first[name]] for name, values in times.items()}


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


def seconds(mine: Mine, vectors: Tensor, labels: Tensor) -> float:
    began = time.perf_counter()
    mine(vectors, labels)
    return time.perf_counter() - began


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
        kind: cases[f"minesweep {kind}"](vectors, labels)[HARD] for kind in ("hardest", "semi_hard")
    }
    ours = {
        kind: dict(zip(*(part.tolist() for part in weights.nonzero(as_tuple=True)), strict=True))
        for kind, weights in negatives.items()
    }
    hard = cases["PML BatchHard"](vectors, labels)
    semi = cases["PML BatchEasyHard semihard"](vectors, labels)
    oml = cases["OML HardTriplets"](vectors, labels)
    return {
        "PML BatchHard": ours["hardest"] == _mapping(hard[0], hard[2]),
        "PML BatchEasyHard semihard": ours["semi_hard"] == _mapping(semi[0], semi[3]),
        "OML HardTriplets": ours["hardest"] == _mapping(oml[0], oml[2]),
    }


def _mapping(anchors: Any, negatives: Any) -> dict[int, int]:
    both = (torch.as_tensor(part).tolist() for part in (anchors, negatives))
    return dict(zip(*both, strict=True))


def show(size: int, miners: dict[str, dict[str, Any]]) -> None:
    print(f"B = {size}, d = {DIM}")
    for name, row in miners.items():
        spread = f"[{row['lowest_ms']:.1f}, {row['highest_ms']:.1f}]"
        print(
            f"  {name:30} {row['median_ms']:10.1f} ms {spread:20} {row['times_hardest']:7.1f} x"
            f" {row['peak_mib']:8.1f} MiB"
        )


if __name__ == "__main__":
    with clear_errors():
        main()
