"""What stands below autograd in each of the two passes: one remembers, the other answers.

A few rows of each batch are sentinels. The scoring pass keeps what the remembered operations are
given for them, and the learning pass compares: if the same row is given something else beside
other rows, then rows depend on each other, and the step ends before its gradient is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from minesweep.backward.aten import REDRAWN, REMEMBERED, takes_statistics
from minesweep.backward.rows import along, close, far, row_dim, row_dims, same_but_rows
from minesweep.errors import UserError


class NotRowWise(UserError):
    """A row's output depends on more than that row, or cannot be had again for some rows."""


CHANGES = "what a layer is given for a row changes with the other rows of the batch"
FIXED, SAMPLED = "fixed", "sampled"
Kind = int | str
"""Of a tensor that an operation is given: the dimension along which its rows lie. Without rows:
``fixed`` if it is a weight, which both passes share, and ``sampled`` if each pass computes it."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What a step that checks found out about the call of one number.

    Attributes:
        operation: Which.
        inputs: Of each tensor that it is given.
        outputs: Along which dimension of each output the rows lie; None: it has none.
    """

    operation: Any
    inputs: tuple[Kind, ...]
    outputs: Sequence[int | None]


@dataclass(slots=True)
class Call:
    """One operation of the scoring pass that the learning pass will come to again.

    Attributes:
        operation: Which.
        shapes: Of its tensors.
        settings: Its other arguments.
        outputs: What it gave.
        versions: How often each output had been written to by then.
        kept: Of each tensor, what is compared (:func:`_kept`); None if that is not known yet.
    """

    operation: Any
    shapes: list[torch.Size]
    settings: list[Any]
    outputs: tuple[Any, ...]
    versions: list[int]
    kept: list[Tensor] | None = None

    def written_to(self) -> bool:
        tensors = (output for output in self.outputs if isinstance(output, Tensor))
        return any(t._version != v for t, v in zip(tensors, self.versions, strict=True))


def _kept(tensor: Tensor, kind: Kind, n: int, rows: slice) -> Tensor | None:
    """A weight itself, a sample of what has no rows, and a few rows of what has."""
    if kind == FIXED:
        return tensor
    if isinstance(kind, str):
        return _sample(tensor).clone()
    if kind >= tensor.ndim or tensor.shape[kind] % n:
        return None
    return _candidates(tensor, kind, n)[(slice(None),) * kind + (rows,)].clone()


def _candidates(tensor: Tensor, dim: int, n: int) -> Tensor:
    """With the places of each of n candidates in a dimension behind ``dim``, if there are some."""
    return tensor if tensor.shape[dim] == n else tensor.unflatten(dim, (n, -1))


