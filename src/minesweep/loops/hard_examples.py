"""Learning from k of n examples in any loop: a class that remembers, and a function that does not.

hard = HardExamples(Ohem(k=64))
loss = hard(model, inputs, lambda outputs: F.cross_entropy(outputs, labels, reduction="none"))
loss.backward()
hard.log()  # {"samples/n": 256.0, "samples/k": 64.0, "loss/batch": ...}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from minesweep.backward.choice import Spread
from minesweep.datasets.base import Batch
from minesweep.errors import UserError
from minesweep.miners.base import Miner
from minesweep.objectives.base import AUTO, RowObjective

Losses = Callable[[Any], Tensor]


class HardExamples(nn.Module):
    """The loss of the examples of a batch that a miner selects, for the price of those.

    The model runs on all n examples without a graph, the miner selects k of their losses, and
    the backward pass takes these k alone (``docs/concepts/backward.md``). It works under
    autocast, with accumulated gradients and with DistributedDataParallel, each process selecting
    from its own batch. As an attribute of a module it is a part of that module's state.

    Args:
        miner: Of examples, such as :class:`~minesweep.miners.Ohem`.
        backward: ``rows``, ``again``, ``full``, or ``auto`` for the cheapest of them by counted
            operations. ``rows`` refuses what ``torch.compile`` has been at; ``auto`` then takes
            another way.
        reduction: ``mean`` over the selected; ``sum``; or ``sum_over_n``, their sum over n.

    Raises:
        UserError: The miner does not mine examples, or a word is unknown.
    """

    def __init__(self, miner: Miner, backward: str = AUTO, reduction: str = "mean") -> None:
        super().__init__()
        if "example" not in miner.mines():
            raise UserError(
                f"HardExamples: {type(miner).__name__} mines {' and '.join(miner.mines())}, not "
                "examples; take Ohem, SelectiveBackprop or RandomK"
            )
        self.miner = miner
        self.step = 0
        self._objective = _Given(reduction, backward)
        self._numbers: dict[str, Tensor] = {}

    def get_extra_state(self) -> dict[str, int]:
        return {"step": self.step}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.step = state["step"]

    def forward(
        self, model: nn.Module, inputs: Any, loss_fn: Losses, step: int | None = None
    ) -> Tensor:
        """The loss of the selected examples, a scalar with a graph.

        Args:
            model: In the mode it is to be trained in.
            inputs: Of n examples. A tuple is spread over the model's arguments, a mapping over
                its keyword arguments; what has no n rows is handed on as it is.
            loss_fn: Makes ``[n]`` unreduced losses of the model's outputs, which may be a tensor
                or tensors in a tuple or a mapping. It is called once for the scores and once for
                the loss.
            step: The training step, from 0; by default calls are counted.

        Raises:
            UserError: The losses are not ``[n]``, or the model's examples depend on each other.
        """
        if isinstance(inputs, Mapping):
            inputs = dict(inputs)
        step = self.step if step is None else step
        rows = _rows(inputs)
        if isinstance(inputs, dict | tuple):
            model = Spread(model)
        self._objective.loss_fn = loss_fn
        try:
            outcome = self._objective(model, Batch(inputs, rows, rows), self.miner, step)
        finally:
            # Nothing of a step outlives it.
            self._objective.loss_fn = None
        assert isinstance(outcome.weights, Tensor)
        with torch.no_grad():
            self._numbers = _summary(outcome.scores.float(), outcome.weights > 0)
        self.step = step + 1
        return outcome.loss

    @property
    def way(self) -> str | None:
        """The way backward that was chosen; None before the first step."""
        return self._objective.get_extra_state()["way"]

    def log(self) -> dict[str, float]:
        """What the last step selected, as plain numbers. Waits for the device."""
        return {name: value.item() for name, value in self._numbers.items()}


def hard_examples_loss(
    model: nn.Module,
    inputs: Any,
    loss_fn: Losses,
    miner: Miner,
    *,
    backward: str = AUTO,
    reduction: str = "mean",
    step: int = 0,
) -> Tensor:
    """The loss of the examples that a miner selects, without anything to keep.

    Each call looks again which way is right. :class:`HardExamples` does so once, and is faster.

    Args:
        model: As for :class:`HardExamples`, like what follows.
        inputs: Of n examples.
        loss_fn: Makes ``[n]`` losses of the outputs.
        miner: Of examples.
        backward: ``auto``, ``rows``, ``again`` or ``full``.
        reduction: ``mean``, ``sum`` or ``sum_over_n``.
        step: The training step, from 0.
    """
    return HardExamples(miner, backward, reduction)(model, inputs, loss_fn, step)


class _Given(RowObjective):
    """Losses that a function gives, which knows the labels of all n examples."""

    option = "backward"

    def __init__(self, reduction: str, backward: str) -> None:
        super().__init__(reduction, backward)
        self.loss_fn: Losses | None = None

    def losses(self, outputs: Any, labels: Tensor) -> Tensor:
        assert self.loss_fn is not None
        losses = self.loss_fn(outputs)
        if losses.shape != labels.shape:
            raise UserError(
                f"HardExamples: loss_fn gives losses of shape {list(losses.shape)} for "
                f"{len(labels)} examples; it has to give one for each: reduction='none', and the "
                "mean over whatever an example consists of"
            )
        return losses


def _rows(inputs: Any) -> Tensor:
    """``[n]`` places of the examples, on their device."""
    if not isinstance(inputs, list | tuple | dict):
        return torch.arange(len(inputs), device=getattr(inputs, "device", None))
    tensors = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor) and leaf.ndim]
    if not tensors:
        raise UserError(f"HardExamples: the inputs, a {type(inputs).__name__}, hold no tensor")
    return torch.arange(len(tensors[0]), device=tensors[0].device)


def _summary(scores: Tensor, selected: Tensor) -> dict[str, Tensor]:
    k = selected.sum()
    inside = torch.where(selected, scores, 0.0)
    return {
        "samples/n": torch.full_like(k, len(scores)),
        "samples/k": k,
        "loss/batch": scores.mean(),
        "loss/selected": inside.sum() / k.clamp(min=1),
        "loss/selected_min": torch.where(selected, scores, torch.inf).min(),
        "loss/selected_max": torch.where(selected, scores, -torch.inf).max(),
    }
