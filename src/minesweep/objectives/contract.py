"""What a user's own model, miner and objective have to return; one line where they do not.

The checks look at types and shapes, which costs microseconds a step. Values are looked at on the
CPU alone, where reading them does not wait for a device.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from minesweep.errors import UserError
from minesweep.miners.base import Miner, Pool
from minesweep.words import nearest


def described(value: Any) -> str:
    """A value as a message names it: its shape if it is a tensor, else its type."""
    if isinstance(value, Tensor):
        return f"a tensor {str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return "None" if value is None else f"a {type(value).__name__}"


def outputs(value: Any, n: int) -> Tensor:
    """The model's outputs for ``n`` examples: a floating-point tensor of ``n`` rows or more.

    Raises:
        UserError: They are something else.
    """
    whole = isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 0
    if not whole or len(value) < n:
        raise UserError(
            f"model: forward() must return a floating-point tensor with a row for each of the {n} "
            f"examples, and returned {described(value)}"
        )
    return value


def logits(value: Tensor, n: int, classes: int) -> None:
    """Checks that there is one score for each class.

    Raises:
        UserError: ``value`` is not ``[n, classes]`` or wider.
    """
    if value.dim() != 2 or len(value) != n or value.shape[1] < classes:
        raise UserError(
            f"model: forward() must return [{n}, {classes}] scores for {n} examples of {classes} "
            f"classes, and returned {described(value)}"
        )


def proposed(rows: Any, miner: Miner, pool: Pool) -> Tensor:
    """The rows that a miner proposed, as int64.

    They are ``[n]``, of pairs ``[n, 2]``, and of documents ``[n, 2 + m]``.

    Raises:
        UserError: They are something else, or no rows of the pool.
    """
    name, candidate = type(miner).__name__, miner.candidate
    shape = {"pair": "[n, 2]", "document": "[n, 2 + m]"}.get(candidate, "[n]")
    right = isinstance(rows, Tensor) and rows.dtype == torch.int64 and rows.numel() > 0
    if (
        not right
        or rows.dim() != shape.count(",") + 1
        or (candidate == "pair" and rows.shape[1] != 2)
    ):
        raise UserError(
            f"miner {name}: propose() must return {shape} int64 rows, because its candidate is "
            f"'{candidate}', and returned {described(rows)}"
        )
    if rows.device.type == "cpu" and candidate != "document":  # documents are no rows of the pool
        low, high = (int(bound) for bound in rows.aminmax())
        if low < 0 or high >= pool.size:
            raise UserError(
                f"miner {name}: propose() returned rows from {low} to {high}, and there are rows "
                f"from 0 to {pool.size - 1}"
            )
    return rows


def weights(value: Any, miner: Miner, scores: Tensor) -> Tensor:
    """What a miner selected: weights of at least 0, shaped like the scores.

    Raises:
        UserError: They are something else.
    """
    name = type(miner).__name__
    if not isinstance(value, Tensor) or value.shape != scores.shape:
        raise UserError(
            f"miner {name}: select() must return weights {list(scores.shape)}, as many as there "
            f"are scores, and returned {described(value)}"
        )
    if value.device.type == "cpu" and not bool((value >= 0).all()):
        raise UserError(f"miner {name}: select() returned weights below 0, or NaN")
    return value


def named_weights(value: Any, miner: Miner, scores: Tensor) -> Mapping[str, Tensor]:
    """What a miner of negatives selected: weights by the name of the loss term.

    Raises:
        UserError: They are something else.
    """
    if not isinstance(value, Mapping) or not value:
        raise UserError(
            f"miner {type(miner).__name__}: select() must return a dict of weights by the name of "
            f"the loss term, such as mean and hard, and returned {described(value)}"
        )
    for part in value.values():
        weights(part, miner, scores)
    return value


def losses(value: Any, objective: object, n: int) -> Tensor:
    """An objective's losses: a floating-point tensor ``[n]``.

    Raises:
        UserError: They are something else.
    """
    right = isinstance(value, Tensor) and value.is_floating_point()
    if not right or value.shape != (n,):
        raise UserError(
            f"objective {type(objective).__name__}: losses() must return one loss for each "
            f"candidate, a floating-point tensor [{n}], and returned {described(value)}"
        )
    return value


def tensors(what: str, values: Any, owner: object) -> Mapping[str, Tensor]:
    """Tensors by name.

    Raises:
        UserError: They are something else.
    """
    if not isinstance(values, Mapping):
        raise UserError(
            f"{type(owner).__name__}: {what} must return a dict of tensors by name, and returned "
            f"{described(values)}"
        )
    for key, value in values.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            name = type(owner).__name__
            raise UserError(f"{name}: {what} gives {key!r} as {described(value)}, not as a tensor")
    return values


def scalars(values: Any, owner: object) -> dict[str, Tensor]:
    """Metrics of a step, by name, each a tensor without dimensions.

    Raises:
        UserError: They are something else.
    """
    return {name: torch.as_tensor(value).reshape(()) for name, value in _each(values, owner)}


def numbers(values: Any, owner: object) -> dict[str, float]:
    """Metrics of a split, by name, as numbers.

    Raises:
        UserError: They are something else.
    """
    return {name: float(value) for name, value in _each(values, owner)}


def monitored(metrics: Mapping[str, float], monitor: str) -> float:
    """The metric by which the best checkpoint is chosen.

    Raises:
        UserError: There is no such metric.
    """
    if monitor not in metrics:
        guess = nearest(monitor, metrics) or f"; it returned {', '.join(metrics) or 'nothing'}"
        raise UserError(
            f"objective: monitor is '{monitor}', which validate() did not return{guess}"
        )
    return metrics[monitor]


def _each(values: Any, owner: object) -> list[tuple[str, Any]]:
    name = type(owner).__name__
    if not isinstance(values, Mapping):
        raise UserError(
            f"{name}: metrics must be a dict of numbers by name, and are {described(values)}"
        )
    for key, value in values.items():
        one = isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex()
        if not isinstance(key, str) or not (one or isinstance(value, Real)):
            raise UserError(
                f"{name}: the metric {key!r} must be one number, and is {described(value)}"
            )
    return list(values.items())
