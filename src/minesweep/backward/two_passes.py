"""Forward over all n rows, backward over the k selected: exact, for every row-wise network.

The scoring pass runs the model on n rows without a graph and remembers what its matrix products,
convolutions and attentions gave. The learning pass runs it on the k selected rows with a graph,
and there the same operations are answered with k rows of what is remembered: nothing dear is
computed twice. Autograd never sees the other n - k rows, so its own backward pass, of every
layer, costs what k rows cost, and what is remembered of the others is freed before it begins.
The cost of a step is that of n rows forward and k rows backward.

The answers come from below autograd (a ``TorchDispatchMode``), so that every layer keeps its own
derivative and the user's model is not touched. An operation that cannot be answered (its shapes
do not say which rows are whose, or something wrote into its output) is computed again on the k
rows: correct in any case. That rows do not depend on each other is checked, not believed.
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from minesweep.backward.rows import along, close, row_dim, row_dims, rows_of, same_but_rows
from minesweep.errors import UserError

T = TypeVar("T")


class NotRowWise(UserError):
    """A row's output depends on more than that row, or cannot be had again for some rows."""


def _overloads(*names: str) -> frozenset[Any]:
    """The operations of these names that this version of torch has."""
    found = set()
    for name in names:
        packet, _, overload = name.partition(".")
        operation = getattr(torch.ops.aten, packet, None)
        if operation is not None and (overload or "default") in operation.overloads():
            found.add(getattr(operation, overload or "default"))
    return frozenset(found)


REMEMBERED = _overloads(
    *("mm", "addmm", "bmm", "baddbmm", "convolution"),
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
)
"""Where the time goes. The cheap operations between them are done again: to keep their outputs
would cost as much memory traffic as to compute them, and much memory."""

REDRAWN = _overloads(
    *("bernoulli_.float", "bernoulli_.Tensor", "uniform_", "normal_", "exponential_"),
    *("bernoulli", "bernoulli.p", "native_dropout", "rand", "randn", "rand_like", "randn_like"),
)
"""Chance (dropout, stochastic depth): the k rows get what they drew among the n."""

# Where each of them is told to take the statistics of the batch.
_TRAINING = {
    **dict.fromkeys(
        _overloads(
            *("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm"),
            "_native_batch_norm_legit",
        ),
        5,
    ),
    **dict.fromkeys(_overloads("_native_batch_norm_legit.no_stats"), 3),
    **dict.fromkeys(_overloads("_batch_norm_with_update", "batch_norm_stats"), None),
}


@dataclass(slots=True)
class _Call:
    """One remembered operation of the scoring pass.

    Attributes:
        operation: Which.
        shapes: Of its tensors.
        settings: Its other arguments.
        outputs: What it gave.
        versions: How often each output had been written to by then.
    """

    operation: Any
    shapes: list[torch.Size]
    settings: list[Any]
    outputs: tuple[Any, ...]
    versions: list[int]

    def written_to(self) -> bool:
        tensors = (output for output in self.outputs if isinstance(output, Tensor))
        return any(t._version != v for t, v in zip(tensors, self.versions, strict=True))


class _Mode(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Else torch wraps each call of ours, at twice the price. Nothing is compiled meanwhile.
        return False


class _Remembering(_Mode):
    def __init__(self, calls: list[_Call | None]) -> None:
        super().__init__()
        self.calls = calls

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in REMEMBERED or func in REDRAWN:
            outputs = result if isinstance(result, tuple) else (result,)
            if func in REDRAWN:
                # Dropout scales its mask in place; as bool it is kept small.
                small = func._opname.startswith("bernoulli")
                outputs = tuple(o.bool() if small else o.clone() for o in outputs)
            shapes, settings = _arguments(args, kwargs)
            versions = [o._version for o in outputs if isinstance(o, Tensor)]
            self.calls.append(_Call(func, shapes, settings, outputs, versions))
        elif func in _TRAINING:
            place = _TRAINING[func]
            if place is None or args[place]:
                raise NotRowWise("BatchNorm in train mode takes its statistics from the batch")
        return result


class _Answering(_Mode):
    """Answers the calls of the learning pass from those of the scoring pass, in turn."""

    def __init__(
        self, calls: list[_Call | None], rows: Tensor, n: int, learned: _Learned, check: bool
    ) -> None:
        super().__init__()
        self.calls, self.rows, self.n, self.k = calls, rows, n, len(rows)
        self.learned, self.check, self.number = learned, check, -1

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
        return func(*args, **(kwargs or {}))

    def _next(self, func: Any, args: Any, kwargs: Any) -> _Call | None:
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
            same_but_rows(before, after, self.n, self.k)
            for before, after in zip(call.shapes, shapes, strict=True)
        )
        # The size of what is drawn anew is among its settings.
        return call if same and (settings == call.settings or func in REDRAWN) else None

    def _answer(self, call: _Call, func: Any, args: Any, kwargs: Any) -> Any:
        if self.k == self.n:
            return _one_or_all(call.outputs)
        dims = self.learned.get(self.number)
        if dims is None and not self.check:
            return func(*args, **(kwargs or {}))
        if self.check:
            computed = func(*args, **(kwargs or {}))
            outputs = computed if isinstance(computed, tuple) else (computed,)
            dims = row_dims(call.outputs, outputs, self.n, self.k)
            answer = dims and self._take(call.outputs, dims)
            if not answer or not all(map(close, answer, outputs)):
                self.learned[self.number] = None
                return computed
            self.learned[self.number] = dims
        else:
            assert dims is not None
            answer = self._take(call.outputs, dims)
        return _one_or_all(answer)

    def _take(self, outputs: Sequence[Any], dims: Sequence[int | None]) -> tuple[Any, ...]:
        return tuple(
            output if dim is None else along(output, dim, self.n, self.rows)
            for output, dim in zip(outputs, dims, strict=True)
        )

    def _redraw(self, call: _Call, args: Any) -> Any:
        size = torch.Size(args[0].shape if isinstance(args[0], Tensor) else args[0])
        dim = row_dim(call.outputs[0].shape, size, self.n, self.k)
        if dim is None and size != call.outputs[0].shape:
            raise NotRowWise(f"it draws other random numbers for a part ({call.operation})")
        answer = self._take(call.outputs, [dim] * len(call.outputs))
        if call.operation._opname.endswith("_"):
            return args[0].copy_(answer[0])
        if call.operation._opname == "bernoulli":
            return answer[0].to(args[0].dtype)
        return _one_or_all(answer)


