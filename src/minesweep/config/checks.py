"""What can be told to be wrong from the configuration alone, before anything heavy is imported."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from minesweep.config.identity import batch_and_selected, choice, scores_pixels
from minesweep.errors import UserError
from minesweep.words import check_word

TINY = 1e-6  # the lowest where 0 would divide by 0
# key: (kind, lowest, highest, whether null is allowed)
NUMBERS: dict[str, tuple[type, float, float, bool]] = {
    "seed": (int, 0, math.inf, False),
    "trainer.batch_size": (int, 1, math.inf, False),
    "trainer.max_epochs": (int, 1, math.inf, True),
    "trainer.max_steps": (int, 1, math.inf, True),
    "trainer.equal_cost": (int, 1, math.inf, True),
    "trainer.eval_every": (int, 1, math.inf, True),
    "trainer.checkpoint_every": (int, 1, math.inf, True),
    "trainer.threads": (int, 1, math.inf, True),
    "trainer.gradient_clip": (float, 0, math.inf, True),
    "trainer.accumulate": (int, 1, math.inf, False),
    "logger.every": (int, 1, math.inf, False),
    "logger.histogram_every": (int, 1, math.inf, False),
    "logger.mined": (int, 0, math.inf, False),
    "logger.embeddings.every": (int, 1, math.inf, True),
    "logger.embeddings.points": (int, 1, math.inf, False),
    "optimizer.lr": (float, 0, math.inf, False),
    "scheduler.warmup": (int, 0, math.inf, False),
    "scheduler.final": (float, 0, 1, False),
    "scheduler.warmup_from": (float, 0, 1, False),
    "dataset.label_noise": (float, 0, 1, False),
    "dataset.limit": (int, 1, math.inf, True),
    "dataset.size": (int, 1, math.inf, False),
    "dataset.dim": (int, 1, math.inf, False),
    "dataset.classes": (int, 2, math.inf, False),
    "dataset.spread": (float, 0, math.inf, True),
    "dataset.held_out": (int, 1, math.inf, True),
    "dataset.min_count": (int, 1, math.inf, False),
    "dataset.max_tokens": (int, 1, math.inf, False),
    "dataset.bucket": (int, 1, math.inf, False),
    "dataset.image_size": (int, 8, math.inf, False),
    "dataset.stored_size": (int, 8, math.inf, True),
    "dataset.val_share": (float, TINY, 0.9, False),
    "dataset.test_share": (float, TINY, 0.9, False),
    "dataset.memory": (float, 0, math.inf, False),
    "dataset.workers": (int, 0, math.inf, True),
    "dataset.views.flip": (float, 0, 1, False),
    "dataset.views.jitter_probability": (float, 0, 1, False),
    "dataset.views.grayscale": (float, 0, 1, False),
    "dataset.views.blur": (float, 0, 1, False),
    "dataset.views.erase": (float, 0, 1, False),
    "objective.selecting.every": (int, 1, math.inf, False),
    "objective.selecting.stale": (int, 0, math.inf, False),
    "objective.selecting.resolution": (float, TINY, 1, False),
    "objective.threshold": (float, -1, 1, False),
    "model.dim": (int, 1, math.inf, False),
    "model.projection": (int, 1, math.inf, True),
    "miner.k": (int, 1, math.inf, True),
    "miner.ratio": (float, 0, 1, True),
    "miner.skip_hardest": (float, 0, 1, False),
    "miner.start": (float, 0, 1, False),
    "miner.end": (float, 0, 1, False),
    "miner.interrupt": (int, 0, math.inf, False),
    "miner.beta": (float, 0, math.inf, False),
    "miner.history": (int, 1, math.inf, False),
    "miner.anneal": (float, TINY, 1, False),
    "miner.temperature": (float, TINY, math.inf, False),
    "miner.per_class": (int, 1, math.inf, True),
    "miner.range_min": (int, 0, math.inf, False),
    "miner.range_max": (int, 1, math.inf, True),
    "miner.relative_margin": (float, 0, 1, True),
    "miner.absolute_margin": (float, 0, 2, True),
    "miner.cutoff": (float, TINY, 2, False),
    "miner.nonzero_loss_cutoff": (float, TINY, 2, False),
    "miner.positives": (float, 0, 1, True),
    "miner.random_positives": (float, 0, 1, True),
    "miner.refresh": (int, 1, math.inf, False),
    "miner.sample": (int, 0, math.inf, False),
    "miner.memory": (int, 1, math.inf, False),
    "miner.n_bits": (int, 8, math.inf, False),
    "miner.shortlist": (int, 1, math.inf, False),
    "objective.margin": (float, TINY, math.inf, False),
    "objective.margin_end": (float, TINY, math.inf, True),
    "objective.margin_steps": (int, 1, math.inf, True),
    "objective.margin_quantile": (float, 0, 1, False),
    "objective.positive_margin": (float, 0, math.inf, False),
    "objective.power": (float, 1, math.inf, False),
    "objective.queries": (int, 2, math.inf, True),
    "objective.queue_size": (int, 1, math.inf, False),
    "objective.momentum": (float, 0, 1, False),
    "objective.temperature": (float, TINY, math.inf, False),
    "objective.groups": (int, 1, math.inf, False),
    "objective.knn_k": (int, 1, math.inf, False),
    "objective.knn_temperature": (float, TINY, math.inf, False),
    "objective.bank": (int, 2, math.inf, True),
    "miner.n_hard": (int, 1, math.inf, False),
    "miner.s1": (int, 0, math.inf, False),
    "miner.s2": (int, 0, math.inf, False),
    "miner.s1_start": (int, 0, math.inf, False),
    "miner.s2_start": (int, 0, math.inf, False),
    "model.hidden": (int, 1, math.inf, True),
}

CLASSIFIERS = "minesweep.objectives.classification."
"""Where the objectives are whose outputs are classes."""

WORDS: dict[str, tuple[str, ...]] = {
    "resume": ("auto", "never", "must"),
    "logger.embeddings.split": ("val", "train"),
    "objective.reduction": ("mean", "sum", "sum_over_n"),
    "objective.backward": ("auto", "rows", "again", "full"),
    "objective.selecting.precision": ("32", "bf16"),
    "trainer.precision": ("32", "bf16"),
    "trainer.count": ("forward", "backward"),
    "trainer.train_on": ("train", "val"),
    "trainer.parallel": ("single", "ddp"),
    "dataset.normalize": ("unit", "zscore", "none"),
}


def check(cfg: DictConfig) -> None:
    """Raises a UserError at the first value that cannot be meant."""
    for key, (kind, low, high, optional) in NUMBERS.items():
        if key == "miner.ratio" and choice(cfg, "miner") == "negative_ratio":
            continue  # negatives for each positive, not a share
        _check_number(cfg, key, kind, low, high, optional)
    for key, words in WORDS.items():
        check_word(key, str(OmegaConf.select(cfg, key, default=words[0])), words)
    if not re.fullmatch(r"\w[\w.-]*", str(cfg.study)):
        raise UserError(f"study={cfg.study} must be a plain folder name (letters, digits, _ . -)")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(cfg.trainer.device)):
        raise UserError(
            f"trainer.device={cfg.trainer.device} is not one of auto, cpu, cuda, cuda:<index>"
        )
    if cfg.trainer.max_epochs is None and cfg.trainer.max_steps is None:
        raise UserError("give trainer.max_epochs or trainer.max_steps")
    _check_order(cfg, "miner.start", "miner.end")
    _check_order(cfg, "miner.range_min", "miner.range_max")
    _check_order(cfg, "miner.cutoff", "miner.nonzero_loss_cutoff")
    _check_order(cfg, "miner.range_min", "trainer.batch_size")
    _check_most(cfg, "miner.n_hard", "objective.queue_size")
    _check_held_out(cfg)
    _check_selection(cfg)
    _check_writable(Path(cfg.paths.runs_dir).expanduser())


def _check_number(
    cfg: DictConfig, key: str, kind: type, low: float, high: float, optional: bool
) -> None:
    missing = object()
    value: Any = OmegaConf.select(cfg, key, default=missing)
    if value is missing or (value is None and optional):
        return
    if key == "trainer.equal_cost" and value == "auto":
        return
    if key == "trainer.eval_every" and isinstance(value, DictConfig):
        _check_stages(key, value)
        return
    if key == "trainer.eval_every" and isinstance(value, float) and 0 < value < 1:
        return  # a share of the run
    allowed = f"[{low:g}, {high:g}]" if high < math.inf else f"at least {low:g}"
    word = "a whole number" if kind is int else "a number"
    right_kind = isinstance(value, int | float) and not isinstance(value, bool)
    if not right_kind or (kind is int and not isinstance(value, int)) or not low <= value <= high:
        null = " or null" if optional else ""
        raise UserError(
            f"{key}={value} must be {word} {allowed}{null}".replace("number [", "number in [")
        )


def _check_order(cfg: DictConfig, lower: str, upper: str) -> None:
    low, high = (OmegaConf.select(cfg, key) for key in (lower, upper))
    if low is not None and high is not None and low >= high:
        raise UserError(f"{lower}={low} must be below {upper}={high}")


def _check_most(cfg: DictConfig, lower: str, upper: str) -> None:
    low, high = (OmegaConf.select(cfg, key) for key in (lower, upper))
    if low is not None and high is not None and low > high:
        raise UserError(f"{lower}={low} must be at most {upper}={high}")


def _check_stages(key: str, stages: DictConfig) -> None:
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


def _check_held_out(cfg: DictConfig) -> None:
    target = str(cfg.objective.get("_target_"))
    if cfg.dataset.get("held_out_classes") and target.startswith(CLASSIFIERS):
        raise UserError(
            f"dataset.held_out_classes={cfg.dataset.held_out_classes}: "
            f"objective={choice(cfg, 'objective')} cannot know classes that it is not trained on; "
            "choose an objective of embeddings, such as triplet"
        )


def _check_selection(cfg: DictConfig) -> None:
    n, k = batch_and_selected(cfg)
    if k is None:
        if cfg.trainer.count == "backward" and cfg.trainer.max_steps is None:
            raise UserError(
                f"trainer.count=backward needs a fixed k, which miner={choice(cfg, 'miner')} "
                "has not: give trainer.max_steps"
            )
        return
    if scores_pixels(cfg):
        return  # how many pixels there are is known with the data
    if not 1 <= k <= n:
        raise UserError(f"miner.k={k} is more than n: choose k in [1, trainer.batch_size={n}]")
    skipped = round(cfg.miner.get("skip_hardest", 0.0) * n)
    if skipped + k > n:
        raise UserError(
            f"miner.skip_hardest={cfg.miner.skip_hardest} leaves {n - skipped} of n={n}, "
            f"fewer than k={k}: lower one of them"
        )
    if cfg.miner.get("ratio") == 0 and cfg.miner.get("k") is None:
        raise UserError("miner.ratio=0 selects nothing: choose a share in (0, 1]")


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"paths.runs_dir={folder} cannot be made: {error.strerror}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"paths.runs_dir={folder} cannot be written to")


class DoesNotFit(UserError):
    """The miner and the objective speak of different candidates."""


def check_fit(cfg: DictConfig, mines: Sequence[str], scores: str) -> None:
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


def check_labels(cfg: DictConfig, dimensions: int, scores: str) -> None:
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
    if masks and cfg.logger.embeddings.every is not None:
        raise UserError(
            f"logger.embeddings.every={cfg.logger.embeddings.every} shows examples by their class, "
            "and labels of pixels give an image none: set it to null"
        )
