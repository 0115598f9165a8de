"""Which images there are: folders of classes, on disk or in a zip, and how they are dealt."""

from __future__ import annotations

import hashlib
import logging
import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from minesweep.datasets.decode import Place
from minesweep.datasets.layout import PARTS, Layout, class_name, read_layout
from minesweep.datasets.prepare import deal
from minesweep.datasets.split_lists import check_unread, find_lists, read_lists
from minesweep.errors import UserError

log = logging.getLogger(__name__)

SUFFIXES = {
    *(".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png"),
    *(".pnm", ".ppm", ".tif", ".tiff", ".webp"),
}
SYSTEM = {
    *("__macosx", "@eadir", "@tmp", "#recycle", "$recycle.bin", "lost+found", "__pycache__"),
    "system volume information",
}
"""Folders that file systems and servers make; hidden ones begin with a dot."""
MOST_BYTES = 2 << 30
"""Files of a folder that are more than this together are known by name and size alone."""


@dataclass(frozen=True)
class Listing:
    """The images of a place.

    Attributes:
        place: The folder or archive.
        class_names: Sorted.
        names: Of each split its files, in the order of the place.
        labels: Of each split the class of each file.
        contents: A digest of all files, their names and classes.
    """

    place: Place
    class_names: list[str]
    names: dict[str, list[str]]
    labels: dict[str, list[int]]
    contents: str = ""


def list_images(
    path: Path,
    *,
    val_share: float,
    test_share: float,
    split_seed: int,
    without: Iterable[str] = (),
) -> Listing:
    """Lists a folder or zip that holds a folder for each class, and deals it to three splits.

    The splits are those of folders above or below the class folders, such as ``train``, ``val``
    and ``test`` (:mod:`minesweep.datasets.layout`), or those of lists of images beside them, such
    as ``train.txt`` (:mod:`minesweep.datasets.split_lists`). A split that is not given is dealt,
    a share of each class, by ``split_seed``.

    Args:
        path: The folder or zip.
        val_share: Of the images that are in no given split but ``train``.
        test_share: Of the same.
        split_seed: Fixes what is dealt.
        without: Classes that are left out.

    Raises:
        UserError: There are no images, one class only, splits that cannot be told from classes,
            or lists that contradict each other.
    """
    place, left_out = Place(path), set(without)
    images, lists, others = _files(place)
    layout = read_layout(path, images)
    _tell(path, "images in no class folder", [str(file) for file in layout.loose])
    classes = {file: name for file, name in layout.classes.items() if name not in left_out}
    class_names = sorted(set(classes.values()))
    if len(class_names) < 2:
        raise UserError(
            f"{path} holds {len(class_names)} class folder(s) with images: "
            "there must be two at least, one for each class"
        )
    if place.archive:
        place.archive.check([str(file) for file in classes])
    _tell_of_names(path, layout, class_names)
    given = layout.splits
    if lists and given:
        log.warning("%s: folders say the splits, %s is not read", path, next(iter(lists.values())))
    elif lists:
        keys = {file: layout.keys[file] for file in classes}
        given = read_lists(place, lists, keys, left_out)
    elif not given:
        check_unread(path, others)
    wanted = [given.get(file, "") for file in classes]
    splits = deal(list(classes.values()), wanted, val_share, test_share, split_seed)
    unlisted = [str(file) for file, part in zip(classes, splits, strict=True) if not part]
    _tell(path, "images that no list names", unlisted)
    numbers = {name: number for number, name in enumerate(class_names)}
    names: dict[str, list[str]] = {part: [] for part in PARTS}
    labels: dict[str, list[int]] = {part: [] for part in PARTS}
    for (file, name), part in zip(classes.items(), splits, strict=True):
        if part:
            names[part].append(str(file))
            labels[part].append(numbers[name])
    for part in PARTS:
        if not names[part]:
            raise UserError(f"{path} leaves no images for the {part} split")
    return Listing(place, class_names, names, labels, _contents(place, layout, classes))


