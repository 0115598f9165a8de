"""What can be told to be wrong from the configuration alone, before anything heavy is imported."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from minesweep.config.compose import suggest
from minesweep.config.identity import (
    Config,
    batch_and_selected,
    choice,
    plain,
    run_name,
    scores_pixels,
)
from minesweep.config.places import own_folders
from minesweep.config.schema import Key, Schema, schema
from minesweep.errors import UserError
from minesweep.words import nearest

CLASSIFIERS = "minesweep.objectives.classification."
"""Where the objectives are whose outputs are classes."""

LONGEST = 255
"""Bytes of a file name, on every file system in use."""


def check(cfg: Config, folders: Sequence[Path | str] | None = None) -> None:
    """Raises a UserError at the first value that cannot be meant.

    Args:
        cfg: The configuration.
        folders: Configuration folders of the user; by default those that Hydra was started with.
    """
    check_values(plain(cfg), schema(own_folders() if folders is None else folders))
    check_rules(cfg)
    check_writable(cfg)


def check_rules(cfg: Config) -> None:
    """Raises a UserError where values that are right by themselves cannot be meant together."""
    _check_study(cfg)
    trainer = cfg["trainer"]
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(trainer["device"])):
        raise UserError(
            f"trainer.device={trainer['device']} is not one of auto, cpu, cuda, cuda:<index>"
        )
    if trainer["max_epochs"] is None and trainer["max_steps"] is None:
        raise UserError("give trainer.max_epochs or trainer.max_steps")
    _check_order(cfg, "miner.start", "miner.end")
    _check_order(cfg, "miner.range_min", "miner.range_max")
    _check_order(cfg, "miner.cutoff", "miner.nonzero_loss_cutoff")
    _check_order(cfg, "miner.range_min", "trainer.batch_size")
    check_warmup(cfg, trainer.get("equal_cost") or trainer["max_steps"])
    _check_most(cfg, "miner.n_hard", "objective.queue_size")
    _check_nodes(cfg)
    _check_held_out(cfg)
    _check_selection(cfg)


def check_values(tree: Mapping[str, Any], known: Schema) -> None:
    """Compares every value with what the configuration files say that it may be.

    Args:
        tree: The configuration as plain values.
        known: The keys of all configuration files.

    Raises:
        UserError: At the first value that its key does not allow.
    """
    for path, value, target, argument in _walk(tree, "", "", ""):
        keys = known.find(path, target, argument)
        if keys and not any(key.allows(value) for key in keys):
            raise UserError(_wrong(path, value, keys[0]))
        if not keys and not target and "." in path:
            _check_name(path, known)


def _walk(
    node: Mapping[str, Any], prefix: str, target: str, below: str
) -> Iterator[tuple[str, Any, str, str]]:
    """Each key with its value, the class that it belongs to, and its place in that class."""
    if "_target_" in node:
        target, below = str(node["_target_"]), ""
    for name, value in node.items():
        path = f"{prefix}{name}"
        if path == "hydra" or str(name).startswith("_"):
            continue
        argument = f"{below}{name}" if target else path
        yield path, value, target, argument
        if isinstance(value, Mapping):
            yield from _walk(value, f"{path}.", target, f"{argument}.")


def _check_name(path: str, known: Schema) -> None:
    """Refuses a key that nothing reads, beside keys that are described."""
    parent = path.rpartition(".")[0]
    siblings = known.below(parent)
    if siblings:
        raise UserError(f"no key '{path}'{suggest(path, siblings)}")


def _wrong(path: str, value: Any, key: Key) -> str:
    words = [word for kind in key.kinds for word in kind.words]
    hint = nearest(str(value), words) if words else ""
    if key.is_text and isinstance(value, int | float):
        hint = ": write it in quotes"
    elif value is None and any(kind.name == "list" for kind in key.kinds):
        hint = f": write {path}=[] for none"
    elif isinstance(value, str) and any(kind.name == "list" for kind in key.kinds):
        hint = f": write {path}=[{value}]"
    elif value in ("None", "none", "null") and any(kind.name == "null" for kind in key.kinds):
        hint = f": write {path}=null"
    elif value == "":
        hint = ", and is empty"
    return f"{path}={shown(value)} must be {key.allowed}{hint}"


def shown(value: Any) -> str:
    """A value as it is written on the command line."""
    words = {True: "true", False: "false", None: "null"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def check_warmup(cfg: Config, steps: int | None) -> bool:
    """Whether the warm-up ends before the run does.

    A choice's own warm-up may be longer, because a short run of it is a first look.

    Raises:
        UserError: A warm-up that was asked for is as long as the run, or longer.
    """
    warmup = cfg["scheduler"].get("warmup") or 0
    if not isinstance(steps, int) or warmup < steps:
        return True
    if warmup not in schema().defaults("scheduler.warmup"):
        raise UserError(
            f"scheduler.warmup={warmup} must be below the run's {steps} steps, "
            f"such as scheduler.warmup={steps // 10}"
        )
    return False


def _check_study(cfg: Config) -> None:
    if not re.fullmatch(r"\w[\w.-]*", cfg["study"]):
        raise UserError(
            f"study={cfg['study']} must be a plain folder name (letters, digits, _ . -)"
        )
    # The run's own folder takes eight hex digits more, its lock file some letters.
    for what, name, most in (
        ("study", cfg["study"], LONGEST),
        ("the run's name", run_name(cfg), LONGEST - 32),
    ):
        if (length := len(name.encode())) > most:
            raise UserError(
                f"{what}={name[:20]}... has {length} bytes, and a folder's name {most} at most"
            )


def _check_nodes(cfg: Config) -> None:
    """What a stop rule needs, and what a schedule of validations is."""
    if isinstance(stages := cfg["trainer"]["eval_every"], Mapping):
        _check_stages("trainer.eval_every", stages)
    rule = cfg["trainer"]["early_terminate"]
    if rule is not None and "_target_" not in rule:
        raise UserError(
            f"trainer.early_terminate={rule} has no _target_: "
            "write early_terminate into a sweep file, which sets it"
        )
    if cfg["optimizer"].get("nesterov") and not cfg["optimizer"].get("momentum"):
        raise UserError("optimizer.nesterov=true needs optimizer.momentum above 0")


def _value(cfg: Config, key: str) -> Any:
    """The value of a key such as ``miner.k``; None where a choice does not have it."""
    group, _, name = key.partition(".")
    return cfg[group].get(name)


def _check_order(cfg: Config, lower: str, upper: str) -> None:
    low, high = (_value(cfg, key) for key in (lower, upper))
    if low is not None and high is not None and low >= high:
        raise UserError(f"{lower}={low} must be below {upper}={high}")


def _check_most(cfg: Config, lower: str, upper: str) -> None:
    low, high = (_value(cfg, key) for key in (lower, upper))
    if low is not None and high is not None and low > high:
        raise UserError(f"{lower}={low} must be at most {upper}={high}")


def _check_stages(key: str, stages: Mapping[Any, Any]) -> None:
    """``{0: 25, 300: 100}``: from which step on, and every how many steps."""
    whole = all(
        isinstance(number, int) and not isinstance(number, bool) and number >= low
        for start, every in stages.items()
        for number, low in ((start, 0), (every, 1))
    )
    if not whole or 0 not in stages:
        raise UserError(
            f"{key}={stages} must map steps to intervals, from step 0 on, e.g. {{0: 25, 300: 100}}"
        )


def _check_held_out(cfg: Config) -> None:
    target = str(cfg["objective"].get("_target_"))
    held_out = cfg["dataset"].get("held_out_classes")
    if held_out and target.startswith(CLASSIFIERS):
        raise UserError(
            f"dataset.held_out_classes={held_out}: "
            f"objective={choice(cfg, 'objective')} cannot know classes that it is not trained on; "
            "choose an objective of embeddings, such as triplet"
        )


def _check_selection(cfg: Config) -> None:
    n, k = batch_and_selected(cfg)
    if k is None:
        trainer = cfg["trainer"]
        lasting = trainer["max_steps"] or trainer["equal_cost"]
        if trainer["count"] == "backward" and lasting is None:
            raise UserError(
                f"trainer.count=backward needs a fixed k, which miner={choice(cfg, 'miner')} "
                "has not: give trainer.max_steps"
            )
        return
    if scores_pixels(cfg):
        return  # how many pixels there are is known with the data
    if not 1 <= k <= n:
        raise UserError(f"miner.k={k} is more than n: choose k in [1, trainer.batch_size={n}]")
    skip_hardest = cfg["miner"].get("skip_hardest", 0.0)
    skipped = round(skip_hardest * n)
    if skipped + k > n:
        raise UserError(
            f"miner.skip_hardest={skip_hardest} leaves {n - skipped} of n={n}, "
            f"fewer than k={k}: lower one of them"
        )


def check_writable(cfg: Config) -> None:
    """Raises a UserError where the folder of runs cannot be made, or not be written to."""
    folder = Path(cfg["paths"]["runs_dir"]).expanduser()
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"paths.runs_dir={folder} cannot be made: {error.strerror}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"paths.runs_dir={folder} cannot be written to")


class DoesNotFit(UserError):
    """The miner and the objective speak of different candidates."""


def check_fit(cfg: Config, mines: Sequence[str], scores: str) -> None:
    """Raises DoesNotFit where the miner and the objective speak of different candidates.

    Args:
        cfg: The configuration.
        mines: What the miner can mine, its own candidate first.
        scores: What the objective scores.
    """
    if scores not in mines:
        raise DoesNotFit(
            f"miner={choice(cfg, 'miner')} mines a {mines[0]}, but "
            f"objective={choice(cfg, 'objective')} scores a {scores}: choose another of the two"
        )


def check_labels(cfg: Config, dimensions: int, scores: str) -> None:
    """Raises a UserError where the data's labels are masks and the objective wants none, or not.

    Args:
        cfg: The configuration.
        dimensions: Of the training labels: 1, or 3 of masks.
        scores: What the objective scores.
    """
    masks = dimensions == 3
    if masks and scores != "pixel":
        raise UserError(
            f"dataset={choice(cfg, 'dataset')} has a label for each pixel, and "
            f"objective={choice(cfg, 'objective')} scores a {scores}: "
            "take objective=pixel_cross_entropy and a model of pixels, such as model=unet"
        )
    if not masks and scores == "pixel":
        raise UserError(
            f"objective={choice(cfg, 'objective')} scores pixels, and "
            f"dataset={choice(cfg, 'dataset')} has one label for each example: "
            "take a dataset of masks, such as dataset=digit_scenes"
        )
    every = cfg["logger"]["embeddings"]["every"]
    if masks and every is not None:
        raise UserError(
            f"logger.embeddings.every={every} shows examples by their class, and labels "
            "of pixels give an image none: set it to null"
        )
