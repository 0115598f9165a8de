"""A device that is not there: tensors that say they are on it and hold their values on the CPU.

Each operation is first run on torch's fake tensors on ``cuda:0``, which refuse operands of two
devices as CUDA does, and say on which device the result lies. Then it is computed on the CPU.
So sizes, selections and every ``if`` are real, and results can be compared with the CPU's.

The tensors say ``meta``: a torch without CUDA has autograd for no other device that is not there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode, ShapeEnv
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten

DEVICE = torch.device("meta")
CUDA, CPU = torch.device("cuda:0"), torch.device("cpu")
aten = torch.ops.aten
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
_Generator = torch.Generator
_Autocast = torch.autocast
_on_device: dict[int, Any] = {}
"""The generators of the device, by their address: an operation gets them in a new wrapper."""
# What fake tensors tell of each size that values decide.
logging.getLogger("torch.__trace").setLevel(logging.CRITICAL)


class Placed(Tensor):
    """A tensor on :data:`DEVICE`."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Placed:
        placed = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        placed.held = held
        return placed

    def __repr__(self) -> str:
        return f"Placed({self.held!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        new: Any = Placed(self.held.clone())
        if isinstance(self, nn.Parameter):
            new = nn.Parameter(new, self.requires_grad)
        memo[id(self)] = new
        return new

    def tolist(self) -> Any:
        return self.held.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if force:
            return self.held.numpy(force=True)
        raise TypeError("can't convert a tensor on a device to numpy: use Tensor.cpu() first")

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.numpy()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


def _computed(func: Any, args: Any, kwargs: Any) -> Any:
    """What an operation gives, on the devices that torch's fake tensors say."""
    flat, form = tree_flatten((args, kwargs))
    held = [_held(word) for word in flat]
    places = None
    if any(_is_placed(word) for word in flat):
        places = _places(func, flat, form)
    given, named = tree_unflatten(held, form)
    results, shape = tree_flatten(func(*given, **named))
    if places is None:
        return tree_unflatten(results, shape)
    known = {id(word.held): word for word in flat if isinstance(word, Placed)}
    placed = []
    for result, place in zip(results, places, strict=True):
        if place == CUDA:
            result = known[id(result)] if id(result) in known else Placed(result)
        placed.append(result)
    return tree_unflatten(placed, shape)


def _is_placed(word: Any) -> bool:
    return isinstance(word, Placed) or (isinstance(word, torch.device) and word == DEVICE)


def _held(word: Any) -> Any:
    if isinstance(word, Placed):
        return word.held
    return CPU if _is_placed(word) else word


_MODE = FakeTensorMode(
    shape_env=ShapeEnv(allow_scalar_outputs=True, allow_dynamic_output_shape_ops=True)
)


def _fake(word: Any) -> Any:
    if isinstance(word, Tensor):
        device = CUDA if isinstance(word, Placed) else word.device
        return FakeTensor(_MODE, _held(word).detach().to("meta"), device)
    if isinstance(word, _Generator):
        return None
    return CUDA if _is_placed(word) else word


def _places(func: Any, flat: list[Any], form: Any) -> list[torch.device | None] | None:
    """The device of each result; None where it is a value for the host, which fake tensors lack.

    Raises:
        RuntimeError: Operands lie on two devices, or a generator on another than the result.
    """
    args, kwargs = tree_unflatten(flat, form)
    if func in INDEXED:
        args = _without_masks(func, args)
    fakes, form = tree_flatten((args, kwargs))
    args, kwargs = tree_unflatten([_fake(word) for word in fakes], form)
    if not any("Tensor" in str(result.type) for result in func._schema.returns):
        _common_device(func, args, kwargs)
        return None
    try:
        with _MODE:
            found, _ = tree_flatten(func(*args, **kwargs))
    # A size that values decide is asked for within, or (torch 2.6) the first part of nothing.
    except (GuardOnDataDependentSymNode, DynamicOutputShapeException, IndexError):
        places = [_common_device(func, args, kwargs)] * len(func._schema.returns)
    else:
        places = [word.device if isinstance(word, Tensor) else None for word in found]
    for word in flat:
        if isinstance(word, _Generator) and (word._cdata in _on_device) != (CUDA in places):
            raise RuntimeError(f"{func}: a generator on another device than the result")
    return places


def _common_device(func: Any, args: Any, kwargs: Any) -> Any:
    fakes = [word for word in tree_flatten((args, kwargs))[0] if isinstance(word, FakeTensor)]
    return FakeTensor._find_common_device(func, fakes)[0]


def _without_masks(func: Any, args: Any) -> Any:
    """An operation that indexes, with the places of a mask instead of the mask."""
    indexed, indices, *rest = args
    found: list[Any] = []
    for index in indices:
        if index is None:
            found.append(None)
            continue
        if isinstance(index, Placed) and not isinstance(indexed, Placed):
            raise RuntimeError(f"{func}: a tensor on the CPU with an index on a device")
        if index.dtype in (torch.bool, torch.uint8):
            places = _held(index).nonzero(as_tuple=True)
            found += [Placed(p) if isinstance(index, Placed) else p for p in places]
        else:
            found.append(index)
    return (indexed, found, *rest)


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """Numbers of the host go to the device as a copy, which torch itself makes out of sight."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and _is_placed(kwargs.get("device")):
            if args and isinstance(args[0], Tensor):
                return args[0].to(**kwargs)
            return func(*args, **(kwargs | {"device": CPU})).to(DEVICE)
        if func is Tensor.new_tensor and isinstance(args[0], Placed) and "device" not in kwargs:
            dtype = kwargs.pop("dtype", args[0].dtype)
            return torch.tensor(*args[1:], dtype=dtype, **kwargs).to(DEVICE)
        return func(*args, **kwargs)


def _generator(device: Any = "cpu") -> torch.Generator:
    made = _Generator("cpu")
    if torch.device(device) == DEVICE:
        _on_device[made._cdata] = made
    return made


def _autocast(device: str, *args: Any, **kwargs: Any) -> Any:
    return _Autocast("cpu" if device == DEVICE.type else device, *args, **kwargs)


@contextmanager
def a_device() -> Iterator[torch.device]:
    """Within it, :data:`DEVICE` can be computed on, with generators of its own."""
    with pytest.MonkeyPatch.context() as patch, _Operations(), _Functions():
        patch.setattr(torch, "Generator", _generator)
        patch.setattr(torch, "autocast", _autocast)
        yield DEVICE
    _on_device.clear()