def _sample(tensor: Tensor) -> Tensor:
    return tensor[tuple(slice(None, None, max(1, size // 16)) for size in tensor.shape)]


class _Mode(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Else torch wraps each call of ours, at twice the price. Nothing is compiled meanwhile.
        return False


class Remembering(_Mode):
    """Notes the calls of the scoring pass.

    Args:
        learned: Of each call by its number, what is known of it; empty in a step that checks.
        n: How many candidates.
        sentinels: The candidates whose inputs are kept.
    """

    def __init__(self, learned: dict[int, Learned | None], n: int, sentinels: slice) -> None:
        super().__init__()
        self.calls: list[Call | None] = []
        self.learned, self.n, self.sentinels = learned, n, sentinels

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in REMEMBERED:
            kept = self._keep(func, _tensors(args, kwargs))
            result = func(*args, **(kwargs or {}))
            outputs = result if isinstance(result, tuple) else (result,)
            self._note(func, args, kwargs, outputs, kept)
            return result
        if takes_statistics(func, args):
            self._note(func, args, kwargs, (), [_sample(args[0]).clone()])
        result = func(*args, **(kwargs or {}))
        if func in REDRAWN:
            outputs = result if isinstance(result, tuple) else (result,)
            # Dropout scales its mask in place; as bool it is kept small.
            small = func._opname.startswith("bernoulli")
            self._note(func, args, kwargs, tuple(o.bool() if small else o.clone() for o in outputs))
        return result

    def _keep(self, func: Any, tensors: list[Tensor]) -> list[Tensor] | None:
        known = self.learned.get(len(self.calls))
        if known is None or known.operation is not func or len(known.inputs) != len(tensors):
            return None
        kept = []
        for tensor, kind in zip(tensors, known.inputs, strict=True):
            part = _kept(tensor, kind, self.n, self.sentinels)
            if part is None:
                return None
            kept.append(part)
        return kept

    def _note(
        self,
        func: Any,
        args: Any,
        kwargs: Any,
        outputs: tuple[Any, ...],
        kept: list[Tensor] | None = None,
    ) -> None:
        versions = [o._version for o in outputs if isinstance(o, Tensor)]
        shapes, settings = _arguments(args, kwargs)
        self.calls.append(Call(func, shapes, settings, outputs, versions, kept))


@dataclass(frozen=True)
class Learning:
    """Who learns beside whom.

    Attributes:
        n: How many candidates were scored.
        rows: ``[k]`` of them that learn.
        sentinels: ``[m]`` places among the sentinels of those that are among ``rows``.
        places: ``[m]`` their places among ``rows``.
        check: Whether each answer is computed too, and compared.
    """

    n: int
    rows: Tensor
    sentinels: Tensor
    places: Tensor
    check: bool

    @property
    def k(self) -> int:
        return len(self.rows)


class Answering(_Mode):
    """Answers the calls of the learning pass from those of the scoring pass, in turn."""

    def __init__(
        self,
        model: nn.Module,
        calls: list[Call | None],
        learned: dict[int, Learned | None],
        learning: Learning,
    ) -> None:
        super().__init__()
        self.calls, self.learned, self.learning = calls, learned, learning
        self.number = -1
        self.doubts: list[Tensor] = []
        self.weights = _storages(model) if learning.check else frozenset()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in REMEMBERED:
            call = self._next(func, args, kwargs)
            if call is not None and not call.written_to():
                return self._answer(call, func, args, kwargs)
        elif func in REDRAWN:
            call = self._next(func, args, kwargs)
            if call is None:
                raise NotRowWise(f"it draws other random numbers for a part of a batch ({func})")
            return self._redraw(call, args)
        elif takes_statistics(func, args):
            self._normalise(self._next(func, args, kwargs), args[0])
        return func(*args, **(kwargs or {}))

    def _next(self, func: Any, args: Any, kwargs: Any) -> Call | None:
        """The call that this one repeats, if it does. Its memory is freed with the answer."""
        self.number += 1
        if self.number >= len(self.calls):
            return None
        call, self.calls[self.number] = self.calls[self.number], None
        assert call is not None
        if call.operation is not func:
            return None
        shapes, settings = _arguments(args, kwargs)
        same = len(shapes) == len(call.shapes) and all(
            same_but_rows(before, after, self.learning.n, self.learning.k)
            for before, after in zip(call.shapes, shapes, strict=True)
        )
        # The size of what is drawn anew is among its settings.
        return call if same and (settings == call.settings or func in REDRAWN) else None

    def _answer(self, call: Call, func: Any, args: Any, kwargs: Any) -> Any:
        if self.learning.k == self.learning.n:
            return _one_or_all(call.outputs)
        if self.learning.check:
            return self._check(call, func, args, kwargs)
        known = self.learned.get(self.number)
        if known is None or not self._as_kept(call, known, _tensors(args, kwargs)):
            return func(*args, **(kwargs or {}))
        return _one_or_all(self._take(call.outputs, known.outputs))

    def _check(self, call: Call, func: Any, args: Any, kwargs: Any) -> Any:
        """Answers only what computing gives too, and learns where its rows lie."""
        computed = func(*args, **(kwargs or {}))
        outputs = computed if isinstance(computed, tuple) else (computed,)
        dims = row_dims(call.outputs, outputs, self.learning.n, self.learning.k)
        answer = dims and self._take(call.outputs, dims)
        if not dims or not answer or not all(map(close, answer, outputs)):
            self.learned[self.number] = None
            return computed
        inputs = tuple(map(self._kind, call.shapes, _tensors(args, kwargs)))
        self.learned[self.number] = Learned(func, inputs, dims)
        return _one_or_all(answer)

    def _kind(self, before: torch.Size, tensor: Tensor) -> Kind:
        dim = row_dim(before, tensor.shape, self.learning.n, self.learning.k)
        if dim is not None:
            return dim
        return FIXED if tensor.untyped_storage().data_ptr() in self.weights else SAMPLED

    def _as_kept(self, call: Call, known: Learned, tensors: list[Tensor]) -> bool:
        """Whether rows lie where they lay; that they hold what they held is compared."""
        if call.kept is None:
            return False
        learning = self.learning
        for tensor, kept, kind, before in zip(
            tensors, call.kept, known.inputs, call.shapes, strict=True
        ):
            if isinstance(kind, int):
                if row_dim(before, tensor.shape, learning.n, learning.k) != kind:
                    return False
                rows = _candidates(tensor, kind, learning.k).index_select(kind, learning.places)
                self._compare(kept.index_select(kind, learning.sentinels), rows)
            elif tensor.shape != before:
                return False
            elif kind == SAMPLED:
                self._compare(kept, _sample(tensor))
            elif tensor.data_ptr() != kept.data_ptr() or tensor.stride() != kept.stride():
                return False
        return True

    def _normalise(self, call: Call | None, given: Tensor) -> None:
        """Statistics of weights, or of each row alone (InstanceNorm), are no statistics of rows."""
        if call is not None and call.kept is not None:
            if given.shape == call.shapes[0]:
                self._compare(call.kept[0], _sample(given))
                return
            if row_dim(call.shapes[0], given.shape, self.learning.n, self.learning.k) == 1:
                return
        raise NotRowWise("BatchNorm in train mode takes its statistics from the batch")

    def _compare(self, before: Tensor, now: Tensor) -> None:
        if now.is_cuda:
            self.doubts.append(far(before, now))  # looked at once the device is at work
        elif not close(before, now):
            raise NotRowWise(CHANGES)

    def _take(self, outputs: Sequence[Any], dims: Sequence[int | None]) -> tuple[Any, ...]:
        return tuple(
            output if dim is None else along(output, dim, self.learning.n, self.learning.rows)
            for output, dim in zip(outputs, dims, strict=True)
        )

    def _redraw(self, call: Call, args: Any) -> Any:
        size = torch.Size(args[0].shape if isinstance(args[0], Tensor) else args[0])
        dim = row_dim(call.outputs[0].shape, size, self.learning.n, self.learning.k)
        if dim is None and size != call.outputs[0].shape:
            raise NotRowWise(f"it draws other random numbers for a part ({call.operation})")
        answer = self._take(call.outputs, [dim] * len(call.outputs))
        if call.operation._opname.endswith("_"):
            return args[0].copy_(answer[0])
        if call.operation._opname == "bernoulli":
            return answer[0].to(args[0].dtype)
        return _one_or_all(answer)


def _storages(model: nn.Module) -> frozenset[int]:
    tensors = (*model.parameters(), *model.buffers())
    return frozenset(tensor.untyped_storage().data_ptr() for tensor in tensors)


def _tensors(args: Any, kwargs: Any) -> list[Tensor]:
    every = (*args, *kwargs.values()) if kwargs else args
    return [value for value in every if isinstance(value, Tensor)]


def _arguments(args: Any, kwargs: Any) -> tuple[list[torch.Size], list[Any]]:
    every = (*args, *kwargs.values()) if kwargs else args
    shapes = [value.shape for value in every if isinstance(value, Tensor)]
    return shapes, [value for value in every if not isinstance(value, Tensor)]


def _one_or_all(outputs: tuple[Any, ...]) -> Any:
    return outputs if len(outputs) > 1 else outputs[0]
