"""Several processes that train one run together, as torchrun starts them.

Each scores its part of the same global batch, gradients are averaged, and the first process alone
writes the run's folder. With a single process every function here is the identity.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from minesweep.errors import UserError

PATIENCE = timedelta(hours=2)
"""How long the others wait while the first process evaluates."""


def processes() -> int:
    """How many processes train this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if processes() > 1 else 0


def first() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def place() -> int:
    """Which of its machine's processes this is, and so which of its GPUs it takes."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def together(wanted: bool, gpus: bool) -> Iterator[None]:
    """Joins the processes that torchrun started, for as long as it is entered.

    Args:
        wanted: Whether the configuration asks for several (``trainer=ddp``).
        gpus: Whether they compute on GPUs, which NCCL connects; Gloo connects CPUs.

    Raises:
        UserError: torchrun started several, and the configuration does not ask for them.
    """
    launched = dist.is_available() and dist.is_torchelastic_launched()
    if launched and not wanted:
        raise UserError("torchrun trains one run on several processes: add trainer=ddp")
    if not launched or dist.is_initialized():
        yield
        return
    if gpus:
        torch.cuda.set_device(place())
    dist.init_process_group("nccl" if gpus else "gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def gather(part: Tensor) -> Tensor:
    """The parts of all processes, which are of one shape, one after the other. Without gradient."""
    if processes() == 1:
        return part
    parts = [torch.empty_like(part) for _ in range(processes())]
    dist.all_gather(parts, part.contiguous())
    return torch.cat(parts)


def own(whole: Tensor) -> Tensor:
    """This process' part of what all of them hold: the inverse of :func:`gather`."""
    return whole.chunk(processes())[rank()]


def largest(number: int | Tensor, device: torch.device) -> int:
    """The largest of the whole numbers that the processes have. Waits for the device."""
    if processes() == 1:
        return int(number)
    found = torch.as_tensor(number, device=device).to(torch.int64)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return int(found)


def mean(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The mean over the processes of each scalar; all have the same names."""
    if processes() == 1 or not values:
        return dict(values)
    total = torch.stack([value.double() for value in values.values()])
    dist.all_reduce(total)
    return dict(zip(values, total / processes(), strict=True))


def agreed(value: Any) -> Any:
    """What the first process has, in all of them; for small things at rare moments."""
    if processes() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]
