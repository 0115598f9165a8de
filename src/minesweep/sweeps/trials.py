"""Sweep -> trials. Pure: trial i is computed from the file and a seed, and stored nowhere."""

from __future__ import annotations

import hashlib
import itertools
import math
from bisect import bisect_right
from collections.abc import Iterator
from statistics import NormalDist
from typing import Any

from minesweep.errors import UserError
from minesweep.sweeps.parameters import Parameter, write
from minesweep.sweeps.spec import Sweep


def trials(sweep: Sweep, count: int | None = None, seed: int = 0) -> list[list[str]]:
    """The overrides of every trial of a grid or a random sweep, in order.

    Args:
        sweep: The sweep.
        count: At most so many; ``run_cap`` where None.
        seed: Of a random sweep.

    Raises:
        UserError: A random sweep without an end.
    """
    last = limit(sweep, count)
    if last is None:
        return list(grid(sweep.parameters))
    if sweep.method == "grid":
        return list(itertools.islice(grid(sweep.parameters), last))
    return [random_trial(sweep.parameters, seed, index) for index in range(last)]


def limit(sweep: Sweep, count: int | None = None) -> int | None:
    """How many trials there are at most; None for all of a grid.

    Raises:
        UserError: The sweep has no end.
    """
    last = min((number for number in (count, sweep.run_cap) if number is not None), default=None)
    if last is None and sweep.method != "grid":
        raise UserError(
            f"{sweep.path}: method: {sweep.method} has no end; add run_cap: 20 to it, or --count 20"
        )
    return last


def grid(parameters: tuple[Parameter, ...]) -> Iterator[list[str]]:
    """The product of all values, the last parameter fastest, each combination once."""
    axes = [
        list(dict.fromkeys(write(parameter.name, value) for value in choices(parameter)))
        for parameter in parameters
    ]
    return (list(cell) for cell in itertools.product(*axes))


def choices(parameter: Parameter) -> list[Any]:
    """The values that a grid runs through.

    A ``q_uniform`` runs from min in steps of q and stops before max, as W&B's does.
    """
    if parameter.distribution == "int_uniform":
        return list(range(int(parameter.low), int(parameter.high) + 1))
    if parameter.distribution == "q_uniform":
        steps = math.ceil((parameter.high - parameter.low) / parameter.q)
        return [parameter.low + step * parameter.q for step in range(steps)]
    return list(parameter.values)


def random_trial(parameters: tuple[Parameter, ...], seed: int, index: int) -> list[str]:
    """Trial ``index`` of a random sweep.

    Each parameter has a draw of its own, so that a parameter added to the file leaves the
    others' values as they were.
    """
    return [
        write(parameter.name, quantile(parameter, _uniform(f"{seed}/{index}/{parameter.name}")))
        for parameter in parameters
    ]


def _uniform(purpose: str) -> float:
    """A number in the open interval (0, 1), of 52 bits."""
    digest = hashlib.sha256(purpose.encode()).digest()
    return ((int.from_bytes(digest[:8], "little") >> 12) + 0.5) / 2**52


def quantile(parameter: Parameter, u: float) -> Any:
    """The value of a parameter below which lies a share ``u`` of its distribution.

    Quantised ones are round(x / q) * q as in W&B, whole numbers where q is one; so the outermost
    value can lie up to q / 2 beyond min or max.
    """
    kind = parameter.distribution
    low, high = parameter.low, parameter.high
    if kind in ("constant", "categorical"):
        return parameter.values[int(u * len(parameter.values))]
    if kind == "categorical_w_probabilities":
        edges = list(itertools.accumulate(parameter.probabilities))
        # The probabilities may add up to a little less than 1.
        return parameter.values[bisect_right(edges, u * edges[-1])]
    if kind == "int_uniform":
        return int(low) + int(u * (int(high) - int(low) + 1))
    if kind.endswith("log_uniform_values"):
        value = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
    elif kind.endswith("uniform"):
        value = low + u * (high - low)
    else:
        sigma = parameter.sigma
        value = NormalDist(parameter.mu, sigma).inv_cdf(u) if sigma else float(parameter.mu)
    return round(value / parameter.q) * parameter.q if kind.startswith("q_") else value
