"""From a configuration node to the object it names."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import Any

import hydra.utils
from hydra._internal.utils import _locate  # get_object also prints what it does not find
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig

from minesweep.config.checks import check_fit
from minesweep.config.identity import Config, plain
from minesweep.config.places import own_folders
from minesweep.errors import UserError
from minesweep.words import nearest

# Hydra 1.4 wants to be told which classes a configuration may name: any, as it is the user's own.
_ANY = getattr(hydra.utils, "UNSAFE_DISABLE_EXECUTION_CHECKS", None)
TRUSTED = {} if _ANY is None else {"_execution_whitelist_": _ANY}
"""What ``instantiate`` is told beside the node."""


def build(cfg: DictConfig, group: str, /, **arguments: Any) -> Any:
    """Instantiates ``cfg[group]`` with further keyword arguments.

    Raises:
        UserError: The class cannot be found, or does not take these arguments.
    """
    try:
        return instantiate(cfg[group], _convert_="all", **TRUSTED, **arguments)
    except Exception as error:
        # Hydra 1.4 hands on what the class raises; Hydra 1.3 wraps it.
        cause = error.__cause__ if isinstance(error, InstantiationException) else error
        if isinstance(cause, UserError):
            raise cause from None
        if cause is None or isinstance(cause, ImportError | AttributeError | TypeError):
            target = cfg[group].get("_target_", "no _target_")
            raise UserError(f"{group}={target}: {cause or error}") from error
        raise


def build_fitting(cfg: DictConfig) -> Any:
    """The objective, after its candidates were compared with the miner's.

    Raises:
        DoesNotFit: The miner and the objective speak of different candidates.
        UserError: A class cannot be found, or does not take what it is given.
    """
    find_user_code()
    check_arguments(cfg, "miner")
    miner = build(cfg, "miner")
    if not hasattr(miner, "mines"):
        raise UserError(_other_kind("miner", miner, "minesweep.miners.base.Miner"))
    mines = miner.mines()
    # By the class first: a miner may bring options that another objective does not take.
    with suppress(ImportError, AttributeError, ValueError):  # building it says what is wrong
        check_fit(cfg, mines, _locate(cfg.objective._target_).candidate)
    check_arguments(cfg)
    objective = build(cfg, "objective")
    if not hasattr(objective, "candidate"):
        raise UserError(_other_kind("objective", objective, "minesweep.objectives.base.Objective"))
    check_fit(cfg, mines, objective.candidate)
    return objective


def _other_kind(group: str, made: Any, kind: str) -> str:
    return f"{group}: its _target_ makes a {type(made).__name__}, not a subclass of {kind}"


def check_arguments(cfg: Config, within: str = "") -> None:
    """Compares the keys of each node that names a class with what the class takes.

    Args:
        cfg: The configuration.
        within: The group to look at; all by default.

    Raises:
        UserError: The class has no such argument, or a value is not of its plain type.
    """
    for path, node in _objects(plain(cfg), ""):
        if not path.startswith(within):
            continue
        known = _arguments(node["_target_"])
        for name, value in node.items():
            if known is None or name.startswith("_"):
                continue
            if name not in known:
                raise UserError(
                    f"no key '{path}.{name}': {node['_target_']} does not take it"
                    f"{nearest(name, known)}"
                )
            types = PLAIN.get(known[name].removesuffix(" | None"))
            optional = known[name].endswith(" | None") and value is None
            if types and not optional and not _is_a(value, types):
                given = f"{path}.{name}={json.dumps(value, default=str)}"
                raise UserError(f"{given} must be {WORDS[types[0]]}, as {node['_target_']} says")


PLAIN: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "str": (str,),
}
"""Annotations that say all of what an argument may be."""

WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _is_a(value: Any, types: tuple[type, ...]) -> bool:
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))


def _objects(node: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The nodes that name a class, outermost first."""
    if "_target_" in node:
        yield path, node
    for name, value in node.items():
        if isinstance(value, Mapping) and name != "hydra":
            yield from _objects(value, f"{path}.{name}" if path else str(name))


@cache
def _arguments(target: str) -> dict[str, str] | None:
    """The arguments of a class and their annotations; None where it takes any, or cannot tell."""
    try:
        found = _locate(target)
    except Exception:
        return None  # what is wrong is told where it is built
    known: dict[str, str] = {}
    makers = [found]
    if isinstance(found, type):
        makers = [vars(c)["__init__"] for c in found.__mro__ if "__init__" in vars(c)]
    for maker in makers:
        try:
            arguments = inspect.signature(maker).parameters.values()
        except (TypeError, ValueError):
            return None
        for argument in arguments:
            kind = argument.annotation
            text = kind if isinstance(kind, str) else getattr(kind, "__name__", "")
            known.setdefault(argument.name, text)
        # Only ``**keywords`` hand on what the class itself does not name.
        if not any(argument.kind is argument.VAR_KEYWORD for argument in arguments):
            return known
    return None


def find_user_code() -> None:
    """Makes code that lies beside the YAML files of ``--config-dir`` importable."""
    for folder in own_folders():
        if folder not in sys.path:
            sys.path.append(folder)
