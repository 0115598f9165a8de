"""The ``parameters`` of a W&B sweep file, and how their values reach the command line."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from minesweep.errors import UserError
from minesweep.words import nearest

# distribution: the keys it needs, the keys it may have
DISTRIBUTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "constant": (("value",), ()),
    "categorical": (("values",), ()),
    "categorical_w_probabilities": (("values", "probabilities"), ()),
    "int_uniform": (("min", "max"), ()),
    "uniform": (("min", "max"), ()),
    "q_uniform": (("min", "max"), ("q",)),
    "log_uniform_values": (("min", "max"), ()),
    "q_log_uniform_values": (("min", "max"), ("q",)),
    "normal": ((), ("mu", "sigma")),
    "q_normal": ((), ("mu", "sigma", "q")),
}
REFUSED = {
    "log_uniform": "its bounds are exponents; use log_uniform_values",
    "q_log_uniform": "its bounds are exponents; use q_log_uniform_values",
    "inv_log_uniform": "use log_uniform_values",
    "inv_log_uniform_values": "use log_uniform_values",
    "log_normal": "use normal or log_uniform_values",
    "q_log_normal": "use q_normal or q_log_uniform_values",
    "beta": "use uniform",
    "q_beta": "use q_uniform",
}
KEYS = ("distribution", "value", "values", "probabilities", "min", "max", "q", "mu", "sigma")
FINITE = ("constant", "categorical", "int_uniform", "q_uniform")
"""What a grid can run through, as W&B's does."""


@dataclass(frozen=True)
class Parameter:
    """One swept key: its distribution and the numbers of it that were given.

    ``values`` holds the choices of a categorical parameter, or the one of a constant.
    """

    name: str
    distribution: str
    values: tuple[Any, ...] = ()
    probabilities: tuple[float, ...] = ()
    low: float = 0.0
    high: float = 1.0
    q: float = 1
    mu: float = 0.0
    sigma: float = 1.0


def read_parameters(tree: Any, method: str) -> tuple[tuple[Parameter, ...], tuple[str, ...]]:
    """The parameters in W&B's order (sorted by name, level by level), and notes.

    Raises:
        UserError: At the first that is wrong, with what to write instead.
    """
    if not isinstance(tree, dict) or not tree:
        raise UserError("parameters must be a mapping, e.g. {seed: {values: [0, 1, 2]}}")
    parameters = tuple(_flatten(tree, ""))
    names = [parameter.name for parameter in parameters]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"parameters: {name} is given twice, nested and dotted")
    for parameter in parameters:
        if method == "grid" and parameter.distribution not in FINITE:
            raise UserError(
                f"{parameter.name}: a grid cannot run through {parameter.distribution}; "
                "give `values`, or use method: random"
            )
        if method == "bayes" and parameter.distribution in (
            "normal",
            "q_normal",
            "categorical_w_probabilities",
        ):
            raise UserError(
                f"{parameter.name}: method: bayes cannot use {parameter.distribution}; "
                "use uniform, log_uniform_values or plain values, or method: random"
            )
    nested = [str(name) for name, node in tree.items() if "parameters" in node]
    note = (
        f"nested parameters ({', '.join(nested)}) run here, but W&B's agent hands them to Hydra "
        "as a dict, which fails: dotted names work in both"
    )
    return parameters, (note,) if nested else ()


def _flatten(tree: Mapping[Any, Any], prefix: str) -> list[Parameter]:
    found = []
    for key in sorted(tree, key=str):
        name, node = f"{prefix}{key}", tree[key]
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", str(key)):
            hint = "; write a group without +" if str(key)[:1] in "+~" else ""
            raise UserError(
                f"parameters: W&B takes no name '{name}' (letters, digits, _ . -){hint}"
            )
        if not isinstance(node, dict) or not node:
            raise UserError(f"{name}: write {{value: {node}}}, or values, or min and max")
        if "parameters" in node:
            if len(node) > 1 or not isinstance(node["parameters"], dict) or not node["parameters"]:
                raise UserError(f"{name}: `parameters` must be a mapping, with nothing beside it")
            found += _flatten(node["parameters"], f"{name}.")
        else:
            found.append(_parameter(name, node))
    return found


def _parameter(name: str, node: Mapping[str, Any]) -> Parameter:
    for key in node:
        if key not in KEYS:
            raise UserError(f"{name}: no key '{key}'{nearest(str(key), KEYS)}")
    distribution = _distribution(name, node)
    needed, optional = DISTRIBUTIONS[distribution]
    for key in needed:
        if key not in node:
            raise UserError(f"{name}: {distribution} needs {key}")
    for key in node:
        if key not in (*needed, *optional, "distribution"):
            takes = ", ".join(needed + optional)
            raise UserError(f"{name}: {distribution} has no {key}; it takes {takes}")
    if distribution == "constant":
        check_value(name, node["value"])
        return Parameter(name, distribution, (node["value"],))
    if distribution.startswith("categorical"):
        return _categorical(name, distribution, node)
    return _continuous(name, distribution, node)


