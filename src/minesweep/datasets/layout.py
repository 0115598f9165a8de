"""What the folders around images mean: splits, classes, or something that cannot be told."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from minesweep.errors import UserError

log = logging.getLogger(__name__)

PARTS = ("train", "val", "test")
STEMS = {
    "train": ("train", "entren", "entraîn", "entrain", "treino", "treina", "训练"),
    "val": ("valid", "devel", "验证"),
    "test": ("test", "holdout", "heldout", "prueba", "测试"),
    "eval": ("eval",),
}
"""Beginnings of words that name a split. ``eval`` is the test, or validation beside a test."""
WORDS = {"trn": "train", "val": "val", "dev": "val", "tst": "test"}
"""Whole words that do so, alone or before one of :data:`NEUTRAL`."""
NEUTRAL = {
    *("set", "sets", "data", "dataset", "image", "images", "img", "imgs", "folder", "split"),
    *("list", "files", "file", "names", "paths", "labels", "index", "ids", "annotations"),
}
NO_CLASS = {
    *("image", "images", "img", "imgs", "label", "labels", "mask", "masks", "annotation"),
    *("annotations", "gt", "groundtruth", "segmentation", "segmentations", "jpegs", "pngs"),
}
"""Words of folders that hold images and what is to be seen in them."""
UNLABELLED = ("pred", "unlabel", "sample", "extra", "annotation", "mask", "submission")
"""Beginnings of folders beside splits that hold no class."""


def split_word(name: str) -> tuple[str, frozenset[str]] | None:
    """The split that a folder's or list's name tells, and the other words of the name.

    ``Training``, ``seg_train``, ``train_images`` and ``TrainSet`` all tell ``train``.
    """
    found, others = set(), set()
    for word in words_of(name):
        if split := _split_of(word):
            found.add(split)
        else:
            others.add(word)
    if found == {"train", "val"}:  # trainval: all that is not the test
        found = {"train"}
    return (found.pop(), frozenset(others)) if len(found) == 1 else None


def words_of(name: str) -> list[str]:
    """The words of a name in small letters: ``xTrain_2`` gives ``x`` and ``train``."""
    words = re.findall(r"[A-Z]?[a-zäöüîé]+|[A-Z]+(?![a-z])|[^\W\d_a-zA-Zäöüîé]+", name)
    return [word.casefold() for word in words]


def _split_of(word: str) -> str | None:
    for split, stems in STEMS.items():
        if word.startswith(stems):
            return split
    for short, split in WORDS.items():
        if word.startswith(short) and word.removeprefix(short) in NEUTRAL | {""}:
            return split
    return None


@dataclass
class Layout:
    """What the folders say.

    Attributes:
        classes: The class of each image; an image in no class folder is missing.
        keys: Each image as ``class/file``, as lists name it.
        splits: The split of each image; empty where no folder tells splits.
        loose: Images in no class folder.
    """

    classes: dict[PurePosixPath, str] = field(default_factory=dict)
    keys: dict[PurePosixPath, str] = field(default_factory=dict)
    splits: dict[PurePosixPath, str] = field(default_factory=dict)
    loose: list[PurePosixPath] = field(default_factory=list)

    def add(self, file: PurePosixPath, depth: int, rest: int | None = None) -> None:
        """Takes the folder at ``depth`` for the class; the key goes on at ``rest``."""
        if len(file.parts) < depth + 2:
            self.loose.append(file)
            return
        # A name with a space before or after, or in another Unicode form, is the same name.
        name = class_name(file.parts[depth])
        self.classes[file] = name
        self.keys[file] = "/".join((name, *file.parts[rest or depth + 1 :]))


def class_name(folder: str) -> str:
    """A folder's name as that of a class: normalised, without spaces around, as Unicode."""
    raw = folder.encode(errors="surrogateescape")
    try:
        text = raw.decode()
    except UnicodeDecodeError:  # a name of another time
        text = raw.decode("latin-1")
    return unicodedata.normalize("NFC", text).strip()


def read_layout(path: Path, images: Sequence[PurePosixPath]) -> Layout:
    """Finds the folders of classes, and those of splits above or below them.

    Args:
        path: Where the images lie, for messages.
        images: Their paths in it.

    Raises:
        UserError: Folders that look like splits cannot be told from classes.
    """
    depth = _common_folders(images)
    tops = _children(images, depth)
    if len(tops) > 1 and all(set(words_of(top)) <= NO_CLASS for top in tops):
        raise UserError(
            f"{path}: the folders {_names(tops)} look like images and their annotations: set "
            "dataset.path to a folder that holds a folder for each class"
        )
    splits = _splits(path, tops)
    if splits:
        return _below_splits(path, images, depth, splits)
    layout = Layout()
    inner: dict[str, set[str]] = {}
    for file in images:
        if len(file.parts) > depth + 2:
            inner.setdefault(file.parts[depth], set()).add(file.parts[depth + 1])
    holding = {top: found for top, below in inner.items() if (found := _certain(sorted(below)))}
    if holding:
        return _above_splits(path, images, depth, holding)
    for file in images:
        layout.add(file, depth)
    _tell_alike(path, layout)
    return layout


