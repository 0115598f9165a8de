"""A folder of your own with images and masks: a class for each pixel."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from minesweep.datasets.base import Batch, Data
from minesweep.datasets.decode import UNREADABLE, Place, reason, square
from minesweep.datasets.images import ImageDataset, ImageSplit
from minesweep.datasets.layout import PARTS
from minesweep.datasets.mask_files import find_pairs
from minesweep.datasets.options import check_shares
from minesweep.datasets.views import WHOLE
from minesweep.errors import UserError
from minesweep.seeding import generator

log = logging.getLogger(__name__)

IGNORED = 255
LOSSY = (".jpg", ".jpeg", ".jpe", ".jfif", ".webp")


@dataclass
class MaskSplit(ImageSplit):
    """Images with ``labels`` ``[N, S, S]`` uint8, cropped and flipped as their images are."""

    def fetch(self, rows: Tensor) -> Batch:
        """Whole images and masks: labels ``[n, size, size]``."""
        batch = super().fetch(rows)
        return replace(batch, labels=WHOLE.masks(batch.labels, rows, self.size, self.seed, "whole"))

    def draw(self, rows: Tensor, step: int) -> Batch:
        """Augmented images, and masks of the same crops and flips."""
        batch = super().draw(rows, step)
        drawn = self.views.masks(batch.labels, rows, self.size, self.seed, f"views/{step}/0")
        return replace(batch, labels=drawn)


class ImageMasks(ImageDataset):
    """Images in ``<path>/images/`` and masks of the same names in ``<path>/masks/``.

    A mask has one number for each pixel: the class, or 255 for none. It is a PNG of one channel, or
    one with a palette, whose places are the classes. The folders and lists of Pascal VOC are known,
    and those of Penn-Fudan. Folders such as ``train/`` and ``val/``, or lists such as
    ``train.txt``, say the splits; else images are dealt by ``split_seed``. Images and masks are
    held in memory, as central squares.

    Args:
        path: The folder, or a zip of it; a relative one is looked for in ``paths.data_dir``.
        stored_size: Side in pixels of what is kept and cropped from; None for one and a half times
            ``image_size``.
        values: The numbers in the masks that are classes, in the order of the classes; all others
            become 255. None where they are 0, 1, 2 ...
        binary: Whether each number above 0 is class 1, as in masks of instances.
        class_names: One for each class; None for their numbers.
        val_share: Share of the images for validation, where no folder says it.
        test_share: The same for the test.
        **image: See :class:`~minesweep.datasets.images.ImageDataset`.

    Raises:
        UserError: Settings that leave nothing to train on, or that move an image's parts.
    """

    def __init__(
        self,
        path: str,
        *,
        stored_size: int | None = None,
        values: Sequence[int] | None = None,
        binary: bool = False,
        class_names: Sequence[str] | None = None,
        val_share: float = 0.1,
        test_share: float = 0.2,
        **image: Any,
    ) -> None:
        super().__init__(**image)
        self.path, self.binary, self.class_names = path, binary, class_names
        self.values = _checked(values, binary)
        self.stored_size = stored_size or round(1.5 * self.image_size)
        self.shares = {"val": val_share, "test": test_share}
        check_shares(val_share, test_share)
        if self.views.rand_augment:
            raise UserError(
                "dataset.views.rand_augment turns and shears images, and their masks would stay: "
                "set it to null, or take views@dataset.views=crop_flip"
            )

    def load(self, data_dir: Path) -> Data:
        """Reads all images and masks.

        Raises:
            UserError: A folder, a mask or a class is missing or cannot be meant.
        """
        path = Path(data_dir) / Path(self.path).expanduser()
        if not path.exists():
            raise UserError(
                f"{path} is not there: set dataset.path to a folder, or a zip, that holds images/ "
                "and masks/"
            )
        place = Place(path)
        pairs, said = find_pairs(place)
        parts = self._split(list(pairs), said)
        reader = Reader(place, self.stored_size)
        inputs, labels = {}, {}
        for part in PARTS:
            if not parts[part]:
                raise UserError(
                    f"{path}: of {len(pairs)} images none is left for the {part} split: add some"
                )
            read = [reader(*pairs[key]) for key in parts[part]]
            inputs[part] = torch.from_numpy(np.stack([image for image, _ in read]))
            labels[part] = torch.from_numpy(np.stack([mask for _, mask in read]))
        return self._data(path, inputs, labels)

    def _split(self, keys: list[str], said: Mapping[str, str]) -> dict[str, list[str]]:
        """Each image's split: as it is said, else dealt."""
        given = set(said.values())
        found = {part: [key for key in keys if said.get(key) == part] for part in PARTS}
        rest = found["train"] if given else keys
        order = torch.randperm(len(rest), generator=generator(self.options.split_seed, "split"))
        rest = [rest[place] for place in order.tolist()]
        total = len(rest)
        for part, share in self.shares.items():
            if part not in given:
                count = max(round(share * total), share > 0)
                found[part], rest = rest[:count], rest[count:]
        found["train"] = rest[: self.options.limit]
        return found

    def _data(self, path: Path, inputs: dict[str, Tensor], labels: dict[str, Tensor]) -> Data:
        if self.binary:
            labels = {part: (masks > 0).to(torch.uint8) for part, masks in labels.items()}
        if self.values is not None:
            table = torch.full((256,), IGNORED, dtype=torch.uint8)
            table[list(self.values)] = torch.arange(len(self.values), dtype=torch.uint8)
            labels = {part: table[masks.long()] for part, masks in labels.items()}
        counts = torch.stack(
            [torch.bincount(masks.flatten().long(), minlength=256) for masks in labels.values()]
        ).sum(0)
        names = self._names(path, counts)
        told = ", ".join(
            f"{name} {count / counts[:IGNORED].sum():.1%}"
            for name, count in zip(names, counts.tolist(), strict=False)
        )
        log.info(
            "%s: %s; %.1f %% without a class", path, told, 100 * counts[IGNORED] / counts.sum()
        )
        offset, scale = self._affine(inputs["train"], len(inputs["train"]))
        splits = {
            part: MaskSplit(
                inputs=inputs[part],
                labels=labels[part],
                size=self.image_size,
                views=self.views,
                offset=offset,
                scale=scale,
            )
            for part in PARTS
        }
        return Data(
            train=splits["train"],
            val=splits["val"],
            test=splits["test"],
            num_classes=len(names),
            input_shape=(3, self.image_size, self.image_size),
            class_names=names,
            file=path.name,
        )

    def _names(self, path: Path, counts: Tensor) -> list[str]:
        found = counts[:IGNORED].nonzero().flatten().tolist()
        if len(found) < 2:
            only = "no class" if not found else f"class {found[0]} alone"
            hint = " (255 stands for none)" if counts[IGNORED] and self.values is None else ""
            raise UserError(
                f"{path}: the masks hold {only}{hint}: there must be two classes; dataset.values "
                "says which numbers are classes, e.g. dataset.values=[0,255]"
            )
        count = max(found) + 1 if self.values is None else len(self.values)
        missing = [label for label in range(count) if not counts[label]]
        if self.values is None and len(missing) > len(found):
            raise UserError(
                f"{path}: the masks hold the numbers {', '.join(map(str, found[:8]))}: set "
                f"dataset.values=[{','.join(map(str, found[:8]))}] to make these the classes"
            )
        if missing:
            log.warning("%s: no pixel is of the classes %s", path, missing)
        if self.class_names is None:
            return [str(value) for value in self.values or range(count)]
        if len(self.class_names) != count:
            raise UserError(
                f"dataset.class_names has {len(self.class_names)} names for {count} classes"
            )
        if len(set(self.class_names)) < count:
            raise UserError(f"dataset.class_names={list(self.class_names)} must be different names")
        return list(self.class_names)


