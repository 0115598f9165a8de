"""What it costs to check at every step that rows do not depend on each other.

    python benchmarks/row_check.py        # about five minutes

Two trainers take turns: ``objective.backward=rows`` as it is, and the same without sentinels,
without the comparison of outputs, and without the look at buffers and random generators. The
seconds are the processor's, of one thread: another process beside it changes them little. The
steps that check everything (0, 1, 2, 4, 8 ...) are left out.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import Row, compare, facts, in_turns, options, write
from ohem import MLP, repeated, trainer
from torch import Tensor, nn

from minesweep.backward.modes import Answering, Call, Learned, Learning, Remembering
from minesweep.backward.rows import rows_of
from minesweep.backward.two_passes import TwoPasses, eager
from minesweep.config.entry import clear_errors

RESNET = "resnet18, GroupNorm, 64 px"
SETUPS = {(MLP, 1024, 128): (0.02, 5), (RESNET, 64, 16): (0.01, 1)}
"""The goal as a share of the step, and how many steps a turn takes."""
FIRST = 1025  # the next step that checks everything is far


class Unchecked(TwoPasses):
    """The two passes alone."""

    def score(self, model: nn.Module, inputs: Any, n: int, step: int = 0, by: Any = None) -> Any:
        if not self._learned:
            return super().score(model, inputs, n, step, by)
        self._n, self._check = n, False
        with torch.no_grad(), eager(), Forgetful(self._learned, n, slice(0)) as mode:
            outputs = model(inputs)
        self._calls = mode.calls
        torch.clear_autocast_cache()
        return outputs

    def learn(self, model: nn.Module, inputs: Any, outputs: Any, rows: Tensor) -> Any:
        if self._check:
            return super().learn(model, inputs, outputs, rows)
        learning = Learning(self._n, rows, rows[:0], rows[:0], False)
        with eager(), Trusting(model, self._calls, self._learned, learning):
            return model(rows_of(inputs, rows, self._n))


class Forgetful(Remembering):
    """Keeps nothing of what an operation is given."""

    def _keep(self, func: Any, tensors: list[Tensor]) -> list[Tensor]:
        return []


class Trusting(Answering):
    """Compares nothing."""

    def _as_kept(self, call: Call, known: Learned, tensors: list[Tensor]) -> bool:
        return True


def main(argv: list[str] | None = None) -> None:
    given = options(str(__doc__), "row_check", rounds=60).parse_args(argv)
    torch.set_num_threads(1)
    rows = [measured(*setup, given.rounds) for setup in SETUPS]
    write(given.output, rows, note=given.note, **facts(("timm",)))


def measured(setup: str, n: int, k: int, rounds: int) -> Row:
    """One interleaved comparison."""
    goal, steps = SETUPS[setup, n, k]
    cases = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("checked", "unchecked"):
            chosen = ["miner=ohem", f"miner.k={k}", "objective.backward=rows"]
            made = trainer(setup, n, Path(folder), *chosen, f"trainer.max_steps={2 * FIRST}")
            made.update()
            if name == "unchecked":
                made.objective._passes = Unchecked(remember=True)
            made.step = FIRST
            made.update()
            cases[name] = repeated(made.update, steps)
        times = in_turns(cases, rounds, warm=2, clock=time.process_time)
    per_step = {name: [seconds / steps for seconds in values] for name, values in times.items()}
    what = f"the check of rows, {setup}, {n}:{k}"
    return compare(
        what, "the step without it", per_step["checked"], per_step["unchecked"], most=1 + goal
    )


if __name__ == "__main__":
    with clear_errors():
        main()
