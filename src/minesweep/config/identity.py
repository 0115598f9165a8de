"""A run is named by what it computes: a hash of its configuration, and the folder that follows."""

from __future__ import annotations

import hashlib
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from minesweep.config.reference import reference_identity
from minesweep.errors import UserError
from minesweep.sizes import chosen_k

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
    "trainer.threads",
)
"""Keys that cannot change what is computed. ``logger.every`` and ``logger.histogram_every`` are
not among them: they decide what the journal holds. Device kind and threads are recorded beside
the run instead, because equality to the bit is promised only where they are the same."""


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The configuration with every interpolation resolved, as plain Python values."""
    tree = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


def identity(cfg: DictConfig) -> str:
    """64 hex digits: equal for two configurations exactly when they compute the same."""
    tree = plain(cfg)
    absent = object()
    for key in (*NEUTRAL, *ADDED):
        *parents, leaf = key.split(".")
        node = tree
        for parent in parents:
            node = node.get(parent) or {}
        if node.get(leaf, absent) == ADDED.get(key, node.get(leaf, absent)):
            node.pop(leaf, None)
    if tree.get("ckpt_path") is not None:
        tree["ckpt_path"] = file_digest(tree["ckpt_path"])
    if (reference := tree["miner"].get("reference")) is not None:
        tree["miner"]["reference"] = reference_identity(reference, tree["seed"])
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def run_name(cfg: DictConfig) -> str:
    """A name to read, such as ``ohem-n512-k384-s0``; not unique."""
    n, k = batch_and_selected(cfg)
    selected = "" if k in (None, n) else f"-k{k}"
    return f"{choice(cfg, 'miner')}-n{n}{selected}-s{cfg.seed}"


def run_folder(cfg: DictConfig) -> Path:
    """``<runs_dir>/<study>/<name>-<the first 8 digits of the identity>``."""
    return study_folder(cfg) / f"{run_name(cfg)}-{identity(cfg)[:8]}"


def study_folder(cfg: DictConfig) -> Path:
    """``<runs_dir>/<study>``."""
    return Path(cfg.paths.runs_dir).expanduser() / str(cfg.study)


def choice(cfg: DictConfig, group: str) -> str:
    """What was chosen in a group: the node's ``name``, else its class in snake case."""
    node = cfg[group]
    name = node.get("name") or re.sub(CAMEL, "_", node["_target_"].rsplit(".", 1)[-1])
    return re.sub(r"[^\w.-]", "_", str(name)).lower()


def scores_pixels(cfg: DictConfig) -> bool:
    """Whether the objective is one of ours whose candidates are pixels."""
    return str(cfg.objective.get("_target_")).startswith(PIXELS)


def batch_and_selected(cfg: DictConfig) -> tuple[int, int | None]:
    """n and k; k is None where the miner selects a changing number.

    Where pixels are selected, each image of the n goes backward.
    """
    n = cfg.trainer.batch_size
    if choice(cfg, "miner") == "all" or scores_pixels(cfg):
        return n, n
    if "refresh" in cfg.miner:
        return n, n  # an index miner's k is a number of neighbours; all of its pairs are selected
    if "k" not in cfg.miner:
        return n, None
    return n, chosen_k(n, cfg.miner.k, cfg.miner.get("ratio"))


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