def _files(
    place: Place,
) -> tuple[list[PurePosixPath], dict[str, PurePath], list[PurePosixPath]]:
    """All images in the order of their paths, the lists of splits by split, and other files."""
    archive = place.archive
    names = list(archive.members) if archive else of_folder(place.path)
    if archive:
        # Nothing is unpacked, so these could do no harm; but they name no class either.
        outside = sorted(archive.outside)
        _tell(place.path, "entries that point out of the archive", outside)
        if archive.code_page not in ("ascii", "utf-8", "cp437"):
            log.warning("%s: names are in the code page %s", place.path, archive.code_page)
    files: list[PurePosixPath] = []
    system: list[PurePosixPath] = []
    for path in sorted(map(PurePosixPath, names)):
        (system if any(map(is_system, path.parts)) else files).append(path)
    images = [file for file in files if file.suffix.lower() in SUFFIXES]
    hidden = [str(file) for file in system if file.suffix.lower() in SUFFIXES]
    _tell(place.path, "images in hidden folders or those of the system", hidden)
    if not images:
        raise UserError(f"{place.path} holds no images; known are {', '.join(sorted(SUFFIXES))}")
    folders = {file.parent for file in images}
    lists = find_lists(place.path, [file for file in files if file.parent not in folders])
    known = {*images, *lists.values()}
    others = [file for file in files if file not in known]
    _tell(place.path, "files that are no images", [str(file) for file in others])
    return images, lists, others


def is_system(part: str) -> bool:
    """Whether a name is hidden, or of a folder that file systems make."""
    return part.startswith(".") or part.casefold() in SYSTEM


def of_folder(root: Path) -> list[str]:
    """Every file below a folder, links followed."""
    found, seen = [], set()
    for folder, below, names in os.walk(root, followlinks=True, onerror=_refuse):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link to a folder above it
            below.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        below.sort()
        if not names and not below and not is_system(Path(folder).name):
            log.warning("%s: an empty folder, left out", folder)
        found += [Path(folder) / name for name in names]
    lost = [str(path.relative_to(root)) for path in found if not path.is_file()]
    _tell(root, "broken links and pipes", lost)
    return [path.relative_to(root).as_posix() for path in found if path.is_file()]


def _refuse(error: OSError) -> None:
    """A folder that cannot be listed may hold a class."""
    raise UserError(f"{error.filename} cannot be read: {error.strerror}")


def _tell_of_names(path: Path, layout: Layout, class_names: Sequence[str]) -> None:
    """Warns of folders that were taken for one class, and of classes of nearly one name."""
    folders: dict[str, set[str]] = {}
    for file, name in layout.classes.items():
        written = {part for part in file.parts if class_name(part) == name}
        folders.setdefault(name, set()).update(written)
    alike = [name for name, written in folders.items() if len(written) > 1]
    if alike:
        first_two = sorted(folders[alike[0]])[:2]
        log.warning("%s: the folders %r and %r are taken for one class", path, *first_two)
    first: dict[str, str] = {}
    for name in class_names:
        other = first.setdefault(name.casefold(), name)
        if other != name:
            log.warning(
                "%s: %s and %s differ in case alone, and are two classes", path, other, name
            )
            break


def _contents(place: Place, layout: Layout, classes: dict[PurePosixPath, str]) -> str:
    """A digest of the files: names and classes, sizes, and contents where they are not too many."""
    digest = hashlib.sha256()
    archive = place.archive
    sizes = [place.size(str(file)) for file in classes]
    deep = sum(sizes) <= MOST_BYTES
    for (file, name), size in zip(classes.items(), sizes, strict=True):
        digest.update(f"{name}\t{layout.keys[file]}\t{size}".encode(errors="surrogateescape"))
        if archive:
            digest.update(b"%d" % archive.members[str(file)].CRC)
        elif deep:
            try:
                digest.update(b"%d" % zlib.crc32(place.read(str(file))))
            except OSError:
                digest.update(b"unreadable")
    return digest.hexdigest()[:16]


def _tell(where: Path, what: str, names: Sequence[str]) -> None:
    """One warning for all of a kind, with their number and the first of them."""
    if names:
        first = names[0].encode(errors="surrogateescape").decode(errors="replace")
        log.warning("%s: left out %d %s, e.g. %s", where, len(names), what, first)
