"""One composed trial, from which those that differ in numbers follow without OmegaConf.

Copying and resolving a ``DictConfig`` takes milliseconds; a sweep has thousands of trials. Where
no other value follows from a number, the trial is the template's plain tree with that number.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from omegaconf import AnyNode, DictConfig, OmegaConf

from minesweep.config.identity import plain

RESOLVERS = ("env_folder", "hydra", "oc.env", "oc.select")
"""Resolvers that look at nothing but their arguments; another could read any key."""

Nodes = dict[str, Any]


class Template:
    """A composed trial with places for numbers.

    Args:
        cfg: The trial as it was composed.
        keys: The keys whose numbers differ from trial to trial.
        others: The keys of the other overrides.

    Attributes:
        tree: The trial's plain values; not to be changed.
        fits: Whether the numbers can be set by themselves. They cannot where another override, an
            interpolation or a type of the node has a say in what becomes of them.
    """

    def __init__(self, cfg: DictConfig, keys: Sequence[str], others: Collection[str]) -> None:
        self.tree = plain(cfg)
        self._places = [tuple(key.split(".")) for key in keys]
        self._had: list[set[tuple[type, int | float]]] = [set() for _ in self._places]
        # From the outside in, so that a node's copy exists before that of a node in it.
        self._parents = sorted(
            {place[:depth] for place in self._places for depth in range(1, len(place))}, key=len
        )
        self.fits = (
            not any(_overlap(a, b) for a in keys for b in others)
            and not any(_overlap(a, b) for i, a in enumerate(keys) for b in keys[:i])
            and all(_is_plain(cfg, key) for key in keys)
            and not _refers(OmegaConf.to_container(cfg), {n for p in self._places for n in p})
        )

    def at(self, numbers: Sequence[int | float]) -> tuple[Nodes, Nodes]:
        """The tree with these numbers, and of it what no trial before had: the nodes around new
        numbers with nothing else inside.

        What both share with other trials is not to be changed.
        """
        tree, changed = dict(self.tree), _bare(self.tree)
        copies: dict[tuple[str, ...], Nodes] = {(): tree}
        for place in self._parents:
            inside, name = place[:-1], place[-1]
            copies[place] = copies[inside][name] = dict(copies[inside][name])
        for place, number, had in zip(self._places, numbers, self._had, strict=True):
            copies[place[:-1]][place[-1]] = number
            if (kind := (type(number), number)) not in had:
                had.add(kind)
                node, bare = self.tree, changed
                for name in place[:-1]:
                    node = node[name]
                    bare = bare.setdefault(name, _bare(node))
                bare[place[-1]] = number
        return tree, changed


def _bare(node: Mapping[str, Any]) -> Nodes:
    """A node that says which class it is of, and nothing else."""
    return {"_target_": node["_target_"]} if "_target_" in node else {}


def _overlap(one: str, other: str) -> bool:
    """Whether a key is another, or lies in it."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _is_plain(cfg: DictConfig, key: str) -> bool:
    """Whether a key holds a number without a type that would convert the next one."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    leaf = node._get_node(name) if isinstance(node, DictConfig) else None
    return type(leaf) is AnyNode and type(leaf._value()) in (int, float)


def _refers(tree: Any, names: Collection[str]) -> bool:
    """Whether an interpolation in a tree may lead to a node of one of these names."""
    for text in _interpolations(tree):
        resolvers = re.findall(r"\$\{\s*([\w.]+)\s*:", text)
        if "${" in re.sub(r"\$\{[^${}]*\}", "", text) or not set(resolvers) <= set(RESOLVERS):
            return True
        ends = {path.rpartition(".")[2] for path in re.findall(r"[\w.]+", text)}
        if "" in ends or not ends.isdisjoint(names):
            return True
    return False


def _interpolations(node: Any) -> Iterator[str]:
    if isinstance(node, dict | list):
        for inner in node.values() if isinstance(node, dict) else node:
            yield from _interpolations(inner)
    elif isinstance(node, str) and "${" in node:
        yield node
