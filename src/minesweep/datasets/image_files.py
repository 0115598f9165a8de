"""Which images there are: folders of classes, on disk or in a zip, and how they are dealt."""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch

from minesweep.datasets.decode import Place
from minesweep.errors import UserError
from minesweep.seeding import generator

log = logging.getLogger(__name__)

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
PARTS = ("train", "val", "test")
SPELLINGS = {"validation": "val", "valid": "val"} | {part: part for part in PARTS}


@dataclass(frozen=True)
class Listing:
    """The images of a place.

    Attributes:
        place: The folder or archive.
        class_names: Sorted.
        names: Of each split its files, in the order of the place.
        labels: Of each split the class of each file.
    """

    place: Place
    class_names: list[str]
    names: dict[str, list[str]]
    labels: dict[str, list[int]]


def list_images(
    path: Path,
    *,
    val_share: float,
    test_share: float,
    split_seed: int,
    without: Iterable[str] = (),
) -> Listing:
    """Lists a folder or zip that holds a folder for each class, and deals it to three splits.

    The splits are those of ``train.txt``, ``val.txt`` and ``test.txt`` (lines of
    ``class/file``) beside the class folders, or those of folders ``train``, ``val`` and ``test``
    above them. A split that is not given is dealt, a share of each class, by ``split_seed``.

    Args:
        path: The folder or zip.
        val_share: Of the images that are in no given split but ``train``.
        test_share: Of the same.
        split_seed: Fixes what is dealt.
        without: Classes that are left out.

    Raises:
        UserError: There are no images, one class only, or lists that contradict each other.
    """
    place = Place(path)
    files, lists = _files(place)
    images = [file for file in files if file.suffix.lower() in SUFFIXES]
    others = [str(file) for file in files if file.suffix.lower() not in SUFFIXES]
    _tell(path, "files that are no images", others)
    if not images:
        raise UserError(f"{path} holds no images; known are {', '.join(sorted(SUFFIXES))}")
    depth = _common_folders(images)
    given = _folders_of_splits(images, depth)
    depth += bool(given)
    loose = [file for file in images if len(file.parts) < depth + 2]
    _tell(path, "images in no class folder", [str(file) for file in loose])
    images = [file for file in images if len(file.parts) >= depth + 2]
    left_out = set(without)
    images = [file for file in images if file.parts[depth] not in left_out]
    class_names = sorted({file.parts[depth] for file in images})
    if len(class_names) < 2:
        raise UserError(
            f"{path} holds {len(class_names)} class folder(s) with images: "
            "there must be two at least, one for each class"
        )
    keys = {file: "/".join(file.parts[depth:]) for file in images}
    if lists and not given:
        given = _listed(place, lists, keys, left_out)
    classes = [file.parts[depth] for file in images]
    splits = _deal(images, classes, given, val_share, test_share, split_seed)
    unlisted = [str(file) for file, part in zip(images, splits, strict=True) if not part]
    _tell(path, "images that no list names", unlisted)
    numbers = {name: number for number, name in enumerate(class_names)}
    names: dict[str, list[str]] = {part: [] for part in PARTS}
    labels: dict[str, list[int]] = {part: [] for part in PARTS}
    for file, name, part in zip(images, classes, splits, strict=True):
        if not part:
            continue
        names[part].append(str(file))
        labels[part].append(numbers[name])
    for part in PARTS:
        if not names[part]:
            raise UserError(f"{path} leaves no images for the {part} split")
    return Listing(place, class_names, names, labels)


def _files(place: Place) -> tuple[list[PurePosixPath], dict[str, PurePosixPath]]:
    """All files but hidden ones, sorted; and the lists of splits among them, by split."""
    names = _of_folder(place.path) if place.path.is_dir() else _of_zip(place.path)
    files = sorted(
        path
        for path in map(PurePosixPath, names)
        if not any(part.startswith((".", "__MACOSX")) for part in path.parts)
    )
    lists = {
        SPELLINGS[file.stem]: file
        for file in files
        if file.suffix == ".txt" and file.stem in SPELLINGS and len(file.parts) <= 2
    }
    return [file for file in files if file not in lists.values()], lists


