"""A step that learns from k of n: against all n, and against the other ways to select.

    make bench-peers && python benchmarks/ohem.py        # about ten minutes

Ours is the trainer's own update with ``miner=ohem``, the batch's fetching and Adam's step included.
It is held against the same trainer that learns from all n (``miner=all``), times the model of cost:
with a backward pass of b forward passes, n rows forward and k backward are (n + b k) / ((1 + b) n)
of it. b is counted. The other ways to learn from the same k: through a graph of all n with the
losses of the others dropped (``backward=full``, as Simsso/ML-Playground does it), select and
forward again (``backward=again``), and Composer's ``select_using_loss``, with its batch and Adam's
step ours. A step of the MLP written by hand, without autograd, tells the least that it can cost.
One thread; the cases take turns. Memory is what the resident set of another process grows by at
its peak during one step (Linux), or the GPU's own count.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from common import Row, compare, facts, in_turns, options, peak, write
from torch import nn
from torch.nn import functional

from minesweep.backward.choice import operations
from minesweep.backward.rows import rows_of
from minesweep.compat import import_torchvision
from minesweep.config.build import build
from minesweep.config.compose import compose
from minesweep.config.entry import clear_errors
from minesweep.errors import UserError
from minesweep.miners.base import uniform_batch
from minesweep.training.folder import RunFolder
from minesweep.training.loop import Trainer
from minesweep.training.run import load_data

COMPOSER = "Composer select_using_loss"
SMALL_IMAGES = ["model=timm", "model.image_size=64", "model.in_chans=3", "dataset.limit=4096"]
MLP, BY_HAND = "MLP 784-1024-10", "by hand"
SETUPS: dict[str, tuple[list[str], list[tuple[int, int]], float, int]] = {
    MLP: (["model=mlp"], [(512, 384), (1024, 512), (1024, 128)], 1.08, 5),
    "resnet18, GroupNorm, 64 px": (
        [*SMALL_IMAGES, "model.name=resnet18", "+model.norm_layer=groupnorm"],
        [(64, 48), (64, 16)],
        1.15,
        1,
    ),
    "vit_tiny, 64 px": (
        [*SMALL_IMAGES, "model.name=vit_tiny_patch16_224"],
        [(64, 48), (64, 16)],
        1.15,
        1,
    ),
}
"""Model, (n, k), the goal, and how many steps a turn takes."""

WAYS = ("rows", "again", "full")
Step = Callable[[], Any]


def main(argv: list[str] | None = None) -> None:
    parser = options(str(__doc__), "ohem", rounds=15)
    parser.add_argument("--setups", nargs="+", default=list(SETUPS), help="all by default")
    parser.add_argument("--peaks", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    if given.peaks:
        print(json.dumps(peaks(given.peaks[0], int(given.peaks[1]), int(given.peaks[2]))))
        return
    rows, details = [], {}
    for setup in given.setups:
        for n, k in SETUPS[setup][1]:
            found, kept = measured(setup, n, k, given.rounds)
            rows += found
            details[f"{setup}, {n}:{k}"] = kept
    write(given.output, rows, details, note=given.note, **facts(("timm", "mosaicml")))


def measured(setup: str, n: int, k: int, rounds: int) -> tuple[list[Row], dict[str, Any]]:
    """The rows of one n:k, and what is kept beside them."""
    _, _, goal, steps = SETUPS[setup]
    with ExitStack() as stack:
        cases = steps_of(setup, n, k, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        forward, backward = counted(cases["plain"].__self__)
        model = (n * forward + k * backward) / (n * (forward + backward))
        calls = {name: repeated(step, steps) for name, step in cases.items()}
        times = in_turns(calls, rounds, warm=2)
    memory = peaks_apart(setup, n, k)
    what = f"OHEM step, {setup}, {n}:{k}"
    times = {name: [seconds / steps for seconds in values] for name, values in times.items()}
    kept = {"backward / forward": round(backward / forward, 4), "model": round(model, 4)}
    kept |= {"peak_mib": memory, "ms": {name: _ms(values) for name, values in times.items()}}
    listed = ", ".join(f"{name} {mib:.0f}" for name, mib in memory.items())
    note = f"b = {backward / forward:.3g}; peak MiB: {listed}"
    if BY_HAND in times:
        ratios = [a / b / model for a, b in zip(times[BY_HAND], times["plain"], strict=True)]
        note += f"; by hand {statistics.median(ratios):.3g} of the model"
    rows = [
        compare(
            *(what, "plain step on all n", times["rows"], times["plain"]),
            most=goal,
            model=model,
            note=note,
        )
    ]
    for name, against in (
        ("again", "select and forward again"),
        ("full", "a graph of all n, losses dropped"),
        (COMPOSER, f"{COMPOSER} {metadata.version('mosaicml')}"),
    ):
        rows.append(compare(what, against, times["rows"], times[name], least=1))
    return rows, kept


def steps_of(setup: str, n: int, k: int, folder: Path) -> dict[str, Step]:
    """One update by each way, each with a model and an optimizer of its own."""
    cases = {"plain": trainer(setup, n, folder, "miner=all").update}
    for way in WAYS:
        chosen = ["miner=ohem", f"miner.k={k}", f"objective.backward={way}"]
        cases[way] = trainer(setup, n, folder, *chosen).update
    cases[COMPOSER] = Composer(trainer(setup, n, folder, "miner=all"), k / n)
    if setup == MLP:
        cases[BY_HAND] = ByHand(trainer(setup, n, folder, "miner=all"), k)
    return cases


def trainer(setup: str, n: int, folder: Path, *overrides: str) -> Trainer:
    """A trainer of MNIST that is about to make its first step."""
    chosen = [*SETUPS[setup][0], "dataset=mnist", "logger=none", f"trainer.batch_size={n}"]
    cfg = compose([*chosen, *overrides])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    made = Trainer(cfg, load_data(cfg, build(cfg, "dataset"), device), RunFolder(folder))
    made.model.train()
    return made


class Composer:
    """A step on what Composer's selective backprop keeps, with our batch and optimizer."""

    def __init__(self, trainer: Trainer, keep: float) -> None:
        import_torchvision()  # Composer imports it
        try:
            from composer.algorithms.selective_backprop.selective_backprop import (
                select_using_loss,
            )
        except ImportError as error:
            raise UserError(f"{error}: make bench-peers installs Composer") from None
        self.trainer, self.keep, self.select = trainer, keep, select_using_loss

    def __call__(self) -> None:
        trainer = self.trainer
        batch = trainer.data.train.fetch(uniform_batch(trainer.pool, trainer.step))
        inputs, labels = self.select(
            batch.inputs, batch.labels, trainer.model, functional.cross_entropy, self.keep
        )
        trainer.optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(trainer.model(inputs), labels).backward()
        trainer.optimizer.step()
        trainer.step += 1


