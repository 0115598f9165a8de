"""Arrays of NumPy: one of inputs and one of labels, for all splits or for each."""

from __future__ import annotations

import io
import logging
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minesweep.datasets.arrays import OwnArrays
from minesweep.datasets.base import Data
from minesweep.datasets.encoding import other_kind
from minesweep.datasets.layout import PARTS, words_of
from minesweep.datasets.split_lists import split_of
from minesweep.errors import UserError
from minesweep.words import check_word

log = logging.getLogger(__name__)

INPUTS = ("x", "input", "inputs", "data", "image", "images", "features")
LABELS = ("y", "label", "labels", "target", "targets", "class", "classes")
NAMES = ("names", "class_names", "target_names")
"""An array of the names of the classes 0, 1, ..."""


class Npz(OwnArrays):
    """Arrays of an ``.npz`` file: ``x`` of inputs and ``y`` of labels, or alike.

    Split by split they are called ``x_train``, ``y_train``, ``x_test`` and so on (or
    ``train_images``, ``train_labels``); what is not given is dealt.

    Inputs are ``[N, features]``, ``[N, height, width]``, ``[N, channels, height, width]`` or
    ``[N, height, width, channels]``.

    Args:
        path: The file.
        inputs: Name of the inputs, without the word for the split; None to find it.
        labels: Name of the labels; None to find it.
        **arrays: See :class:`~minesweep.datasets.arrays.OwnArrays`.
    """

    def __init__(
        self, path: str, *, inputs: str | None = None, labels: str | None = None, **arrays: Any
    ) -> None:
        super().__init__(path, **arrays)
        self.inputs, self.labels = inputs, labels

    def load(self, data_dir: Path) -> Data:
        """Reads the arrays."""
        path = self.find(data_dir)
        arrays = read_arrays(path)
        inputs = self._of(path, arrays, "inputs", self.inputs, INPUTS)
        labels = self._of(path, arrays, "labels", self.labels, LABELS)
        if inputs.keys() != labels.keys():
            odd = sorted(inputs.keys() ^ labels.keys(), key=str)[0]
            raise UserError(f"{path} has not both inputs and labels of the {odd or 'whole'} data")
        if "" in inputs and len(inputs) > 1:
            raise UserError(f"{path} holds arrays of all data and of splits: name one of them")
        for part in inputs:
            x, y = inputs[part], labels[part]
            if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
                raise UserError(
                    f"{path}: {part or 'the'} inputs {x.shape} and labels {y.shape}: give one "
                    "label for each example"
                )
        order = [part for part in ("", *PARTS) if part in inputs]
        shapes = {inputs[part].shape[1:] for part in order}
        if len(shapes) > 1:
            raise UserError(f"{path}: examples of several shapes: {', '.join(map(str, shapes))}")
        given = [part for part in order for _ in range(len(labels[part]))]
        names = next((arrays[name] for name in NAMES if name in arrays), np.array([]))
        return self.data(
            path,
            _inputs(path, np.concatenate([inputs[part] for part in order])),
            _labels(path, np.concatenate([labels[part] for part in order])),
            given,
            [str(name) for name in names],
        )

    def _of(
        self,
        path: Path,
        arrays: dict[str, np.ndarray],
        key: str,
        wanted: str | None,
        known: tuple[str, ...],
    ) -> dict[str, np.ndarray]:
        """The arrays of inputs or of labels by split; ``""`` for all data."""
        if wanted in arrays:
            return {"": arrays[wanted]}
        found: dict[str, np.ndarray] = {}
        words = {"".join(words_of(wanted))} if wanted else set(known)
        for name, array in arrays.items():
            parts = words_of(name)
            split = next((split for part in parts if (split := split_of(part))), "")
            rest = "".join(part for part in parts if not split_of(part))
            if rest in words:
                if split in found:
                    raise UserError(
                        f"{path} has several arrays of {key}: set dataset.{key} to one of "
                        f"{', '.join(arrays)}"
                    )
                found[split] = array
        if not found and wanted:
            check_word(f"dataset.{key}", wanted, arrays)
        if not found:
            raise UserError(
                f"{path}: which array holds the {key}? Set dataset.{key} to one of "
                f"{', '.join(arrays)}"
            )
        return found


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file by name.

    Raises:
        UserError: It is no ``.npz``, or holds Python objects.
    """
    try:
        # Of bytes: of a path NumPy leaves the file open where it is damaged.
        content = path.read_bytes()
        if not content.startswith((b"PK", b"\x93NUMPY")):
            kind = other_kind(content) or "of another kind"
            raise ValueError(f"it is {kind}; write np.savez(path, x=..., y=...)")
        file = np.load(io.BytesIO(content), allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("one array alone: write np.savez(path, x=..., y=...)")
        return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, KeyError) as error:
        told = error.strerror if isinstance(error, OSError) and error.strerror else error
        reason = " ".join(str(told).split())
        if "allow_pickle" in reason or "pickled" in reason:
            reason = "it holds Python objects: save arrays of numbers, or of text with dtype=str"
        raise UserError(f"{path} cannot be read as an .npz file: {reason}") from None


def _inputs(path: Path, array: np.ndarray) -> Tensor:
    if array.dtype.kind not in "biuf":
        raise UserError(f"{path}: inputs are of type {array.dtype}, not numbers")
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim == 4 and array.shape[3] in (1, 3, 4) and array.shape[1] not in (1, 3, 4):
        log.warning("%s: inputs %s have their channels last: moved", path, array.shape[1:])
        array = array.transpose(0, 3, 1, 2)
    if not array[:1].size and len(array):
        raise UserError(f"{path}: inputs of shape {array.shape} hold no feature")
    if array.dtype != np.uint8:
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
        if not np.isfinite(array).all():
            row = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(1))[0]
            raise UserError(
                f"{path}: inputs hold NaN, infinite values or numbers above 1e38, first in row "
                f"{row}"
            )
    return torch.from_numpy(np.ascontiguousarray(array))


def _labels(path: Path, array: np.ndarray) -> np.ndarray:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.dtype.kind in "biuf":
        one_hot = ((array == 0) | (array == 1)).all() and (array.sum(1) == 1).all()
        array = array.argmax(1) if one_hot else array
    if array.ndim != 1:
        raise UserError(f"{path}: labels have the shape {array.shape}: give one for each example")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UserError(f"{path}: labels hold NaN: leave those examples out")
    if array.dtype.kind not in "biufSU":
        raise UserError(f"{path}: labels are of type {array.dtype}, not numbers or text")
    array = array.astype(str) if array.dtype.kind == "S" else array
    if array.dtype.kind == "U" and (array == "").any():
        raise UserError(f"{path}: {(array == '').sum()} labels are empty: leave those examples out")
    return array