def _of_folder(root: Path) -> list[str]:
    found, seen = [], set()
    for folder, below, files in os.walk(root, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link to a folder above it
            below.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        below.sort()
        if not files and not below:
            log.warning("%s: an empty folder, left out", folder)
        found += [(Path(folder) / file).relative_to(root).as_posix() for file in files]
    return found


def _of_zip(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{path} cannot be read as a zip archive: {error}") from error
    # Nothing is unpacked, so these could do no harm; but they name no class either.
    unsafe = {name for name in names if name.startswith("/") or ".." in PurePosixPath(name).parts}
    _tell(path, "entries that point out of the archive", sorted(unsafe))
    return [name for name in names if name not in unsafe]


def _common_folders(images: Sequence[PurePosixPath]) -> int:
    """How many folders all images are in together, above those of the classes."""
    depth = 0
    while (
        len({file.parts[depth] for file in images if len(file.parts) > depth + 1}) == 1
        and sum(len(file.parts) > depth + 2 for file in images) > 0
    ):
        depth += 1
    return depth


def _folders_of_splits(images: Sequence[PurePosixPath], depth: int) -> dict[PurePosixPath, str]:
    """The split of each image where folders say it; nothing where they do not."""
    tops = {file.parts[depth] for file in images if len(file.parts) > depth + 1}
    if "train" not in tops or not tops <= SPELLINGS.keys():
        return {}
    return {file: SPELLINGS[file.parts[depth]] for file in images if len(file.parts) > depth + 1}


def _listed(
    place: Place,
    lists: dict[str, PurePosixPath],
    keys: dict[PurePosixPath, str],
    left_out: set[str],
) -> dict[PurePosixPath, str]:
    """The split of each image that a list names."""
    files = {key: file for file, key in keys.items()}
    given: dict[PurePosixPath, str] = {}
    for part, file in lists.items():
        lines = [line.strip() for line in place.read(str(file)).decode("utf-8").splitlines()]
        wanted = [line for line in lines if line and line.split("/")[0] not in left_out]
        _tell(place.path / file, "images that are not there", [w for w in wanted if w not in files])
        for image in (files[name] for name in wanted if name in files):
            if given.setdefault(image, part) != part:
                raise UserError(
                    f"{place.path}: {image} is both in {given[image]}.txt and in {part}.txt"
                )
    return given


def _deal(
    images: Sequence[PurePosixPath],
    classes: Sequence[str],
    given: dict[PurePosixPath, str],
    val_share: float,
    test_share: float,
    split_seed: int,
) -> list[str]:
    """The split of each image: as given, else dealt by shares of each class.

    What is given as ``train``, or all that is left where that is not given, is dealt on to the
    splits that are not given. Where ``train`` is given, an image given to no split is in none.
    """
    shares = {"val": val_share, "test": test_share}
    shares = {part: share for part, share in shares.items() if part not in given.values()}
    rest = "" if "train" in given.values() else "train"
    splits = [given.get(file, rest) for file in images]
    free: dict[str, list[int]] = {}
    for row, (name, part) in enumerate(zip(classes, splits, strict=True)):
        if part == "train":
            free.setdefault(name, []).append(row)
    for name, rows in free.items():
        # A class of its own generator: another class more or less changes nothing here.
        order = torch.randperm(len(rows), generator=generator(split_seed, f"split/{name}"))
        turn = iter(order.tolist())
        for part, share in shares.items():
            for _ in range(round(share * len(rows))):
                splits[rows[next(turn)]] = part
    return splits


def _tell(where: Path, what: str, names: Sequence[str]) -> None:
    """One warning for all of a kind, with their number and the first of them."""
    if names:
        log.warning("%s: left out %d %s, e.g. %s", where, len(names), what, names[0])
