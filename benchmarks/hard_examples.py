"""``HardExamples`` in a loop of one's own against a step of Minesweep's trainer.

    python benchmarks/hard_examples.py        # about five minutes

Both take the same batches, learn from k of n by ``backward=rows``, and step Adam. The loop of
one's own keeps no metrics. One thread; the seconds are the processor's, so that another process
beside it changes them little. The cases take turns.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import Row, compare, facts, in_turns, options, write
from ohem import MLP, repeated, trainer
from row_check import RESNET
from torch.nn import functional

from minesweep import HardExamples
from minesweep.config.entry import clear_errors
from minesweep.miners import Ohem
from minesweep.miners.base import uniform_batch

SETUPS = ((MLP, 1024, 128, 5), (RESNET, 64, 16, 1))
"""Model, n, k, and how many steps a turn takes."""
GOAL = 1.03


class Loop:
    """A step as somebody would write it."""

    def __init__(self, parts: Any, k: int) -> None:
        self.parts, self.hard = parts, HardExamples(Ohem(k=k), "rows")

    def __call__(self) -> None:
        parts = self.parts
        batch = parts.data.train.fetch(uniform_batch(parts.pool, parts.step))
        parts.optimizer.zero_grad(set_to_none=True)
        loss = self.hard(
            parts.model,
            batch.inputs,
            lambda outputs: functional.cross_entropy(outputs, batch.labels, reduction="none"),
        )
        loss.backward()
        parts.optimizer.step()
        parts.step += 1


def main(argv: list[str] | None = None) -> None:
    given = options(str(__doc__), "hard_examples", rounds=60).parse_args(argv)
    torch.set_num_threads(1)
    rows = [measured(*setup, given.rounds) for setup in SETUPS]
    write(given.output, rows, note=given.note, **facts(("timm",)))


def measured(setup: str, n: int, k: int, steps: int, rounds: int) -> Row:
    """One interleaved comparison, after a look that both have the same gradients."""
    chosen = ["miner=ohem", f"miner.k={k}", "objective.backward=rows"]
    with tempfile.TemporaryDirectory() as folder:
        own, theirs = (trainer(setup, n, Path(folder), *chosen) for _ in range(2))
        loop = Loop(own, k)
        for _ in range(5):  # past the steps that check everything
            loop()
            theirs.update()
        for one, other in zip(own.model.parameters(), theirs.model.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5)
        cases = {"own": repeated(loop, steps), "trainer": repeated(theirs.update, steps)}
        times = in_turns(cases, rounds, warm=1, clock=time.process_time)
    per_step = {name: [seconds / steps for seconds in values] for name, values in times.items()}
    what = f"HardExamples, {setup}, {n}:{k}"
    return compare(what, "the trainer's step", per_step["own"], per_step["trainer"], most=GOAL)


if __name__ == "__main__":
    with clear_errors():
        main()
