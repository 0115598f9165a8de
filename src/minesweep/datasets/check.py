"""What a dataset of anybody's hands over, checked once, before anything is trained on it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minesweep.datasets.base import Batch, Data, Split
from minesweep.datasets.pairs import SentencePairs
from minesweep.errors import UserError

log = logging.getLogger(__name__)

PARTS = ("train", "val", "test")
IGNORED = (255, -100)
"""Labels of pixels that belong to no class, as Cityscapes, VOC and PyTorch write them."""
SAMPLE = 64
"""Examples of a split with its own ``fetch`` that are looked at."""


def checked(data: Any) -> Data:
    """The data as the trainer needs them: float32 inputs and int64 labels from 0.

    What can be changed without harm is changed, with a warning: the type of inputs and labels,
    labels ``[n, 1]``, one-hot labels, and labels that are numbered otherwise than from 0.

    Args:
        data: What ``load`` of a dataset returned.

    Raises:
        UserError: Something is missing, of another length or shape, not finite, or no label.
    """
    if not isinstance(data, Data):
        raise UserError(f"dataset: load() returned {_kind(data)}, not a minesweep Data")
    if not isinstance(data.num_classes, Integral) or isinstance(data.num_classes, bool):
        raise UserError(f"dataset: num_classes is {data.num_classes!r}, not a whole number")
    names = data.class_names
    if not isinstance(names, Sequence | np.ndarray) or isinstance(names, str):
        raise UserError(f"dataset: class_names is {_kind(names)}, not a list of names")
    data = replace(data, num_classes=int(data.num_classes), class_names=[str(n) for n in names])
    done: dict[int, Split] = {}
    for part in PARTS:
        split = getattr(data, part)
        if id(split) not in done:
            done[id(split)] = _check_split(part, split, data)
    splits = {part: done[id(getattr(data, part))] for part in PARTS}
    if not isinstance(splits["train"], SentencePairs):
        _check_classes(data, splits)
    shape = _check_shapes(data.input_shape, splits)
    return replace(data, **splits, input_shape=shape)


def _check_shapes(stated: Any, splits: dict[str, Split]) -> tuple[int, ...]:
    """The shape of an example, which all splits share."""
    if isinstance(stated, Integral):
        stated = (int(stated),)
    if not isinstance(stated, Sequence):
        raise UserError(f"dataset: input_shape is {stated!r}, not such as (1, 28, 28)")
    whole = {part: split for part, split in splits.items() if type(split) is Split}
    for part, split in whole.items():
        shape = tuple(split.inputs.shape[1:])
        if part != "train" and "train" in whole and shape != tuple(whole["train"].inputs.shape[1:]):
            raise UserError(
                f"dataset: a {part} example has the shape {shape}, and a training one "
                f"{tuple(whole['train'].inputs.shape[1:])}"
            )
        if shape != tuple(stated):
            raise UserError(
                f"dataset: input_shape is {tuple(stated)}, and an example has the shape {shape}: "
                "set input_shape to that"
            )
    return tuple(stated)


def _check_split(part: str, split: Any, data: Data) -> Split:
    if not isinstance(split, Split):
        raise UserError(f"dataset: the {part} split is {_kind(split)}, not a minesweep Split")
    labels = _tensor(f"{part} labels", split.labels)
    if isinstance(split, SentencePairs):
        if not len(labels):
            raise UserError(f"dataset: the {part} split is empty")
        return split
    if labels.ndim == 0 or not len(labels):
        raise UserError(f"dataset: the {part} split is empty")
    if type(split) is not Split:
        _check_fetched(part, split, len(labels))
        return replace(split, labels=_labels(part, labels, data))
    inputs = _tensor(f"{part} inputs", split.inputs)
    if inputs.ndim == 0 or len(inputs) != len(labels):
        count = len(inputs) if inputs.ndim else 0
        raise UserError(f"dataset: {part} has {count} inputs and {len(labels)} labels")
    inputs = _numbers(part, inputs)
    if split.flipped is not None and split.flipped.shape != labels.shape[:1]:
        shape = _times(split.flipped.shape)
        raise UserError(f"dataset: {part} has {len(labels)} labels, and flipped is {shape}")
    return replace(split, inputs=inputs, labels=_labels(part, labels, data, inputs))


def _tensor(what: str, values: Any) -> Tensor:
    if isinstance(values, Tensor):
        return values
    try:
        found = torch.as_tensor(np.asarray(values))
    except (TypeError, ValueError, RuntimeError):
        raise UserError(
            f"dataset: {what} are {_kind(values)}, which is no tensor of numbers"
        ) from None
    log.warning("dataset: %s are %s, and became a tensor", what, _kind(values))
    return found


def _numbers(part: str, inputs: Tensor) -> Tensor:
    """Inputs of a type that layers take: tokens stay, other numbers become float32."""
    kind = str(inputs.dtype).removeprefix("torch.")
    if inputs.layout != torch.strided:
        raise UserError(f"dataset: {part} inputs are sparse: give to_dense() of them")
    if inputs.is_complex():
        raise UserError(f"dataset: {part} inputs are {kind}: give real and imaginary parts apart")
    if inputs.dtype == torch.uint8 and inputs.ndim > 2:
        log.warning("dataset: %s inputs are uint8, and became float32 in [0, 1]", part)
        inputs = inputs.float().div_(255)
    elif inputs.dtype in (torch.uint8, torch.bool) or (
        inputs.is_floating_point() and inputs.dtype != torch.float32
    ):
        log.warning("dataset: %s inputs are %s, and became float32", part, kind)
        inputs = inputs.float()
    _check_finite(part, inputs)
    return inputs


def _check_finite(part: str, inputs: Tensor) -> None:
    if not inputs.is_floating_point() or torch.isfinite(inputs).all():
        return
    bad = (~torch.isfinite(inputs.flatten(1) if inputs.ndim > 1 else inputs[:, None])).any(1)
    rows = bad.nonzero().flatten()
    raise UserError(
        f"dataset: {len(rows)} of {len(inputs)} {part} inputs hold NaN or infinite values, the "
        f"first is row {rows[0]}: fill them in, or leave those rows out"
    )


def _check_fetched(part: str, split: Split, count: int) -> None:
    """Looks at some examples of a split that makes them itself."""
    rows = torch.linspace(0, count - 1, min(count, SAMPLE)).long().to(split.device)
    batch = split.fetch(rows)
    if not isinstance(batch, Batch) or len(batch.labels) != len(rows):
        raise UserError(
            f"dataset: fetch() of {len(rows)} rows of the {part} split returns "
            f"{_kind(batch)}, not a Batch with a label for each"
        )
    inputs = batch.inputs
    if not isinstance(inputs, Tensor):
        return
    if inputs.dtype in (torch.float64, torch.uint8):
        raise UserError(
            f"dataset: fetch() of the {part} split returns {inputs.dtype}: return torch.float32"
        )
    _check_finite(part, inputs)


def _labels(part: str, labels: Tensor, data: Data, inputs: Tensor | None = None) -> Tensor:
    """Whole numbers, one for each example or for each pixel."""
    if labels.is_floating_point():
        if not torch.equal(labels, labels.round()):  # NaN is not equal to itself
            raise UserError(
                f"dataset: {part} labels are {labels.dtype} such as "
                f"{_first(labels[labels != labels.round()])}: a label is a whole number from 0"
            )
        log.warning("dataset: %s labels are %s, and became int64", part, labels.dtype)
        labels = labels.long()
    if labels.is_complex():
        raise UserError(f"dataset: {part} labels are complex numbers")
    if labels.ndim == 4 and labels.shape[1] == 1:
        labels = labels.squeeze(1)
    if labels.ndim == 3:
        if inputs is not None and labels.shape[1:] != inputs.shape[-2:]:
            raise UserError(
                f"dataset: {part} labels are maps of {_times(labels.shape[1:])}, and images are "
                f"{_times(inputs.shape[-2:])}"
            )
        return labels
    if labels.ndim == 2 and labels.shape[1] == 1:
        log.warning("dataset: %s labels are [n, 1], and became [n]", part)
        labels = labels.flatten()
    if labels.ndim == 2 and labels.shape[1] == data.num_classes:
        ones = (labels == 1).sum(1)
        if bool((ones == 1).all()) and int((labels != 0).sum()) == len(labels):
            log.warning("dataset: %s labels are one-hot, and became class numbers", part)
            labels = labels.long().argmax(1)
    if labels.ndim != 1:
        raise UserError(
            f"dataset: {part} labels have the shape {_times(labels.shape)}: give one class "
            "number for each example"
        )
    return labels.long()


def _check_classes(data: Data, splits: dict[str, Split]) -> None:
    """Checks labels against the number of classes, and renumbers them where that is certain."""
    names = data.class_names
    if names and len(names) != data.num_classes:
        raise UserError(
            f"dataset: {len(names)} class names and num_classes={data.num_classes}: give as many"
        )
    if data.num_classes < 2:
        raise UserError(f"dataset: num_classes={data.num_classes}: there must be two at least")
    maps = splits["train"].labels.ndim == 3
    ignored = torch.tensor(IGNORED if maps else ())
    found = torch.cat([split.labels.unique().long().cpu() for split in splits.values()]).unique()
    found = found[~torch.isin(found, ignored)]
    if not len(found):
        raise UserError("dataset: no pixel has a label")
    wrong = found[(found < 0) | (found >= data.num_classes)]
    if len(wrong):
        if maps or len(found) != data.num_classes:
            raise UserError(
                f"dataset: a label is {wrong[0]}, where num_classes={data.num_classes} allows 0 "
                f"to {data.num_classes - 1}: number the classes so"
            )
        log.warning(
            "dataset: labels are %s, and became 0 to %d in that order",
            *(_listed(found), data.num_classes - 1),
        )
        for split in {id(split): split for split in splits.values()}.values():
            split.labels = torch.searchsorted(found.to(split.labels.device), split.labels)
    if not maps and int(splits["train"].labels.unique().numel()) == 1:
        log.warning("dataset: all training labels are %d", splits["train"].labels[0])


def _listed(values: Tensor) -> str:
    first = ", ".join(str(value) for value in values[:4].tolist())
    return f"{first} ... {values[-1]}" if len(values) > 4 else first


def _first(values: Tensor) -> str:
    return f"{values.flatten()[0].item():g}"


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
