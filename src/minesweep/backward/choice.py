"""Which way an update goes backward: decided by counted operations and by what the layers do."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from minesweep.backward.rows import rows_of
from minesweep.backward.two_passes import NotRowWise, TwoPasses

ROWS, AGAIN, FULL = "rows", "again", "full"
PROBED = 8
"""Candidates of the first batch on which the model is tried."""


@dataclass(frozen=True)
class Choice:
    """Attributes:
    way: ``rows``, ``again`` or ``full``.
    reason: What it expects, in one line.
    """

    way: str
    reason: str


def choose(model: nn.Module, inputs: Any, n: int, k: int | None) -> Choice:
    """The cheapest way to learn from k of n candidates; ``full`` where none is cheaper.

    Two passes over a few candidates are tried (their chance and their traces are undone), and
    the operations of a forward and a backward pass are counted. No clock is looked at: equal
    configurations choose alike on every machine.

    Args:
        model: In training mode.
        inputs: Of the first batch.
        n: How many candidates it holds.
        k: How many are selected; None where that is not known before.
    """
    if k is not None and k >= n:
        return Choice(FULL, f"all {n} are selected, so nothing can be saved")
    model = _unwrapped(model)
    few = rows_of(inputs, torch.arange(min(n, PROBED), device=_device(model)), n)
    hindrance = _hindrance(model, few, min(n, PROBED))
    forward, backward = operations(model, few)
    step = n * (forward + backward)
    if not step:
        return Choice(FULL, "no operation was counted that could be saved")
    if hindrance is None:
        return Choice(ROWS, _expected(k, n, (n * forward + (k or 0) * backward) / step))
    excluded = f"rows is ruled out ({hindrance})"
    if k is None:
        return Choice(FULL, f"{excluded}, and how many are selected is not known before")
    share = (n * forward + k * (forward + backward)) / step
    if share < 1:
        return Choice(AGAIN, f"{_expected(k, n, share)}; {excluded}")
    return Choice(
        FULL, f"{excluded}, and again would cost {share:.2f} of learning from all {n}; no way saves"
    )


def _expected(k: int | None, n: int, share: float) -> str:
    if k is None:
        return f"backward over those selected of {n}; without them a step costs {share:.2f}"
    return f"{share:.3f} of the operations of learning from all {n}, saving {1 - share:.1%}"


def _hindrance(model: nn.Module, few: Any, n: int) -> str | None:
    """Why rows cannot be had; None where they can."""
    if is_compiled(model):
        return "torch.compile hides the layers"
    if n < 2:
        return "there is one candidate"
    passes = TwoPasses(remember=True)
    with _undone(model), still_statistics(model):
        try:
            outputs = passes.score(model, few, n)
            passes.learn(model, few, outputs, torch.arange(0, n, 3, device=_device(model)))
        except NotRowWise as error:
            return str(error)
        finally:
            torch.clear_autocast_cache()
    return None


def operations(model: nn.Module, few: Any) -> tuple[int, int]:
    """Floating-point operations of a forward and of a backward pass over a few candidates."""
    from torch.utils.flop_counter import FlopCounterMode

    learned = [p for p in model.parameters() if p.requires_grad]
    eager = torch.compiler.set_stance("force_eager")  # to count, the operations have to be seen
    with eager, _undone(model), still_statistics(model), torch.enable_grad():
        with FlopCounterMode(display=False) as counter:
            outputs = [o for o in tree_leaves(model(few)) if isinstance(o, Tensor)]
        forward = counter.get_total_flops()
        total = sum((o.float().sum() for o in outputs if o.requires_grad), torch.zeros(()))
        if not learned or not isinstance(total, Tensor) or not total.requires_grad:
            return forward, 0
        with FlopCounterMode(display=False) as counter:
            torch.autograd.grad(total, learned, allow_unused=True)
    return forward, counter.get_total_flops()


@contextmanager
def _undone(model: nn.Module) -> Iterator[None]:
    """Undoes what a forward pass leaves behind: random numbers drawn, buffers changed."""
    python, numpy = random.getstate(), np.random.get_state()
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        yield
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
    random.setstate(python)
    np.random.set_state(numpy)


def still_statistics(model: nn.Module, still: bool = True) -> AbstractContextManager[None]:
    """While entered, BatchNorm in train mode leaves its running statistics as they are."""
    return _still(model) if still else nullcontext()


@contextmanager
def _still(model: nn.Module) -> Iterator[None]:
    layers = [
        layer
        for layer in model.modules()
        if isinstance(layer, _BatchNorm) and layer.training and layer.track_running_stats
    ]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


def is_compiled(model: nn.Module) -> bool:
    """Whether ``torch.compile`` has been at the model, or at a part of it."""
    return any(
        getattr(module, "_compiled_call_impl", None) is not None or hasattr(module, "_orig_mod")
        for module in model.modules()
    )


def _unwrapped(model: nn.Module) -> nn.Module:
    # DistributedDataParallel would wait for a backward pass of every process.
    if not isinstance(model, nn.parallel.DistributedDataParallel):
        return model
    assert isinstance(model.module, nn.Module)
    return model.module


def _device(model: nn.Module) -> torch.device:
    tensor = next(model.parameters(), None)
    return torch.device("cpu") if tensor is None else tensor.device