def _distribution(name: str, node: Mapping[str, Any]) -> str:
    given = node.get("distribution")
    if given in REFUSED:
        raise UserError(
            f"{name}: distribution {given} is W&B's but not supported here; {REFUSED[given]}"
        )
    if given is not None and given not in DISTRIBUTIONS:
        raise UserError(f"{name}: no distribution '{given}'{nearest(str(given), DISTRIBUTIONS)}")
    if given is not None:
        return str(given)
    if "value" in node:
        return "constant"
    if "values" in node:
        return "categorical_w_probabilities" if "probabilities" in node else "categorical"
    if "min" in node and "max" in node:
        whole = [isinstance(node[key], int) for key in ("min", "max")]
        if whole[0] != whole[1]:
            raise UserError(
                f"{name}: min and max are a whole number and a fraction, which W&B refuses: "
                "write both as 1.0 for uniform, both as 1 for int_uniform"
            )
        return "int_uniform" if all(whole) else "uniform"
    raise UserError(f"{name}: give value, values, or min and max")


def _categorical(name: str, distribution: str, node: Mapping[str, Any]) -> Parameter:
    values = node["values"]
    if not isinstance(values, list) or not values:
        raise UserError(f"{name}: values must be a list, e.g. values: [1, 2]")
    for value in values:
        check_value(name, value)
    probabilities = node.get("probabilities", [])
    if distribution == "categorical_w_probabilities":
        if not isinstance(probabilities, list) or len(probabilities) != len(values):
            raise UserError(f"{name}: probabilities must be a list of {len(values)}, as values is")
        if not all(_is_number(p) and p >= 0 for p in probabilities):
            raise UserError(f"{name}: probabilities must be numbers of at least 0")
        if not math.isclose(sum(probabilities), 1, abs_tol=1e-6):
            raise UserError(f"{name}: probabilities add up to {sum(probabilities):g}, not to 1")
    return Parameter(name, distribution, tuple(values), tuple(probabilities))


def _continuous(name: str, distribution: str, node: Mapping[str, Any]) -> Parameter:
    numbers = {key: node[key] for key in ("min", "max", "q", "mu", "sigma") if key in node}
    for key, value in numbers.items():
        if not _is_number(value):
            text = isinstance(value, str) and _is_text_number(value)
            hint = (
                f"; YAML reads {value} as text: write {_yaml_float(float(value))}" if text else ""
            )
            raise UserError(f"{name}: {key}: {value} must be a number{hint}")
        if distribution == "int_uniform" and not isinstance(value, int):
            raise UserError(f"{name}: {key}: {value} must be a whole number for int_uniform")
    if "min" in numbers and numbers["min"] >= numbers["max"]:
        raise UserError(f"{name}: min {numbers['min']} is not less than max {numbers['max']}")
    if "log" in distribution and numbers["min"] <= 0:
        raise UserError(f"{name}: min {numbers['min']} must be more than 0 for {distribution}")
    if numbers.get("q", 1) <= 0:
        raise UserError(f"{name}: q {numbers['q']} must be more than 0")
    if numbers.get("sigma", 1) < 0:
        raise UserError(f"{name}: sigma {numbers['sigma']} must be at least 0")
    renamed = {"min": "low", "max": "high"}
    return Parameter(name, distribution, **{renamed.get(k, k): v for k, v in numbers.items()})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_text_number(value: str) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def _yaml_float(value: float) -> str:
    """A float as YAML 1.1 reads it: with a dot, also before an exponent."""
    mantissa, exponent, power = repr(value).partition("e")
    return mantissa + ("" if "." in mantissa else ".0") + exponent + power


def write(name: str, value: Any) -> str:
    """The override for a value, exactly as W&B's agent writes ``${args_no_hyphens}``."""
    return f"{name}={value}"


def check_value(name: str, value: Any) -> None:
    """Refuses a value that would not reach the config as it stands in the file.

    Raises:
        UserError: With what to write instead.
    """
    if value is None or value == "None":
        raise UserError(f'{name}: null reaches Hydra as the text None; write "null" in quotes')
    if isinstance(value, dict):
        first = next(iter(value), "key")
        raise UserError(
            f"{name}: a mapping cannot be given as a value; sweep dotted names, e.g. {name}.{first}"
        )
    if isinstance(value, list):
        for item in value:
            if item is None:
                raise UserError(
                    f'{name}: null in a list reaches Hydra as text; write "[1, null]" in quotes'
                )
            if isinstance(item, dict):
                raise UserError(f"{name}: a mapping in a list cannot be given as a value")
    check_override("", name, str(value))


def check_override(where: str, name: str, text: str) -> None:
    """Refuses text that Hydra would read as several values, or not at all."""
    # Imported here: the tables above are of use without Hydra's parser.
    from hydra.errors import HydraException

    from minesweep.config.overrides import names_as_text, parse

    quoted = "\"'" + text.replace("'", "\\'") + "'\""
    try:
        override = parse(*names_as_text([write(name, text)]))
    except HydraException:
        message = f"{where}{name}: Hydra cannot read {text}; for text, write {quoted}"
        raise UserError(message) from None
    if override.is_sweep_override():
        raise UserError(
            f"{where}{name}: Hydra reads {text} as several values; for text write {quoted}, "
            f'for a list "[{text}]"'
        )
