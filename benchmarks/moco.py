"""What MoCHi's mixing costs: a training step with it over one without, and the mixing alone.

    python benchmarks/moco.py            # five minutes; writes results/moco.json

A step is that of training: ResNet-18 on 64 images of 64 x 64 pixels, forward of queries and keys,
backward, SGD, queue and key encoder. *Alone* is what comes after the encoders, forward and
backward, with mixing minus without; the times of davidsvy/hard-negative-mixing were taken earlier,
on another and busy CPU, and are no measurement of this machine. One thread; the cases take turns.
With a GPU at hand the steps are measured there, too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from common import compare, facts, in_turns, options, write
from torch import Tensor, nn
from torch.nn import functional

from minesweep.config.entry import clear_errors
from minesweep.datasets.base import Batch, Data, Split
from minesweep.miners.base import Context, Pool
from minesweep.miners.mochi import Mochi
from minesweep.miners.queue import Queue
from minesweep.models.encoder import Encoder
from minesweep.objectives.moco import MoCo

B, SIDE, DIM, IMAGES = 64, 64, 128, 10_000
STEPS = [(4096, 1024, 128, 128, 1.03), (16_384, 1024, 512, 512, 1.10)]
"""K, N, s1, s2, and what a step with mixing should cost at most."""
EARLIER = [
    (8192, 32, 16, 16, 0.0079, 0.0150),
    (16_384, 1024, 512, 512, 0.0157, 0.1049),
    (65_536, 1024, 512, 512, 0.0543, 0.1693),
]
"""K, N, s1, s2, and the peer's seconds without and with mixing."""

Case = Callable[[], Any]


def main(argv: list[str] | None = None) -> None:
    given = options(str(__doc__), "moco", rounds=15).parse_args(argv)
    torch.set_num_threads(1)
    rows, details = [], {}
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        for k, n_hard, s1, s2, goal in STEPS:
            cases = {
                "MoCo": step(k, Queue(), device),
                "MoCHi": step(k, Mochi(n_hard, s1, s2), device),
            }
            times = in_turns(cases, given.rounds, warm=2)
            what = f"a step with MoCHi, K={k}, N={n_hard}, s1={s1}, s2={s2}, {device}"
            rows.append(compare(what, "a step of MoCo", times["MoCHi"], times["MoCo"], most=goal))
            details[what] = times
    for k, n_hard, s1, s2, plain, mixed in EARLIER:
        cases = {"MoCo": scoring(k, Queue()), "MoCHi": scoring(k, Mochi(n_hard, s1, s2))}
        times = in_turns(cases, given.rounds, warm=2)
        alone = [a - b for a, b in zip(times["MoCHi"], times["MoCo"], strict=True)]
        what = f"mixing alone, K={k}, N={n_hard}, s1={s1}, s2={s2}"
        earlier = [mixed - plain] * len(alone)
        peer = "davidsvy/hard-negative-mixing"
        rows.append(
            compare(what, peer, alone, earlier, most=1, note="taken earlier, on another CPU")
        )
        details[what] = times
    setting = {"batch": B, "side": SIDE, "dim": DIM}
    write(given.output, rows, details, note=given.note, **setting, **facts(("timm",)))


def ready(k: int, miner: Queue, model: nn.Module, device: str) -> MoCo:
    """An objective with a queue that has been filled."""
    labels = torch.arange(IMAGES, device=device) % 101
    pool = Pool(IMAGES, labels, B, 0, 1000, lambda rows: torch.zeros(len(rows), DIM))
    objective, split = MoCo(k), Split(labels, labels)
    objective.setup(model, pool, Data(split, split, split, 101, (3, SIDE, SIDE)))
    miner.setup(pool)
    objective.queue.rows.random_(0, IMAGES)
    objective.queue.labels.copy_(labels[objective.queue.rows])
    return objective


def step(k: int, miner: Queue, device: str) -> Case:
    """One update of the weights after another."""
    torch.manual_seed(0)
    model = Encoder("resnet18", DIM, input_shape=(3, SIDE, SIDE), num_classes=101).to(device)
    objective, miner = ready(k, miner, model, device), miner.to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    rows = torch.arange(B, device=device)
    batch = Batch(torch.rand(2, B, 3, SIDE, SIDE, device=device), rows % 101, rows)
    number = itertools.count()

    def update() -> None:
        outcome = objective(model, batch, miner, next(number))
        optimizer.zero_grad(set_to_none=True)
        outcome.loss.backward()
        optimizer.step()
        objective.after_step()

    return update


def scoring(k: int, miner: Queue) -> Case:
    """What comes after the encoders, forward and backward."""
    objective = ready(k, miner, nn.Linear(1, 1), "cpu")
    draws = torch.Generator().manual_seed(0)
    query, key = (functional.normalize(torch.randn(B, DIM, generator=draws), dim=1) for _ in "qk")
    query.requires_grad_()
    rows = torch.arange(B)
    number = itertools.count()

    def score() -> Tensor:
        context = Context(
            step=next(number), rows=rows, labels=rows % 101, queue_labels=objective.queue.labels
        )
        losses = objective._score(query, key, miner, context).losses
        return torch.autograd.grad(losses.mean(), query)[0]

    return score


if __name__ == "__main__":
    with clear_errors():
        main()
