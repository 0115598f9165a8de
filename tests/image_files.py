"""Image files for tests, and the folders and archives that they lie in."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from minesweep.datasets.base import Data
from minesweep.datasets.image_folder import ImageFolder


def picture(
    seed: int, mode: str = "RGB", kind: str = "PNG", size: tuple[int, int] = (12, 8)
) -> bytes:
    draws = np.random.default_rng(seed)
    image = Image.fromarray(draws.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    out = io.BytesIO()
    image.convert(mode).save(out, kind)
    return out.getvalue()


def files(classes: int = 3, each: int = 10, under: str = "") -> dict[str, bytes]:
    return {
        f"{under}class_{c}/{number:02d}.png": picture(100 * c + number)
        for c in range(classes)
        for number in range(each)
    }


def folder(root: Path, content: dict[str, bytes]) -> Path:
    for name, data in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def archive(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as out:
        for name, data in content.items():
            out.writestr(name, data)
    return path


def load(path: Path, **settings: Any) -> Data:
    small: dict[str, Any] = {"image_size": 8, "normalize": "none", "workers": 0}
    return ImageFolder(str(path), **(small | settings)).load(Path("nowhere"))


def sizes(data: Data) -> list[int]:
    return [len(split) for split in (data.train, data.val, data.test)]


def pixels(data: Data) -> Tensor:
    """All images, each once, in an order of their own."""
    parts = [split.fetch(torch.arange(len(split))) for split in (data.train, data.val, data.test)]
    rows = torch.cat([torch.cat([p.labels[:, None], p.inputs.flatten(1)], 1) for p in parts])
    return rows[np.lexsort(rows.T.numpy())]


NAMES = ("cat", "dog", "eel")


def animals(each: int = 10, under: str = "", first: int = 0) -> dict[str, bytes]:
    """Images of three classes, ``cat/x0.png`` and so on, all different."""
    return {
        f"{under}{name}/x{number}.png": picture(1000 * c + number + first)
        for c, name in enumerate(NAMES)
        for number in range(each)
    }


def in_splits(*names: str, inner: str = "") -> dict[str, bytes]:
    content: dict[str, bytes] = {}
    for place, name in enumerate(names):
        content |= animals(4 - place, f"{name}/{inner}", 100 * place)
    return content
