"""What a run's parts have to be: the kinds of its objects, and what a step's objective returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from minesweep.errors import UserError
from minesweep.objectives import contract
from minesweep.objectives.base import Objective, Outcome

Kind = TypeVar("Kind")


def of_kind(group: str, made: Any, kind: type[Kind]) -> Kind:
    """What a group's ``_target_`` made.

    Raises:
        UserError: It is of another kind.
    """
    if not isinstance(made, kind):
        raise UserError(
            f"{group}: its _target_ makes {contract.described(made)}, not a subclass of "
            f"{kind.__module__}.{kind.__qualname__}"
        )
    return made


def checked(value: Any, objective: Objective) -> Outcome:
    """What an objective's ``forward`` returned, as it is.

    Raises:
        UserError: It is no outcome, or its parts have other types or shapes.
    """
    name = f"objective {type(objective).__name__}"
    if not isinstance(value, Outcome):
        raise UserError(
            f"{name}: forward() must return an Outcome, and returned {contract.described(value)}"
        )
    loss, scores, selected = value.loss, value.scores, value.weights
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise UserError(
            f"{name}: Outcome.loss must be one number, and is {contract.described(loss)}"
        )
    if not loss.requires_grad:
        raise UserError(
            f"{name}: the loss has no gradient: no trained weight takes part in it, or the model "
            "or the objective detached it"
        )
    if not isinstance(scores, Tensor) or scores.dim() == 0:
        raise UserError(
            f"{name}: Outcome.scores must be a tensor [n], and is {contract.described(scores)}"
        )
    if isinstance(selected, Tensor) and selected.shape != scores.shape:
        raise UserError(
            f"{name}: Outcome.weights must be shaped like the scores {list(scores.shape)}, and is "
            f"{contract.described(selected)}"
        )
    if not isinstance(value.metrics, Mapping):
        raise UserError(
            f"{name}: metrics() must return a dict of numbers by name, and returned "
            f"{contract.described(value.metrics)}"
        )
    contract.tensors("details()", value.details, objective)
    return value


def finite_soon(loss: Tensor) -> Callable[[], bool]:
    """Asks the device whether a scalar is finite; the returned function waits for the answer.

    On a GPU the answer travels to the host behind the forward pass, while the host already queues
    the backward pass; waiting for it then leaves the GPU at work.
    """
    answer = loss.detach().isfinite()
    if not loss.is_cuda:
        return lambda: bool(answer)
    host = torch.empty_like(answer, device="cpu", pin_memory=True)
    host.copy_(answer, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()

    def wait() -> bool:
        arrived.synchronize()
        return bool(host)

    return wait
