"""What the benchmarks share: turns, medians and spread, the machine's facts, one layout of results.

A benchmark writes ``results/<name>.json``::

    {"facts": {...}, "rows": [...], "details": ...}

Each row (:class:`Row`) is one comparison with a peer and stands in the table of ``make bench``;
``details`` is whatever else a benchmark wants to keep. Its ``main(argv=None)`` takes the options of
:func:`options`, so that ``benchmarks/bench.py`` can call all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from minesweep.files import write_atomically

RESULTS = Path("results")
ONCE = 10.0  # seconds: what takes longer is measured once


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        what: What of ours was measured.
        against: The peer, with its version, or the model of cost.
        ratio: Median of the rounds' ratios; which way round ``unit`` says.
        low: The lowest of the rounds' ratios.
        high: The highest.
        goal: What the ratio should reach.
        at: ``most`` or ``least``: on which side of the goal the ratio should be.
        unit: What the ratio is of, e.g. ``time / peer's time``.
        ours: Our median, in seconds.
        theirs: The peer's, in seconds.
        note: What the reader has to know.
    """

    what: str
    against: str
    ratio: float
    low: float
    high: float
    goal: float
    at: str
    unit: str
    ours: float
    theirs: float
    note: str = ""

    @property
    def met(self) -> bool:
        return self.ratio <= self.goal if self.at == "most" else self.ratio >= self.goal


def compare(
    what: str,
    against: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    most: float | None = None,
    least: float | None = None,
    model: float = 1.0,
    note: str = "",
) -> Row:
    """A row from the seconds of both, round by round.

    Args:
        what: What of ours was measured.
        against: The peer.
        ours: Our seconds, one number a round.
        theirs: The peer's, of the same rounds.
        most: The ratio is our time over the peer's, over ``model``; it should be at most this.
        least: The ratio is the peer's time over ours; it should be at least this.
        model: What our time over the peer's should be by counting operations.
        note: What the reader has to know.
    """
    assert (most is None) != (least is None), "a goal is at most or at least something"
    pairs = list(zip(ours, theirs, strict=True))
    if most is not None:
        ratios, goal, at = [a / b / model for a, b in pairs], most, "most"
        unit = "time / peer's" if model == 1.0 else f"time / peer's / {model:.3g} of the model"
    else:
        assert least is not None
        ratios, goal, at, unit = [b / a for a, b in pairs], least, "least", "peer's time / ours"
    middle = statistics.median(ratios)
    return Row(
        what=what,
        against=against,
        ratio=round(middle, 4),
        low=round(min(ratios), 4),
        high=round(max(ratios), 4),
        goal=goal,
        at=at,
        unit=unit,
        ours=statistics.median(ours),
        theirs=statistics.median(theirs),
        note=note,
    )


def in_turns(
    cases: Mapping[str, Callable[[], Any]],
    rounds: int,
    warm: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each case, one number a round; the cases take turns.

    So a machine that slows down slows all of them. Each round has an order of its own, or the same
    case would always find the caches as the same other one left them. What takes more than ten
    seconds in the warming round is not called again: its one number stands for each round.
    """
    first: dict[str, float] = {}
    for _ in range(max(warm, 1)):
        first = {name: seconds(case, clock) for name, case in cases.items()}
    times: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(rounds):
        for name in random.Random(turn).sample(list(cases), len(cases)):
            times[name].append(seconds(cases[name], clock) if first[name] < ONCE else first[name])
    return times


def seconds(case: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """How long a call takes; the device's queued work included."""
    import torch

    synchronize = torch.cuda.synchronize if torch.cuda.is_available() else (lambda: None)
    synchronize()
    began = clock()
    case()
    synchronize()
    return clock() - began


def peak(case: Callable[[], Any]) -> int:
    """Bytes that memory grows by at its peak during a call: the GPU's, else the resident set's.

    For the latter glibc has to hand freed memory back at once: set ``MALLOC_TRIM_THRESHOLD_=0``
    and ``MALLOC_MMAP_THRESHOLD_=65536`` before the process starts. Linux only.
    """
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        case()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now the present size
    resident = _bytes("VmRSS")
    case()
    return max(0, _bytes("VmHWM") - resident)


def _bytes(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def options(doc: str, name: str, rounds: int) -> argparse.ArgumentParser:
    """The options that each benchmark has; it adds its own."""
    parser = argparse.ArgumentParser(description=doc.strip().splitlines()[0])
    parser.add_argument("--rounds", type=int, default=rounds, help="turns of each case")
    parser.add_argument("--note", default="", help="kept beside the numbers: the machine's state")
    parser.add_argument("--output", type=Path, default=RESULTS / f"{name}.json")
    return parser


def facts(packages: Iterable[str] = ()) -> dict[str, Any]:
    """What the numbers depend on: versions, processor, threads, GPU."""
    import torch

    return {
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("torch", *packages)},
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _cpu() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor()


def write(path: Path, rows: Sequence[Row], details: Any = None, **known: Any) -> None:
    """Writes the results, prints the table, and says where they are."""
    content = {"facts": known, "rows": [asdict(row) | {"met": row.met} for row in rows]}
    if details is not None:
        content["details"] = details
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(content, indent=1) + "\n")
    show(rows)
    print(path)


def show(rows: Sequence[Row]) -> None:
    """The table on the terminal."""
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    table = Table()
    for column in ("what", "against", "ratio", "goal", "times"):
        table.add_column(column)
    for row in rows:
        table.add_row(
            row.what,
            row.against,
            f"{row.ratio:.3g} [{row.low:.3g}, {row.high:.3g}]\n{row.unit}",
            f"at {row.at} {row.goal:g}\n{'met' if row.met else 'missed'}",
            f"{duration(row.ours)}\n{duration(row.theirs)}",
        )
    Console().print(table)


def duration(value: float) -> str:
    """``1.2 s`` or ``3.4 ms``."""
    return f"{value:.3g} s" if value >= 1 else f"{value * 1e3:.3g} ms"
