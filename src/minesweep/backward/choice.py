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

from minesweep.backward.modes import NotRowWise
from minesweep.backward.rows import rows_of
from minesweep.backward.two_passes import TwoPasses, on_fewer

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
    hindrance = hindrance_of_rows(model, inputs, n)
    few, model = _few(model, inputs, n, PROBED), _unwrapped(model)
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
    tried = min(k, PROBED)
    failure = _failure(model, _few(model, inputs, n, tried), tried, n)
    if failure is not None:
        return Choice(FULL, f"{excluded}, and again too: {failure}")
    if share < 1:
        return Choice(AGAIN, f"{_expected(k, n, share)}; {excluded}")
    return Choice(
        FULL, f"{excluded}, and again would cost {share:.2f} of learning from all {n}; no way saves"
    )


def _expected(k: int | None, n: int, share: float) -> str:
    if k is None:
        return f"backward over those selected of {n}; without them a step costs {share:.2f}"
    return f"{share:.3f} of the operations of learning from all {n}, saving {1 - share:.1%}"


def hindrance_of_rows(model: nn.Module, inputs: Any, n: int) -> str | None:
    """Why ``rows`` cannot be had; None where it can.

    The gradient of a few candidates is taken by two passes and through a whole graph.

    Args:
        model: In training mode.
        inputs: Of the first batch.
        n: How many candidates it holds.
    """
    if is_compiled(model):
        return "torch.compile hides the layers"
    if n < 2:
        return "there is one candidate"
    few, model, n = _few(model, inputs, n, PROBED), _unwrapped(model), min(n, PROBED)
    rows = torch.arange(0, n, 3, device=_device(model))
    passes = TwoPasses(remember=True)
    try:
        with _undone(model), still_statistics(model):
            outputs = passes.score(model, few, n)
            part = passes.learn(model, few, outputs, rows)
            found = _gradients(model, part)
        with _undone(model), still_statistics(model), torch.enable_grad():
            expected = _gradients(model, rows_of(model(few), rows, n))
    except NotRowWise as error:
        return str(error)
    except _NoGradient as error:
        return f"its gradient cannot be taken on trial ({error})"
    finally:
        torch.clear_autocast_cache()
    if not _alike(found, expected):
        return "the gradient of a row is another one beside other rows"
    return None


def _failure(model: nn.Module, few: Any, k: int, n: int) -> str | None:
    """Why the model does not run on k candidates, if it does not."""
    with _undone(model), still_statistics(model), torch.no_grad():
        try:
            with on_fewer(k, n):
                model(few)
        except NotRowWise as error:
            return str(error)
    return None


def _gradients(model: nn.Module, outputs: Any) -> list[Tensor]:
    """Of some sum of the outputs; 0 for a parameter without one."""
    learned = [p for p in model.parameters() if p.requires_grad]
    given = [o for o in tree_leaves(outputs) if isinstance(o, Tensor) and o.requires_grad]
    if not learned or not given:
        return [torch.zeros(())]
    # An equal weight for each number would cancel behind a softmax or a normalisation.
    weights = [torch.arange(o.numel(), device=o.device).cos().view(o.shape).to(o) for o in given]
    return _differentiated(given, learned, weights)


class _NoGradient(Exception):
    """A gradient that does not go to ``.grad`` cannot be had: checkpoints that are re-entrant."""


def _differentiated(
    outputs: list[Tensor], learned: list[nn.Parameter], weights: list[Tensor] | None = None
) -> list[Tensor]:
    try:
        found = torch.autograd.grad(outputs, learned, weights, materialize_grads=True)
    except RuntimeError as error:
        raise _NoGradient(str(error).splitlines()[0].split(". ")[0]) from error
    return list(found)


def _alike(found: list[Tensor], expected: list[Tensor]) -> bool:
    """Whether gradients agree by their norms, as far as their precision lets that be said."""
    device, dtype = expected[0].device.type, expected[0].dtype
    coarse = device != "cpu" or torch.is_autocast_enabled(device) or dtype.itemsize < 4
    tolerance, floor = (0.2, 5e-2) if coarse else (1e-2, 1e-3)
    norms = torch.stack([gradient.norm() for gradient in expected])
    apart = torch.stack([(a - b).norm() for a, b in zip(found, expected, strict=True)])
    # A bias before a normalisation has a gradient of 0 and rounding errors.
    scale = norms.clamp(min=floor * norms.max())
    return bool((apart <= tolerance * scale).all() | ~norms.isfinite().all())


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
            try:
                _differentiated([total], learned)
            except _NoGradient:
                return forward, 2 * forward
    return forward, counter.get_total_flops()


@contextmanager
def _undone(model: nn.Module) -> Iterator[None]:
    """Undoes what a forward pass leaves behind: random numbers drawn, buffers changed."""
    python, numpy = random.getstate(), np.random.get_state()
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
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


class Spread(nn.Module):
    """A model of several arguments, called with one tuple or dict of them."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Any) -> Any:
        return self.inner(**inputs) if isinstance(inputs, dict) else self.inner(*inputs)


def is_compiled(model: nn.Module) -> bool:
    """Whether ``torch.compile`` has been at the model, or at a part of it."""
    return any(
        getattr(module, "_compiled_call_impl", None) is not None or hasattr(module, "_orig_mod")
        for module in model.modules()
    )


def _unwrapped(model: nn.Module) -> nn.Module:
    # DistributedDataParallel would wait for a backward pass of every process.
    if isinstance(model, Spread):
        return Spread(_unwrapped(model.inner))
    if isinstance(whole := getattr(model, "_orig_mod", None), nn.Module):
        return _unwrapped(whole)  # to count, the operations have to be seen
    if not isinstance(model, nn.parallel.DistributedDataParallel):
        return model
    assert isinstance(model.module, nn.Module)
    return model.module


def _few(model: nn.Module, inputs: Any, n: int, most: int) -> Any:
    return rows_of(inputs, torch.arange(min(n, most), device=_device(model)), n)


def _device(model: nn.Module) -> torch.device:
    tensor = next(model.parameters(), None)
    return torch.device("cpu") if tensor is None else tensor.device