def _common_folders(images: Sequence[PurePosixPath]) -> int:
    """How many folders all images are in together, above those of the classes."""
    depth = 0
    while len(_children(images, depth)) == 1 and any(len(f.parts) > depth + 2 for f in images):
        depth += 1
    return depth


def _children(images: Iterable[PurePosixPath], depth: int) -> list[str]:
    return sorted({file.parts[depth] for file in images if len(file.parts) > depth + 1})


def _certain(names: Sequence[str]) -> dict[str, str]:
    """The splits of names of which one is for training and one is not; else nothing."""
    words = {name: word for name in names if (word := split_word(name))}
    kinds = {split for split, _ in words.values()}
    rests = {others - NEUTRAL for _, others in words.values()}
    if "train" not in kinds or len(kinds) in (1, 4) or len(rests) > 1:
        return {}
    other = "val" if "test" in kinds else "test"
    return {name: other if split == "eval" else split for name, (split, _) in words.items()}


def _splits(path: Path, tops: Sequence[str]) -> dict[str, str]:
    """The split of each top folder that is one; nothing where all are classes."""
    splits = _certain(tops)
    others = [top for top in tops if top not in splits]
    if splits:
        others = [top for top in others if not _is_unlabelled(top)]
        if not others:
            return splits
        raise UserError(
            f"{path}: folders {_names(splits)} look like splits, and {_names(others)} beside them "
            "do not: put the class folders into train/, val/ and test/, or rename those"
        )
    words = {top: word for top in tops if (word := split_word(top))}
    exact = [top for top, (_, rest) in words.items() if not rest - NEUTRAL]
    if "invalid" in map(str.casefold, tops):
        exact = [top for top in exact if top.casefold() != "valid"]
    kinds = {split for split, _ in words.values()}
    doubtful = len(words) == len(tops) and len(kinds) > 1
    if doubtful or (len(tops) > 1 and any(words[top][0] != "train" for top in exact)):
        named = list(words) if doubtful else exact
        raise UserError(
            f"{path}: it cannot be told whether {_names(named)} are splits or classes: name the "
            "folders of splits train, val and test, with the class folders in them, or rename "
            "these classes"
        )
    if exact and len(tops) > 1:
        log.warning("%s: the folder %s counts as a class", path, exact[0])
    return {}


def _is_unlabelled(name: str) -> bool:
    return any(word.startswith(UNLABELLED) for word in re.findall(r"[a-z]+", name.casefold()))


def _below_splits(
    path: Path, images: Sequence[PurePosixPath], depth: int, splits: Mapping[str, str]
) -> Layout:
    """``train/cat/1.png``, also where each split has more folders above its classes."""
    parts: dict[str, list[PurePosixPath]] = {top: [] for top in splits}
    layout = Layout()
    for file in images:
        if len(file.parts) > depth + 1 and file.parts[depth] in parts:
            parts[file.parts[depth]].append(file)
        else:
            layout.loose.append(file)
    first = next(top for top, split in splits.items() if split == "train")
    start = depth + 1 + _common_folders([_from(file, depth + 1) for file in parts[first]])
    known = set(_children(parts[first], start))
    for top, files in parts.items():
        level = start
        deepest = max(len(file.parts) for file in files) - 2
        for level in range(depth + 1, deepest + 1):
            if known & set(_children(files, level)):
                break
        else:
            level = start
        for file in files:
            layout.add(file, level)
            layout.splits[file] = splits[top]
    if not layout.classes:
        raise UserError(f"{path}: the images of {_names(splits)} lie in no class folders")
    return layout


def _from(file: PurePosixPath, depth: int) -> PurePosixPath:
    return PurePosixPath(*file.parts[depth:])


def _above_splits(
    path: Path,
    images: Sequence[PurePosixPath],
    depth: int,
    holding: Mapping[str, Mapping[str, str]],
) -> Layout:
    """``cat/train/1.png``: the classes lie above the splits."""
    layout = Layout()
    for file in images:
        splits = holding.get(file.parts[depth], {})
        split = splits.get(file.parts[depth + 1]) if len(file.parts) == depth + 3 else None
        if split is None:
            folder, found = next(iter(holding.items()))
            raise UserError(
                f"{path}: the folder {folder} holds the splits {_names(found)}, and {file} does "
                "not fit to that: set dataset.path to the folder that holds the splits"
            )
        layout.add(file, depth, depth + 2)
        layout.splits[file] = split
    return layout


def _tell_alike(path: Path, layout: Layout) -> None:
    """Warns of classes that each hold the same folders, as splits of an unknown name would."""
    inner: dict[str, set[str]] = {}
    for file, key in layout.keys.items():
        folders = key.split("/")[1:-1]
        inner.setdefault(layout.classes[file], set()).update(folders[:1])
    first = next(iter(inner.values()), set())
    if len(inner) > 1 and len(first) > 1 and all(found == first for found in inner.values()):
        log.warning(
            "%s: the folders %s count as classes, though each holds the same folders %s; "
            "if they are splits, name them train, val and test",
            *(path, _names(inner), _names(sorted(first))),
        )


def _names(names: Iterable[str]) -> str:
    """The first few of some names."""
    listed = list(names)
    return ", ".join(listed[:3]) + (" ..." if len(listed) > 3 else "")
