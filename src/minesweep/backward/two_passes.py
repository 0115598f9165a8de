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
rows: correct in any case. That rows do not depend on each other is checked, not believed: at
every step, by a few sentinel rows (:mod:`minesweep.backward.modes`) and by the outputs.
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from minesweep.backward.modes import CHANGES, Answering, Learned, Learning, NotRowWise, Remembering
from minesweep.backward.rows import close, far, first_of, rows_of
from minesweep.errors import UserError

T = TypeVar("T")
SENTINELS = 8


class TwoPasses:
    """Scores n rows, then learns from k of them.

    Args:
        remember: Whether the learning pass is answered from the scoring pass (``rows``), or
            computes everything again (``again``).
    """

    def __init__(self, remember: bool) -> None:
        self.remember = remember
        self._learned: dict[int, Learned | None] = {}
        self._check = False
        self._traces = _Traces()

    def score(
        self,
        model: nn.Module,
        inputs: Any,
        n: int,
        step: int = 0,
        by: Callable[[nn.Module, Any], Any] | None = None,
    ) -> Any:
        """The model's outputs for n candidates, without a graph.

        Args:
            model: In the mode it is to be trained in.
            inputs: Tensors (or what is indexed like one) in any nesting, of length n, or of a
                multiple: m rows for each candidate in turn.
            n: How many candidates.
            step: Steps 0, 1, 2, 4, 8 ... compute again all that they remember, for the price of
                k rows forward, and so learn what can be remembered. The first call always does.
            by: Another way to score, given model and inputs, where nothing is remembered.

        Raises:
            NotRowWise: The pass leaves traces in the model, or draws random numbers of Python.
        """
        self._n, self._check = n, step & (step - 1) == 0 or not self._learned
        every = -(-n // SENTINELS)
        self._sentinels = range(step % every, n, every)
        with torch.no_grad():
            if not self.remember:
                outputs = by(model, inputs) if by else model(inputs)
            else:
                outputs = self._remember(model, inputs)
        # Weights that autocast has cast without a graph would be found again in the next pass.
        torch.clear_autocast_cache()
        return outputs

    def _remember(self, model: nn.Module, inputs: Any) -> Any:
        sentinels = slice(self._sentinels.start, None, self._sentinels.step)
        known = {} if self._check else self._learned
        self._traces.note(model, self._check)
        with eager(), Remembering(known, self._n, sentinels) as remembering:
            outputs = model(inputs)
        self._traces.compare(model)
        self._calls = remembering.calls
        return outputs

    def learn(self, model: nn.Module, inputs: Any, outputs: T, rows: Tensor) -> T:
        """The outputs of ``rows`` again, with a graph.

        A sentinel learns beside them, with a gradient of 0, where none is among them. So there
        are always two: torch 2.13 gives a wrong gradient of BatchNorm in evaluation mode for a
        batch of one, if what follows it is transposed.

        Args:
            model: As it was scored with.
            inputs: As they were scored.
            outputs: What :meth:`score` gave.
            rows: ``[k]`` candidates, k >= 1.

        Raises:
            NotRowWise: A row is another one without the other rows beside it, or the model does
                not run on k rows. On a GPU the former is raised as the backward pass ends.
        """
        if not self.remember:
            with on_fewer(len(rows), self._n):
                return model(rows_of(inputs, rows, self._n))
        learning = self._learning(rows)
        answering = Answering(model, self._calls, self._learned, learning)
        with on_fewer(learning.k, self._n), eager(), answering:
            again = model(rows_of(inputs, learning.rows, self._n))
        self._calls = []
        self._traces.compare_chance()
        if learning.k == self._n:
            again = rows_of(again, rows, self._n)
        else:
            again = first_of(again, len(rows), learning.k)
        self._judge(rows_of(outputs, rows, self._n), again, answering.doubts)
        return again

    def _learning(self, rows: Tensor) -> Learning:
        n, k = self._n, len(rows)
        place = {row: i for i, row in enumerate(rows.tolist())}
        if k > 1 and not place.keys().isdisjoint(self._sentinels):
            pass
        elif k + 1 >= n:
            rows, place = torch.arange(n, device=rows.device), {row: row for row in range(n)}
        else:
            beside = next(row for row in self._sentinels if row not in place)
            rows = torch.cat([rows, rows.new_tensor([beside])])
            place[beside] = k
        shared = [i for i, row in enumerate(self._sentinels) if row in place]
        places = rows.new_tensor([place[self._sentinels[i]] for i in shared])
        return Learning(n, rows, rows.new_tensor(shared), places, self._check)

    def _judge(self, before: Any, again: Any, doubts: list[Tensor]) -> None:
        """Whether the outputs, and what lies behind them, are those of the scoring pass."""
        pairs = list(zip(tree_leaves(before), tree_leaves(again), strict=True))
        tensors = [now for _, now in pairs if isinstance(now, Tensor)]
        if not any(tensor.is_cuda for tensor in tensors):
            if not all(close(one, now) for one, now in pairs):
                raise NotRowWise("an output changes with the other rows of the batch")
            return
        pairs = [(one, now) for one, now in pairs if isinstance(now, Tensor)]
        doubt = torch.stack([*doubts, *(far(one, now.detach()) for one, now in pairs)]).any()

        def verify() -> None:
            if doubt:
                raise NotRowWise(CHANGES)

        def at_the_end(gradient: Tensor) -> None:
            # Waits for the device only once the whole backward pass is queued.
            torch.autograd.Variable._execution_engine.queue_callback(verify)

        learned = next((tensor for tensor in tensors if tensor.requires_grad), None)
        verify() if self._check or learned is None else learned.register_hook(at_the_end)


@contextmanager
def on_fewer(k: int, n: int) -> Iterator[None]:
    """A model that ran on n rows and fails on k of them is told so in one line."""
    try:
        yield
    except (UserError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        said = (str(error).strip() or "no message").splitlines()[0]
        raise NotRowWise(
            f"it runs on {n} rows but not on {k} of them ({type(error).__name__}: {said})"
        ) from error


def eager() -> AbstractContextManager[None]:
    """A function of the model's own that is compiled runs as it was written."""
    return torch.compiler.set_stance("force_eager")


class _Traces:
    """What a pass may leave behind: changed buffers, and random numbers drawn."""

    def __init__(self) -> None:
        self.buffers: dict[str, Tensor] = {}
        self.copies: dict[str, Tensor] = {}

    def note(self, model: nn.Module, check: bool) -> None:
        """Before the scoring pass; at a check each buffer and generator is looked at."""
        self.check = check
        if check:
            self.buffers = dict(model.named_buffers())
            self.copies = {name: buffer.clone() for name, buffer in self.buffers.items()}
            self.generators = _other_generators()
        self.versions = [buffer._version for buffer in self.buffers.values()]

    def compare(self, model: nn.Module) -> None:
        """After it. Numbers of Python or NumPy that are drawn later make the rows differ."""
        changed = {
            name
            for (name, buffer), version in zip(self.buffers.items(), self.versions, strict=True)
            if buffer._version != version
        }
        if self.check:
            now = dict(model.named_buffers())
            changed |= {
                name for name, buffer in now.items() if self.buffers.get(name) is not buffer
            }
            changed |= {
                name
                for name, copy in self.copies.items()
                if not torch.equal(copy, self.buffers[name])
            }
            self.copies = {}
        for name in sorted(changed):
            raise NotRowWise(f"its buffer {name} changes with each forward pass")
        if self.check and self.generators != _other_generators():
            raise NotRowWise("it draws from the generator of Python or NumPy")
        self.torch = _torch_states()

    def compare_chance(self) -> None:
        """After the learning pass, in which nothing may be drawn but what is redrawn."""
        if not all(map(torch.equal, self.torch, _torch_states())):
            raise NotRowWise("it draws random numbers that cannot be had again for some rows")


def _other_generators() -> tuple[Any, bytes]:
    """The states of Python's and NumPy's."""
    return random.getstate(), pickle.dumps(np.random.get_state())


def _torch_states() -> list[Tensor]:
    cuda = [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else []
    return [torch.get_rng_state(), *cuda]
