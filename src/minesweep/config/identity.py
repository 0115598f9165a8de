"""A run is named by what it computes: a hash of its configuration, and the folder that follows."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from minesweep.config.reference import reference_identity
from minesweep.errors import UserError
from minesweep.sizes import chosen_k

Config = Mapping[str, Any]
"""A configuration: as Hydra composes it, or as :func:`plain` values."""

CAMEL = r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])"
"""Between the words of RandomK, MLP or SiameseLSTM."""

PIXELS = "minesweep.objectives.pixels."
"""Where the objectives are whose candidates are pixels."""

ADDED = {"miner.per": "batch", "trainer.train_on": "train"}
"""Keys that came after runs had been stored, and the value that says what was computed before.
Such a key is not part of the identity while it holds this value."""

NEUTRAL = (
    "hydra",
    "paths",
    "study",
    "resume",
    "dataset.memory",
    "dataset.workers",
    "logger.embeddings",
    "logger.mined",
    "logger.tensorboard",
    "logger.wandb",
    "trainer.checkpoint_every",
    "trainer.device",
    "trainer.progress",
    "trainer.profile",
    "trainer.stale_after",
    "trainer.threads",
)
"""Keys that cannot change what is computed. ``logger.every`` and ``logger.histogram_every`` are
not among them: they decide what the journal holds. Device kind and threads are recorded beside
the run instead, because equality to the bit is promised only where they are the same."""


_LEFT_OUT = [(key, key.rpartition(".")[0], key.rpartition(".")[2]) for key in (*NEUTRAL, *ADDED)]


def plain(cfg: Config) -> dict[str, Any]:
    """The configuration with every interpolation resolved, as plain Python values of its own."""
    if isinstance(cfg, dict):
        return _copy(cfg)
    tree = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


def _copy(tree: dict[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if type(value) is dict else value for key, value in tree.items()}


def identity(cfg: Config) -> str:
    """64 hex digits: equal for two configurations exactly when they compute the same."""
    tree = plain(cfg)
    for key, group, leaf in _LEFT_OUT:
        node = (tree.get(group) or {}) if group else tree
        if leaf in node and (key in NEUTRAL or node[leaf] == ADDED[key]):
            del node[leaf]
    if tree.get("ckpt_path") is not None:
        tree["ckpt_path"] = file_digest(tree["ckpt_path"])
    if (reference := tree["miner"].get("reference")) is not None:
        tree["miner"]["reference"] = reference_identity(reference, tree["seed"])
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def run_name(cfg: Config) -> str:
    """A name to read, such as ``ohem-n512-k384-s0``; not unique."""
    n, k = batch_and_selected(cfg)
    selected = "" if k in (None, n) else f"-k{k}"
    return f"{choice(cfg, 'miner')}-n{n}{selected}-s{cfg['seed']}"


def run_folder(cfg: Config) -> Path:
    """``<runs_dir>/<study>/<name>-<the first 8 digits of the identity>``."""
    return study_folder(cfg) / f"{run_name(cfg)}-{identity(cfg)[:8]}"


def study_folder(cfg: Config) -> Path:
    """``<runs_dir>/<study>``."""
    return Path(cfg["paths"]["runs_dir"]).expanduser() / str(cfg["study"])


def choice(cfg: Config, group: str) -> str:
    """What was chosen in a group: the node's ``name``, else its class in snake case."""
    node = cfg[group]
    return _choice(str(node.get("name") or ""), "" if node.get("name") else node["_target_"])


@lru_cache(maxsize=10_000)
def _choice(name: str, target: str) -> str:
    name = name or re.sub(CAMEL, "_", target.rsplit(".", 1)[-1])
    return re.sub(r"[^\w.-]", "_", name).lower()


def scores_pixels(cfg: Config) -> bool:
    """Whether the objective is one of ours whose candidates are pixels."""
    return str(cfg["objective"].get("_target_")).startswith(PIXELS)


def batch_and_selected(cfg: Config) -> tuple[int, int | None]:
    """n and k; k is None where the miner selects a changing number.

    Where pixels are selected, each image of the n goes backward.
    """
    n, miner = cfg["trainer"]["batch_size"], cfg["miner"]
    if choice(cfg, "miner") == "all" or scores_pixels(cfg):
        return n, n
    if "refresh" in miner:
        return n, n  # an index miner's k is a number of neighbours; all of its pairs are selected
    if "k" not in miner:
        return n, None
    return n, chosen_k(n, miner["k"], miner.get("ratio"))


@lru_cache
def file_digest(path: str) -> str:
    """The SHA-256 of a file.

    Raises:
        UserError: There is no such file.
    """
    try:
        with Path(path).expanduser().open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"ckpt_path={path}: {error.strerror or error}") from None