def _checked(values: Sequence[int] | None, binary: bool) -> Sequence[int] | None:
    if values is None:
        return None
    if binary:
        raise UserError("dataset.binary=true makes the classes: set dataset.values to null")
    if not 2 <= len(set(values)) == len(values) or not set(values) <= set(range(256)):
        raise UserError(
            f"dataset.values={list(values)} must be at least two different numbers of 0 to 255"
        )
    return values


class Reader:
    """Reads images and their masks from one place.

    Args:
        place: The folder or archive.
        side: Of the central squares.
    """

    def __init__(self, place: Place, side: int) -> None:
        self.place, self.side = place, side
        self._colours: dict[int, tuple[tuple[int, ...], str]] = {}

    def __call__(self, image: str, mask: str) -> tuple[np.ndarray, np.ndarray]:
        """``[3, side, side]`` and ``[side, side]`` uint8 of one image and its mask.

        Raises:
            UserError: One of them cannot be decoded, or they do not fit each other.
        """
        where = self.place.path
        try:
            content = self.place.read(image)
            pixels = square(content, self.side)
            with Image.open(io.BytesIO(content)) as opened:
                size = ImageOps.exif_transpose(opened).size
        except UNREADABLE as error:
            raise _damaged(where, image, error) from None
        numbers = self._numbers(mask)
        if numbers.shape != size[::-1]:
            raise UserError(
                f"{where}: {image} is {size[0]} x {size[1]} and {mask} is {numbers.shape[1]} x "
                f"{numbers.shape[0]}: they must be of one size"
            )
        short = min(size)
        left, top = (size[0] - short) / 2, (size[1] - short) / 2
        places = (np.arange(self.side) + 0.5) * short / self.side
        rows, columns = (top + places).astype(int), (left + places).astype(int)
        return pixels, numbers[rows[:, None], columns]

    def _numbers(self, mask: str) -> np.ndarray:
        """``[height, width]`` uint8."""
        where = self.place.path
        if PurePosixPath(mask).suffix.lower() in LOSSY:
            raise UserError(
                f"{where}: {mask}: this kind of file changes numbers: save masks as PNG files"
            )
        try:
            content = io.BytesIO(self.place.read(mask))
            with warnings.catch_warnings(action="ignore"), Image.open(content) as opened:
                values = np.asarray(opened)
                palette = opened.getpalette() if opened.mode == "P" else None
        except UNREADABLE as error:
            raise _damaged(where, mask, error) from None
        if values.ndim == 3 and values.shape[2] in (2, 4) and (values[..., -1] == 255).all():
            values = values[..., :-1]
        if values.ndim == 3 and (values == values[..., :1]).all():
            values = values[..., 0]
        if values.ndim == 3:
            raise UserError(
                f"{where}: {mask} has colours (mode {opened.mode}): save one number of 0 to 255 "
                "for each pixel, or a palette"
            )
        with np.errstate(invalid="ignore"):
            numbers = values.astype(np.uint8)
        if not (numbers == values).all():
            raise UserError(
                f"{where}: {mask} has values of {values.min():g} to {values.max():g}: they must "
                "be whole numbers of 0 to 255"
            )
        if palette:
            self._check(mask, numbers, palette)
        return numbers

    def _check(self, mask: str, numbers: np.ndarray, palette: Sequence[int]) -> None:
        """Programs that sort each palette anew give one class another number in each mask."""
        for number in np.unique(numbers).tolist():
            colour = tuple(palette[3 * number : 3 * number + 3])
            known, other = self._colours.setdefault(number, (colour, mask))
            if known != colour:
                raise UserError(
                    f"{self.place.path}: {number} is the colour {known} in {other} and {colour} in "
                    f"{mask}: save all masks with one palette, or without"
                )


def _damaged(where: Path, name: str, error: BaseException) -> UserError:
    return UserError(f"{where}: {name} cannot be decoded ({reason(error)}): remove it")
