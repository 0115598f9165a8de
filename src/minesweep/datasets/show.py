"""Examples as people see them: a picture, a text, or some numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from minesweep.datasets.base import Split
from minesweep.datasets.documents import Documents
from minesweep.datasets.pairs import SentencePairs
from minesweep.datasets.sentences import Sentences

MOST_NUMBERS = 8

Shown = np.ndarray | str
"""``[height, width, 1 or 3]`` uint8, or a text."""


def shown(split: Split, rows: Tensor) -> list[tuple[Shown, ...]]:
    """What to show of each of the examples at ``rows``: one thing, or the two of a pair."""
    if isinstance(split, SentencePairs):
        places = split.inputs[rows].tolist()
        return [tuple(split.texts[place] for place in pair) for pair in places]
    if isinstance(split, Sentences):
        return [(split.texts[row],) for row in rows.tolist()]
    if isinstance(split, Documents):
        return [(split.texts[place],) for place in split.inputs[rows].tolist()]
    inputs = split.fetch(rows).inputs
    found = pictures(inputs)
    if found is not None:
        return [(picture,) for picture in found]
    if isinstance(inputs, Tensor):
        return [(_numbers(example),) for example in inputs.flatten(1)]
    return [(f"row {row}",) for row in rows.tolist()]


def pictures(inputs: Any) -> np.ndarray | None:
    """``[m, height, width, 1 or 3]`` uint8 of image tensors, None of anything else."""
    if not isinstance(inputs, Tensor) or inputs.ndim != 4 or inputs.shape[1] not in (1, 3):
        return None
    pixels = inputs.float()
    low, high = pixels.aminmax()
    pixels = (pixels - low) / (high - low).clamp(min=1e-12) * 255
    return pixels.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def _numbers(example: Tensor) -> str:
    told = ", ".join(f"{value:.3g}" for value in example[:MOST_NUMBERS].tolist())
    return told if len(example) <= MOST_NUMBERS else f"{told}, ... ({len(example)} numbers)"
