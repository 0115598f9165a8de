"""Where the time of one MNIST step goes, before and after going backward over selected rows alone.

    python benchmarks/step_profile.py      # a minute; writes results/step_profile.json and .md

OHEM with the 1,024-unit MLP on one thread. *Before* is ``objective.backward=full``: a graph of all
n with the losses of the others dropped, as Simsso/ML-Playground has it. *After* is ``rows``. Shares
are of torch's profiler, each operation without those it calls; what no operation accounts for is
Python and torch's own dispatch. Milliseconds are those shares of a step's time without the
profiler, whose own cost makes small operations look somewhat larger than they are.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from common import facts, in_turns, options, write
from ohem import MLP, repeated, trainer
from torch.profiler import ProfilerActivity, profile, record_function

from minesweep.config.entry import clear_errors
from minesweep.files import write_atomically
from minesweep.training.loop import Trainer

SIZES = [(512, 384), (1024, 128)]
WAYS = {"before": "full", "after": "rows"}
STEPS, NAMED = 50, 0.05
KINDS = {
    "aten::addmm": "matrix products, forward (addmm)",
    "aten::mm": "matrix products, backward (mm)",
}
OTHERS, HOST = "each other operation below 5 %, together", "Python and dispatch"


def main(argv: list[str] | None = None) -> None:
    given = options(str(__doc__), "step_profile", rounds=15).parse_args(argv)
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for n, k in SIZES:
            trainers = {
                name: trainer(
                    *(MLP, n, Path(folder), "miner=ohem", f"miner.k={k}"),
                    f"objective.backward={way}",
                )
                for name, way in WAYS.items()
            }
            calls = {name: repeated(made.update, 10) for name, made in trainers.items()}
            times = in_turns(calls, given.rounds, warm=2)
            found[f"{n}:{k}"] = {
                name: parts(made, sorted(times[name])[given.rounds // 2] / 10)
                for name, made in trainers.items()
            }
    write(given.output, [], found, note=given.note, **facts())
    path = given.output.with_suffix(".md")
    write_atomically(path, markdown(found))
    print(path)


def parts(made: Trainer, seconds: float) -> dict[str, float]:
    """Milliseconds of a step by part, the largest first; the step's own under ``a step``."""
    with profile(activities=[ProfilerActivity.CPU]) as result, record_function("steps"):
        repeated(made.update, STEPS)()
    events = {event.key: event.self_cpu_time_total for event in result.key_averages()}
    whole = sum(events.values())
    # The outer mark's own time, autograd's nodes and the optimizer's mark are no operations.
    shares = {name: time / whole for name, time in events.items() if name.startswith("aten::")}
    named = {KINDS.get(name, name): share for name, share in shares.items() if share >= NAMED}
    named[OTHERS] = sum(share for share in shares.values() if share < NAMED)
    named[HOST] = 1 - sum(shares.values())
    ordered = sorted(named.items(), key=lambda item: -item[1])
    return {"a step": seconds * 1e3, **{name: share * seconds * 1e3 for name, share in ordered}}


def markdown(found: dict[str, Any]) -> str:
    """A table for each n:k, before beside after."""
    lines = ["Milliseconds of one step of OHEM on MNIST, MLP 784-1024-10, one thread."]
    for size, cell in found.items():
        before, after = cell["before"], cell["after"]
        lines += ["", f"| n:k = {size} | before | | after | |", "|---|---|---|---|---|"]
        for name in dict.fromkeys([*before, *after]):
            cells = [
                text
                for side in (before, after)
                for text in (
                    (f"{side[name]:.2f}", f"{side[name] / side['a step']:.0%}")
                    if name in side
                    else ("below 5 %", "")
                )
            ]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    with clear_errors():
        main()
