"""Pixels as people see them: masks in the colours of classes, selected pixels on the image."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Sequence

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image

from minesweep.datasets.base import Split
from minesweep.datasets.show import pictures

COLOURS = np.array(
    [
        *((0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)),
        *((0, 114, 178), (213, 94, 0), (204, 121, 167)),
    ],
    dtype=np.uint8,
)
"""Colours of the classes after the first, which is black (Okabe and Ito, 2008)."""
UNLABELLED = np.array((128, 128, 128), dtype=np.uint8)
SELECTED = np.array((255, 0, 90), dtype=np.float64)

Shown = tuple[str, np.ndarray]
"""A role, and ``[height, width, 3]`` uint8."""


def layers(
    split: Split, cfg: DictConfig, rows: list[int], step: int, masks: dict[str, list[str]]
) -> list[list[Shown]]:
    """Of each image: itself, its label, its prediction, and the selected pixels on it.

    Image and label are those that the step saw: what is drawn depends on seed, step and row alone.

    Args:
        split: The training split.
        cfg: Of the run.
        rows: Of the split; one that it does not have gets no pictures.
        step: The record's, counted from 1.
        masks: Of the record: PNG files in base64, by name.
    """
    held = [place for place, row in enumerate(rows) if 0 <= row < len(split)]
    if not held:
        return [[] for _ in rows]
    wanted = torch.tensor([rows[place] for place in held], device=split.device)
    batch = split.for_run(cfg.seed, 1).draw(wanted, step - 1)
    images = pictures(batch.inputs)
    found: list[list[Shown]] = [[] for _ in rows]
    for number, place in enumerate(held):
        label = batch.labels[number].cpu().numpy()
        image = None if images is None else images[number]
        prediction, selected = (_read(masks.get(n), place) for n in ("prediction", "selected"))
        found[place] = stack(image, label, prediction, selected)
    return found


def stack(
    image: np.ndarray | None,
    label: np.ndarray,
    prediction: np.ndarray | None,
    selected: np.ndarray | None = None,
) -> list[Shown]:
    """What there is of one image ``[H, W, 1 or 3]`` and its masks ``[H, W]``, as pictures."""
    found = [("label", coloured(label))]
    if prediction is not None:
        found.append(("prediction", coloured(prediction)))
    if image is None:
        return found
    image = np.broadcast_to(image, (*label.shape, 3))
    if selected is not None and selected.shape == label.shape:
        found.append(("selected pixels", overlaid(image, selected > 0)))
    return [("image", image), *found]


def legend(names: Sequence[str]) -> list[tuple[str, str]]:
    """The colour of each class, as ``#rrggbb``; of the first twenty."""
    colours = coloured(np.arange(min(len(names), 20))[None])[0].tolist()
    return [(name, "#" + bytes(c).hex()) for name, c in zip(names, colours, strict=False)]


def coloured(mask: np.ndarray) -> np.ndarray:
    """``[H, W, 3]`` of class indices ``[H, W]``; 255 is grey."""
    classes = mask.astype(np.int64)
    places = np.where(classes > 0, 1 + (classes - 1) % (len(COLOURS) - 1), 0)
    return np.where((classes == 255)[:, :, None], UNLABELLED, COLOURS[places])


def overlaid(image: np.ndarray, selected: np.ndarray) -> np.ndarray:
    """A darkened grey image with the selected pixels in one bright colour."""
    grey = np.repeat(image.mean(2, keepdims=True), 3, 2) * 0.7
    mixed = np.where(selected[:, :, None], 0.35 * grey + 0.65 * SELECTED, grey)
    return mixed.round().astype(np.uint8)


def _read(column: list[str] | None, place: int) -> np.ndarray | None:
    if column is None or place >= len(column):
        return None
    try:
        with Image.open(io.BytesIO(base64.b64decode(column[place]))) as image:
            return np.asarray(image.convert("L"))
    except (OSError, ValueError, TypeError, binascii.Error):
        return None
