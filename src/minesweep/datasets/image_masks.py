"""A folder of your own with images and masks: a class for each pixel."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from minesweep.datasets.base import Batch, Data
from minesweep.datasets.decode import UNREADABLE, Place, square
from minesweep.datasets.image_files import SUFFIXES
from minesweep.datasets.images import ImageDataset, ImageSplit
from minesweep.datasets.layout import PARTS
from minesweep.datasets.views import WHOLE
from minesweep.errors import UserError
from minesweep.seeding import generator

log = logging.getLogger(__name__)

FOLDERS = (("images", "masks"), ("JPEGImages", "SegmentationClass"))
"""Names of the two folders: one's own, and those of Pascal VOC."""
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
    one with a palette, whose places are the classes (Pascal VOC; its two folders are known, too).
    Folders ``train/``, ``val/`` and ``test/`` in both say the splits; else images are dealt by
    ``split_seed``. Images and masks are held in memory, as central squares.

    Args:
        path: The folder, or a zip of it; a relative one is looked for in ``paths.data_dir``.
        stored_size: Side in pixels of what is kept and cropped from; None for one and a half times
            ``image_size``.
        values: The numbers in the masks that are classes, in the order of the classes; all others
            become 255. None where they are 0, 1, 2 ...
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
        class_names: Sequence[str] | None = None,
        val_share: float = 0.1,
        test_share: float = 0.2,
        **image: Any,
    ) -> None:
        super().__init__(**image)
        self.path, self.values, self.class_names = path, values, class_names
        self.stored_size = stored_size or round(1.5 * self.image_size)
        self.shares = {"val": val_share, "test": test_share}
        if val_share + test_share >= 1:
            raise UserError(
                f"dataset.val_share={val_share} and dataset.test_share={test_share} "
                "leave nothing to train on"
            )
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
        pairs = _pairs(place)
        parts = self._split(list(pairs))
        inputs, labels = {}, {}
        for part in PARTS:
            if not parts[part]:
                raise UserError(f"{path} leaves no images for the {part} split")
            read = [_read(place, *pairs[key], self.stored_size) for key in parts[part]]
            inputs[part] = torch.from_numpy(np.stack([image for image, _ in read]))
            labels[part] = torch.from_numpy(np.stack([mask for _, mask in read]))
        return self._data(path, inputs, labels)

    def _split(self, keys: list[str]) -> dict[str, list[str]]:
        """Each image's split: by its folder, else dealt."""
        folders = {key: PurePosixPath(key).parts[0] for key in keys}
        given = {part for part in folders.values() if part in PARTS}
        found = {part: [key for key in keys if folders[key] == part] for part in PARTS}
        rest = found["train"] if given else keys
        order = torch.randperm(len(rest), generator=generator(self.options.split_seed, "split"))
        rest = [rest[place] for place in order.tolist()]
        total = len(rest)
        for part, share in self.shares.items():
            if part not in given:
                count = round(share * total)
                found[part], rest = rest[:count], rest[count:]
        found["train"] = rest[: self.options.limit]
        return found

    def _data(self, path: Path, inputs: dict[str, Tensor], labels: dict[str, Tensor]) -> Data:
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
        return list(self.class_names)


def _pairs(place: Place) -> dict[str, tuple[str, str]]:
    """Image and mask by their common path below the two folders."""
    archive = place.archive
    names = sorted(archive.members) if archive else _below(place.path)
    for folder, masks in FOLDERS:
        held = [_keyed(names, top) for top in (folder, masks)]
        if held[0] and held[1]:
            break
    else:
        there = sorted({name.split("/")[0] for name in names if "/" in name})
        raise UserError(
            f"{place.path} holds {', '.join(there) or 'no folders'}: it must hold images in "
            "images/ and masks of the same names in masks/"
        )
    images, found = held
    for one, other, what in ((images, found, "image"), (found, images, "mask")):
        alone = [name for key, name in one.items() if key not in other]
        if len(alone) == len(one):
            raise UserError(
                f"{place.path}: no {what} has a partner: {alone[0]} needs one of the same name in "
                f"{masks if what == 'image' else folder}/"
            )
        if alone:
            log.warning(
                "%s: %d %ss without a partner are left out, e.g. %s",
                *(place.path, len(alone), what, alone[0]),
            )
    return {key: (name, found[key]) for key, name in images.items() if key in found}


def _below(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def _keyed(names: Sequence[str], top: str) -> dict[str, str]:
    """Images below a folder, by their path in it without the ending."""
    found: dict[str, str] = {}
    for name in names:
        path = PurePosixPath(name)
        hidden = any(part.startswith(".") for part in path.parts)
        if top not in path.parts[:-1] or path.suffix.lower() not in SUFFIXES or hidden:
            continue
        parts = path.parts[path.parts.index(top) + 1 :]
        key = str(PurePosixPath(*parts).with_suffix(""))
        if key in found:
            raise UserError(f"{found[key]} and {name} have the same name: remove one of them")
        found[key] = name
    return found


def _read(place: Place, image: str, mask: str, side: int) -> tuple[np.ndarray, np.ndarray]:
    """``[3, side, side]`` and ``[side, side]`` uint8 of one image and its mask."""
    where = place.path
    try:
        content = place.read(image)
        pixels = square(content, side)
        with Image.open(io.BytesIO(content)) as opened:
            size = ImageOps.exif_transpose(opened).size
    except UNREADABLE as error:
        raise UserError(f"{where}: {image} cannot be decoded ({error}): remove it") from None
    if PurePosixPath(mask).suffix.lower() in LOSSY:
        raise UserError(
            f"{where}: {mask}: this kind of file changes numbers: save masks as PNG files"
        )
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(place.read(mask))) as opened:
            warnings.simplefilter("ignore")
            if opened.mode not in ("1", "L", "P"):
                raise UserError(
                    f"{where}: {mask} has colours or wide numbers (mode {opened.mode}): save one "
                    "number of 0 to 255 for each pixel, or a palette"
                )
            numbers = np.asarray(opened, dtype=np.uint8)
    except UserError:
        raise
    except UNREADABLE as error:
        raise UserError(f"{where}: {mask} cannot be decoded ({error}): remove it") from None
    if numbers.shape != size[::-1]:
        raise UserError(
            f"{where}: {image} is {size[0]} x {size[1]} and {mask} is {numbers.shape[1]} x "
            f"{numbers.shape[0]}: they must be of one size"
        )
    short = min(size)
    left, top = (size[0] - short) / 2, (size[1] - short) / 2
    places = (np.arange(side) + 0.5) * short / side
    rows, columns = (top + places).astype(int), (left + places).astype(int)
    return pixels, numbers[rows[:, None], columns]
