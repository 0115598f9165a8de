"""Which rows of a tensor belong to which candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map, tree_map_only

T = TypeVar("T")


def rows_of(values: T, rows: Tensor, n: int) -> T:
    """The candidates at ``rows`` of inputs or outputs of n, each of which may hold several."""

    def take(value: Tensor) -> Tensor:
        # What has no rows (a scalar, one mask for all) belongs to every candidate.
        if value.ndim == 0 or len(value) % n:
            return value
        return value.index_select(0, _places(rows, len(value) // n))

    if isinstance(values, Tensor):
        return take(values)  # type: ignore[return-value]
    if isinstance(values, list | tuple | dict):
        return tree_map_only(Tensor, take, values)
    # Sentences, or what else can be indexed like a tensor.
    return values[_places(rows, len(values) // n)]  # type: ignore[arg-type,index]


def first_of(values: T, k: int, m: int) -> T:
    """The first k candidates of the outputs of m."""
    if k == m:
        return values

    def take(value: Tensor) -> Tensor:
        return value if value.ndim == 0 or len(value) % m else value[: len(value) // m * k]

    return tree_map_only(Tensor, take, values)


def replaced(outputs: T, rows: Tensor, part: T, n: int) -> T:
    """The outputs of n candidates with those of ``rows`` replaced by ``part``."""

    def put(whole: Any, new: Any) -> Any:
        if not isinstance(whole, Tensor):
            return whole
        if whole.ndim == 0 or len(whole) % n:
            return new
        return whole.to(new.dtype).index_copy(0, _places(rows, len(whole) // n), new)

    return put(outputs, part) if isinstance(outputs, Tensor) else tree_map(put, outputs, part)


def _places(rows: Tensor, each: int) -> Tensor:
    if each == 1:
        return rows
    return (rows[:, None] * each + torch.arange(each, device=rows.device)).flatten()


def row_dim(before: torch.Size, after: torch.Size, n: int, k: int) -> int | None:
    """The one dimension that went from a multiple of n to the same multiple of k."""
    if len(before) != len(after):
        return None
    other = [dim for dim, (b, a) in enumerate(zip(before, after, strict=True)) if a != b]
    fits = len(other) == 1 and before[other[0]] % n == 0
    return other[0] if fits and before[other[0]] * k == after[other[0]] * n else None


def same_but_rows(before: torch.Size, after: torch.Size, n: int, k: int) -> bool:
    """Whether two shapes are those of n and of k candidates, or of neither."""
    return before == after or row_dim(before, after, n, k) is not None


def row_dims(
    before: Sequence[Any], after: Sequence[Any], n: int, k: int
) -> Sequence[int | None] | None:
    """:func:`row_dim` of each output, None for one without rows; None if one fits in no way."""
    dims: list[int | None] = []
    for one, other in zip(before, after, strict=True):
        if not isinstance(one, Tensor) or one.shape == other.shape:
            dims.append(None)
            continue
        dim = row_dim(one.shape, other.shape, n, k)
        if dim is None:
            return None
        dims.append(dim)
    return dims


def along(whole: Tensor, dim: int, n: int, rows: Tensor) -> Tensor:
    """Candidates along one dimension, in which each may take several places in turn."""
    # (One pixel with the channels last counts as contiguous, and other kernels run for it.)
    if dim == 0 and whole.is_contiguous() and whole.stride(-1) == 1:
        if len(whole) == n:
            return whole.index_select(0, rows)
        return whole.view(n, -1).index_select(0, rows).view(-1, *whole.shape[1:])
    # In the order of memory, so that the answer lies there as the whole does (channels last).
    order = sorted(range(whole.ndim), key=whole.stride, reverse=True)
    place = order.index(dim)
    parts = whole.permute(order).unflatten(place, (n, -1)).index_select(place, rows)
    return parts.flatten(place, place + 1).permute([order.index(d) for d in range(whole.ndim)])


_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
_COARSE = 5e-2  # 16 bits; and TF32, which GPUs use for convolutions


def close(one: Any, other: Any) -> bool:
    """Whether two tensors agree but for rounding. Waits for the device; at checks alone."""
    if not isinstance(one, Tensor):
        return not isinstance(one, bool | int | float | str) or one == other
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(one, other) or not bool(far(one, other))


def far(one: Tensor, other: Tensor) -> Tensor:
    """Whether two tensors of one shape differ by more than rounding: a bool on their device."""
    if not one.is_floating_point():
        return (one != other).any()
    if one.numel() == 0:
        return one.new_zeros((), dtype=torch.bool)
    apart, scale = (one - other).abs().max(), one.abs().max()
    exact = one.dtype is torch.float64 or not one.is_cuda
    tolerance = _TOLERANCE.get(one.dtype, _COARSE) if exact else _COARSE
    # Where it is not finite the run has come to its end, and will say so.
    return (apart > tolerance * scale) & scale.isfinite()
