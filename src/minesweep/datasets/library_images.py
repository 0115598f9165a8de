"""Images that another library hands over one by one, as squares held in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from minesweep.datasets.arrays import class_numbers
from minesweep.datasets.base import Data
from minesweep.datasets.decode import UNREADABLE, as_rgb, central_square
from minesweep.datasets.image_checks import tell_of_images
from minesweep.datasets.images import DealtDataset
from minesweep.errors import UserError


class LibraryImages(DealtDataset):
    """Images and labels that a library knows by name.

    Args:
        **image: See :class:`~minesweep.datasets.images.DealtDataset`.
    """

    def hold(
        self,
        name: str,
        examples: Mapping[str, Iterable[tuple[Any, Any]]],
        sizes: Mapping[str, int],
        class_names: Sequence[str] = (),
    ) -> Data:
        """Keeps a square of each image, and deals the splits that are not given.

        Args:
            name: Of the dataset, for messages.
            examples: Pairs of a PIL image (or an array) and a class number, by split; ``""`` for
                those of no split.
            sizes: How many there are of each.
            class_names: A name for each class number.

        Raises:
            UserError: They need too much memory, have no class, or leave a split empty.
        """
        count = sum(sizes.values())
        if not self.fits(count):
            need = count * 3 * self.stored_size**2 / 2**20
            raise UserError(
                f"{name}: {count:,} images of {self.stored_size} x {self.stored_size} pixels need "
                f"{need:,.0f} MiB: raise dataset.memory={self.memory:g}, or lower "
                "dataset.stored_size"
            )
        pixels = np.empty((count, 3, self.stored_size, self.stored_size), dtype=np.uint8)
        labels: list[int] = []
        given: list[str] = []
        for part, pairs in examples.items():
            for image, label in pairs:
                where = f"{name}: {part or 'example'} {len(labels)}"
                pixels[len(labels)] = _square(where, image, self.stored_size)
                labels.append(_class(where, label))
                given.append(part)
        names, numbers = class_numbers(Path(name), np.array(labels))
        if class_names and max(labels) < len(class_names):
            names = [str(class_names[int(number)]) for number in names]
        rows = self.deal(name, [names[number] for number in numbers], given)
        inputs = {part: torch.from_numpy(pixels)[chosen] for part, chosen in rows.items()}
        found = {part: torch.from_numpy(numbers)[chosen] for part, chosen in rows.items()}
        places = {part: [f"{part} {row}" for row in range(len(inputs[part]))] for part in inputs}
        tell_of_images(Path(name), inputs, places, found, names)
        return self.data(dict(inputs), found, names, name)


def _square(where: str, image: Any, side: int) -> np.ndarray:
    try:
        if not isinstance(image, Image.Image):
            image = Image.fromarray(np.asarray(image))
        return central_square(as_rgb(image), side)
    except UNREADABLE as error:
        raise UserError(f"{where} is no image that can be decoded: {error}") from None


def _class(where: str, label: Any) -> int:
    try:
        number = label.item() if hasattr(label, "item") else label
    except (ValueError, RuntimeError):
        number = label
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise UserError(
            f"{where} has the label {str(label)[:40]!r}, which is no class number: choose a "
            "dataset for classification"
        )
    return number