class ByHand:
    """A step of the MLP without autograd: each product once, nothing kept that is not needed."""

    def __init__(self, trainer: Trainer, k: int) -> None:
        self.trainer, self.k = trainer, k
        self.hidden, self.last = (p for p in trainer.model if isinstance(p, nn.Linear))

    @torch.no_grad()
    def __call__(self) -> None:
        trainer = self.trainer
        batch = trainer.data.train.fetch(uniform_batch(trainer.pool, trainer.step))
        inputs = batch.inputs.flatten(1)
        hidden = self.hidden(inputs).relu_()
        outputs = self.last(hidden)
        losses = functional.cross_entropy(outputs, batch.labels, reduction="none")
        rows = losses.topk(self.k).indices
        gradient = outputs[rows].softmax(1)
        gradient[torch.arange(self.k), batch.labels[rows]] -= 1
        gradient /= self.k
        hidden = hidden.index_select(0, rows)
        below = (gradient @ self.last.weight).mul_(hidden > 0)
        self.last.weight.grad, self.last.bias.grad = gradient.T @ hidden, gradient.sum(0)
        self.hidden.weight.grad = below.T @ inputs.index_select(0, rows)
        self.hidden.bias.grad = below.sum(0)
        trainer.optimizer.step()
        trainer.step += 1


def repeated(step: Step, times: int) -> Step:
    def call() -> None:
        for _ in range(times):
            step()

    return call


def counted(plain: Trainer) -> tuple[int, int]:
    """Operations of a forward and of a backward pass, by torch's own counter."""
    batch = plain.data.train.fetch(uniform_batch(plain.pool, 0))
    few = torch.arange(8, device=batch.labels.device)
    return operations(plain.model, rows_of(batch.inputs, few, len(batch.labels)))


def peaks_apart(setup: str, n: int, k: int) -> dict[str, float]:
    """:func:`peaks` in a process whose freed memory leaves its resident set."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, __file__, "--peaks", setup, str(n), str(k)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def peaks(setup: str, n: int, k: int) -> dict[str, float]:
    """MiB that each way needs at its peak beyond model and optimizer."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, step in steps_of(setup, n, k, Path(folder)).items():
            repeated(step, 4)()  # chosen, checked, and past the step that checks
            found[name] = round(peak(step) / 2**20, 1)
    return found


def _ms(values: list[float]) -> list[float]:
    return [round(seconds * 1e3, 2) for seconds in values]


if __name__ == "__main__":
    with clear_errors():
        main()