_Learned = dict[int, Sequence[int | None] | None]
"""Of each call by its number: along which dimension of each output the rows lie (None: it has
none); None where it could not be answered."""


class TwoPasses:
    """Scores n rows, then learns from k of them.

    Args:
        remember: Whether the learning pass is answered from the scoring pass (``rows``), or
            computes everything again (``again``).
    """

    def __init__(self, remember: bool) -> None:
        self.remember = remember
        self._calls: list[_Call | None] = []
        self._learned: _Learned = {}
        self._check, self._chance = False, _Chance()

    def score(
        self,
        model: nn.Module,
        inputs: Any,
        n: int,
        check: bool = False,
        by: Callable[[nn.Module, Any], Any] | None = None,
    ) -> Any:
        """The model's outputs for n candidates, without a graph.

        Args:
            model: In the mode it is to be trained in.
            inputs: Tensors (or what is indexed like one) in any nesting, of length n, or of a
                multiple: m rows for each candidate in turn.
            n: How many candidates.
            check: Whether this step verifies that rows do not depend on each other, for the
                price of k rows forward. The first step always does.
            by: Another way to score, given model and inputs, where nothing is remembered.

        Raises:
            NotRowWise: They do.
        """
        self._n, self._check = n, self.remember and (check or not self._learned)
        self._calls = []
        with torch.no_grad():
            if not self.remember:
                outputs = by(model, inputs) if by else model(inputs)
            else:
                with self._watched(model), _eager(), _Remembering(self._calls):
                    outputs = model(inputs)
        # Weights that autocast has cast without a graph would be found again in the next pass.
        torch.clear_autocast_cache()
        return outputs

    def learn(self, model: nn.Module, inputs: Any, outputs: T, rows: Tensor) -> T:
        """The outputs of ``rows`` again, with a graph.

        Args:
            model: As it was scored with.
            inputs: As they were scored.
            outputs: What :meth:`score` gave.
            rows: ``[k]`` candidates.

        Raises:
            NotRowWise: A row's output is another one without the other rows beside it.
        """
        part = rows_of(inputs, rows, self._n)
        if not self.remember:
            return model(part)
        answering = _Answering(self._calls, rows, self._n, self._learned, self._check)
        with _eager(), answering:
            again = model(part)
        self._calls = []
        if self._check:
            self._chance.compare()
            before = tree_leaves(rows_of(outputs, rows, self._n))
            if not all(map(close, before, tree_leaves(again))):
                raise NotRowWise("an output changes with the other rows of the batch")
        return again

    @contextmanager
    def _watched(self, model: nn.Module) -> Iterator[None]:
        """Checks that a forward pass leaves no trace in the model, and takes note of chance."""
        if not self._check:
            yield
            return
        before = {name: (b, b.clone()) for name, b in model.named_buffers()}
        self._chance = _Chance()
        yield
        self._chance.note()
        for name, buffer in model.named_buffers():
            same, copy = before.get(name, (None, None))
            if same is not buffer or copy is None or not torch.equal(copy, buffer):
                raise NotRowWise(f"its buffer {name} changes with each forward pass")


def _eager() -> AbstractContextManager[None]:
    """A function of the model's own that is compiled runs as it was written."""
    return torch.compiler.set_stance("force_eager")


class _Chance:
    """Watches the generators: in the learning pass nothing may be drawn but what is redrawn."""

    def __init__(self) -> None:
        self.python, self.numpy = random.getstate(), _numpy_state()
        self.torch = _torch_states()

    def note(self) -> None:
        """Between the passes."""
        if random.getstate() != self.python or _numpy_state() != self.numpy:
            raise NotRowWise("it draws from the generator of Python or NumPy")
        self.torch = _torch_states()

    def compare(self) -> None:
        """After both."""
        if not all(map(torch.equal, self.torch, _torch_states())):
            raise NotRowWise("it draws random numbers that cannot be had again for some rows")


def _numpy_state() -> bytes:
    return pickle.dumps(np.random.get_state())


def _torch_states() -> list[Tensor]:
    cuda = [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else []
    return [torch.get_rng_state(), *cuda]


def _arguments(args: Any, kwargs: Any) -> tuple[list[torch.Size], list[Any]]:
    every = (*args, *kwargs.values()) if kwargs else args
    shapes = [value.shape for value in every if isinstance(value, Tensor)]
    return shapes, [value for value in every if not isinstance(value, Tensor)]


def _one_or_all(outputs: tuple[Any, ...]) -> Any:
    return outputs if len(outputs) > 1 else outputs[0]
