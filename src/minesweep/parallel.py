"""Several processes that train one run, as torchrun starts them.

Each process scores its share of the same global batch, gradients are averaged, and the first
process alone writes the run's folder. With one process every function here is the identity.
"""

from __future__ import annotations

import atexit
import gc
import itertools
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from minesweep.errors import UserError

COLLECTIVE_TIMEOUT = timedelta(hours=2)
"""How long the other processes wait while the first one evaluates."""
FAILURE_TIMEOUT = timedelta(seconds=20)
"""How long a process whose run fails waits to hear that the run fails in the others, too."""


def processes() -> int:
    """The number of processes that train this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if processes() > 1 else 0


def is_first() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def local_rank() -> int:
    """The number of this process on its machine, and so the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def process_group(wanted: bool) -> Iterator[None]:
    """One run of the processes that torchrun started.

    The processes join at the first run and stay joined until they end: a group that is left and
    joined again would wait for ever for keys of the one before.

    A run that fails in all processes raises its error in each of them, and the next run of a
    sweep can follow. A run that fails in some of them ends those; torchrun then ends the others,
    which wait for an answer that never comes.

    Args:
        wanted: Whether the configuration asks for several processes (``trainer=ddp``).

    Raises:
        UserError: torchrun started several processes, and the configuration does not ask for
            them.
    """
    launched = dist.is_available() and dist.is_torchelastic_launched()
    if launched and not wanted:
        raise UserError("torchrun trains one run on several processes: add trainer=ddp")
    if not launched:
        yield
        return
    if not dist.is_initialized():
        _join()
    number = next(_runs)
    try:
        yield
    except Exception as error:
        if _fails_everywhere(number):
            raise
        print(
            f"minesweep: process {rank()} of {processes()} fails alone "
            f"({type(error).__name__}: {error}); all processes end",
            file=sys.stderr,
        )
        raise SystemExit(1) from error


_runs = itertools.count()  # all processes count alike


def _join() -> None:
    """Joins the processes: over Gloo, and over NCCL too where each has a GPU.

    A sweep may train on CPUs now and on GPUs then, so one group serves both.
    """
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    gpus = torch.cuda.is_available() and torch.cuda.device_count() >= here
    if gpus:
        torch.cuda.set_device(local_rank())
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=COLLECTIVE_TIMEOUT)
    atexit.register(_leave)


def _leave() -> None:
    # A DistributedDataParallel that outlives its group waits for Gloo's threads with the GIL in
    # its hands, and they may want it: what is left of one goes first.
    gc.collect()
    dist.destroy_process_group()


def _fails_everywhere(run: int) -> bool:
    """Whether the run of this number fails in each process; each of those that fail asks."""
    store = dist.distributed_c10d._get_default_store()
    keys = [f"minesweep/run-{run}/failed/{process}" for process in range(processes())]
    try:
        store.set(keys[rank()], "")
        store.wait(keys, FAILURE_TIMEOUT)
    except (RuntimeError, ValueError):  # a timeout, or the store has gone with its process
        return False
    return True


def all_gather(part: Tensor) -> Tensor:
    """The parts of all processes in order, one tensor; parts have one shape. Without gradient."""
    if processes() == 1:
        return part
    parts = [torch.empty_like(part) for _ in range(processes())]
    dist.all_gather(parts, part.contiguous())
    return torch.cat(parts)


def all_gather_objects(value: Any) -> list[Any]:
    """The values of all processes in order; for small things at rare moments."""
    values = [value] * processes()
    if processes() > 1:
        dist.all_gather_object(values, value)
    return values


def shard(whole: Tensor) -> Tensor:
    """This process' part of what all of them hold: the inverse of :func:`all_gather`."""
    return whole.chunk(processes())[rank()]


def all_reduce_max(number: int | Tensor, device: torch.device) -> int:
    """The largest of the whole numbers that the processes have. Waits for the device."""
    if processes() == 1:
        return int(number)
    largest = torch.as_tensor(number, device=device).to(torch.int64)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)


def all_reduce_mean(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The mean over the processes of each scalar; all have the same names."""
    if processes() == 1 or not values:
        return dict(values)
    total = torch.stack([value.double() for value in values.values()])
    dist.all_reduce(total)
    return dict(zip(values, total / processes(), strict=True))


def broadcast_from_first(value: Any) -> Any:
    """What the first process has, in each process; for small things at rare moments."""
    if processes() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]
