"""The settings that every image dataset has, checked before any file is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from minesweep.errors import UserError
from minesweep.words import check_word

NORMALIZATIONS = ("unit", "zscore", "none")


@dataclass(frozen=True)
class Options:
    """How raw examples become splits.

    Attributes:
        normalize: ``unit`` scales pixels to [0, 1]; ``zscore`` also takes away the mean and
            divides by the standard deviation of the training split, per channel; ``none``
            keeps the file's integers.
        label_noise: Share of training labels that are replaced by another class, in [0, 1].
        limit: At most so many training rows; None for all.
        split_seed: Fixes splits and label noise. It is not the training seed, so that seeds
            of one study share their data.
        held_out_classes: Class indices that are never trained on: training rows of these are
            dropped, and of the validation and test splits only these are kept. Empty for all
            classes in all splits. For embeddings, not for classifiers.

    Raises:
        UserError: A value is unknown or out of range.
    """

    normalize: str = "unit"
    label_noise: float = 0.0
    limit: int | None = None
    split_seed: int = 0
    held_out_classes: Sequence[int] = ()

    def __post_init__(self) -> None:
        check_word("dataset.normalize", self.normalize, NORMALIZATIONS)
        if not _is_number(self.label_noise) or not 0 <= self.label_noise <= 1:
            raise UserError(
                f"dataset.label_noise={self.label_noise} must be a share from 0.0 to 1.0"
            )
        if self.limit is not None and (not _is_integer(self.limit) or self.limit < 1):
            raise UserError(
                f"dataset.limit={self.limit} must be a whole number of at least 1, "
                "or null for all training rows"
            )
        if not _is_integer(self.split_seed):
            raise UserError(f"dataset.split_seed={self.split_seed} must be a whole number")
        held = self.held_out_classes
        listed = isinstance(held, Sequence) and not isinstance(held, str)
        if not listed or len({str(label) for label in held}) < len(held):
            raise UserError(
                f"dataset.held_out_classes={held} must be a list of different classes, "
                "e.g. [8,9]; [] for none"
            )
        object.__setattr__(self, "held_out_classes", tuple(held))  # a list would not be hashed

    def check_held_out(self, classes: int) -> None:
        """Raises a UserError unless ``held_out_classes`` can be held out of so many classes."""
        held = self.held_out_classes
        if not all(_is_integer(label) and 0 <= label < classes for label in held):
            raise UserError(
                f"dataset.held_out_classes={list(held)} must name classes from 0 to {classes - 1}"
            )
        if len(held) > classes - 2:
            raise UserError(
                f"dataset.held_out_classes={list(held)} holds out {len(held)} of {classes} "
                "classes: leave at least two to train on"
            )


def check_shares(val_share: float, test_share: float) -> None:
    """Raises a UserError unless these shares leave something to train on."""
    if val_share + test_share >= 1:
        raise UserError(
            f"dataset.val_share={val_share} and dataset.test_share={test_share} "
            "leave nothing to train on"
        )


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
