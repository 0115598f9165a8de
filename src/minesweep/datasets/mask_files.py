"""Which mask belongs to which image, and the splits that folders or lists say."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from minesweep.datasets.decode import Place
from minesweep.datasets.image_files import SUFFIXES, is_system, of_folder
from minesweep.datasets.split_lists import check_unread, find_lists, read_lists, split_of
from minesweep.errors import UserError

log = logging.getLogger(__name__)

IMAGES = ("images", "image", "imgs", "img", "jpegimages", "pngimages")
"""Names of the folder of images in small letters: one's own, Pascal VOC's and Penn-Fudan's."""
MASKS = (
    *("masks", "mask", "segmentationclass", "pedmasks", "labels", "label"),
    *("annotations", "annotation", "gt"),
)
ENDINGS = ("_mask", "_masks", "_gt", "_seg", "_label", "_labels")
"""What may stand behind an image's name in that of its mask."""

Pairs = dict[str, tuple[str, str]]
"""Image and mask by their common path without the two folders and the ending."""


def find_pairs(place: Place) -> tuple[Pairs, dict[str, str]]:
    """The images that have a mask, and the split of each that folders or lists say.

    Raises:
        UserError: There are no two such folders, nothing has a partner, or lists contradict each
            other.
    """
    archive = place.archive
    paths = sorted(map(PurePosixPath, archive.members if archive else of_folder(place.path)))
    files = [path for path in paths if not any(map(is_system, path.parts))]
    pictures = [path for path in files if path.suffix.lower() in SUFFIXES]
    image, mask = (_first(pictures, names) for names in (IMAGES, MASKS))
    if image is None or mask is None:
        there = sorted({path.parts[0] for path in files if len(path.parts) > 1})
        raise UserError(
            f"{place.path} holds {', '.join(there) or 'no folders'}: it must hold images in "
            "images/ and masks of the same names in masks/"
        )
    images = _keyed(pictures, image)
    masks = _without_endings(_keyed(pictures, mask), images)
    for one, other, what in ((images, masks, "image"), (masks, images, "mask")):
        alone = [name for key, name in one.items() if key not in other]
        if len(alone) == len(one):
            raise UserError(
                f"{place.path}: no {what} has a partner: {alone[0]} needs one of the same name in "
                f"{mask if what == 'image' else image}/"
            )
        _tell(place, f"{what}s without a partner", alone)
    pairs = {key: (name, masks[key]) for key, name in images.items() if key in masks}
    held = {path.parent for path in pictures}
    return pairs, _splits(place, pairs, [path for path in files if path.parent not in held])


def _first(pictures: Iterable[PurePosixPath], names: Sequence[str]) -> str | None:
    """The folder of one of these names that holds pictures, as it is written."""
    there = {part.casefold(): part for path in pictures for part in path.parts[:-1]}
    return next((there[name] for name in names if name in there), None)


def _keyed(pictures: Iterable[PurePosixPath], folder: str) -> dict[str, str]:
    """Pictures below a folder, by their path without it and without the ending."""
    found: dict[str, str] = {}
    for path in pictures:
        folders = path.parts[:-1]
        if folder not in folders:
            continue
        place = folders.index(folder)
        # One name may be written in two forms of Unicode.
        key = unicodedata.normalize(
            "NFC", str(PurePosixPath(*folders[:place], *folders[place + 1 :], path.stem))
        )
        if key in found:
            raise UserError(f"{found[key]} and {path} have the same name: remove one of them")
        found[key] = str(path)
    return found


def _without_endings(masks: Mapping[str, str], images: Mapping[str, str]) -> dict[str, str]:
    found = dict(masks)
    for key, name in masks.items():
        for ending in ENDINGS:
            bare = key.removesuffix(ending)
            if key not in images and bare in images and bare not in masks:
                found[bare] = name
                found.pop(key, None)
    return found


def _splits(place: Place, pairs: Pairs, others: Sequence[PurePosixPath]) -> dict[str, str]:
    said = {}
    for key in pairs:
        words = (split_of(part) for part in PurePosixPath(key).parts[:-1])
        if part := next(filter(None, words), None):
            said[key] = part
    if not said:
        # Pascal VOC has lists for other tasks, too, and one of two splits together.
        lists = [path for path in others if path.parent.name == "Segmentation"] or others
        names = {path.stem for path in lists}
        lists = [path for path in lists if path.stem != "trainval" or "train" not in names]
        if found := find_lists(place.path, lists):
            keys = {
                PurePosixPath(image): f"{key}{PurePosixPath(image).suffix}"
                for key, (image, _) in pairs.items()
            }
            given = read_lists(place, found, keys, ())
            by_image = {PurePosixPath(image): key for key, (image, _) in pairs.items()}
            said = {by_image[path]: part for path, part in given.items()}
        else:
            check_unread(place.path, others)
    if said:
        _tell(place, "images in no split", [pairs[key][0] for key in pairs if key not in said])
    return said


def _tell(place: Place, what: str, names: Sequence[str]) -> None:
    if names:
        log.warning("%s: left out %s: %d, e.g. %s", *(place.path, what, len(names)), names[0])
