"""Lists of images that say which split each belongs to, in the forms that people write them."""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath, PurePosixPath

from minesweep.datasets.decode import UNREADABLE, Place
from minesweep.datasets.encoding import text_of
from minesweep.datasets.layout import NEUTRAL, split_word, words_of
from minesweep.errors import UserError

log = logging.getLogger(__name__)

SUFFIXES = (".txt", ".lst", ".list", ".csv", ".tsv")
OTHERS = (".json", ".jsonl", ".yaml", ".yml", ".xml", ".mat", ".npy", ".npz", ".pkl", ".parquet")
"""Endings of files that may say splits too, in forms that are not read."""
HEADERS = ("file", "image", "path", "name", "id", "img")
"""Words of a first line that names columns."""


def find_lists(path: object, files: Sequence[PurePath]) -> dict[str, PurePath]:
    """The list of each split among these files, by its name (``train.txt``, ``TestList.csv``).

    Raises:
        UserError: A split has two lists.
    """
    lists: dict[str, PurePath] = {}
    found = {file: word for file in files if (word := split_word(file.stem))}
    kinds = {split for split, _ in found.values()}
    for file, (split, others) in found.items():
        if file.suffix.lower() not in SUFFIXES or others - NEUTRAL:
            continue
        if split == "eval":
            split = "val" if "test" in kinds else "test"
        if split in lists:
            raise UserError(f"{path} has two lists of the {split} split: {lists[split]} and {file}")
        lists[split] = file
    return lists


def check_unread(path: object, files: Iterable[PurePath]) -> None:
    """Raises a UserError if a file seems to say the splits, and is none of the lists.

    Otherwise its test images would be dealt at random, and trained on.
    """
    for file in files:
        words = set(words_of(file.stem)) - (NEUTRAL - {"split"})
        splits = {word for word in words if word.startswith("split") or split_word(word)}
        if splits and splits == words and file.suffix.lower() in SUFFIXES + OTHERS:
            raise UserError(
                f"{path}: {file} seems to say the splits, in a form that is not read: write "
                "train.txt and test.txt with a line for each image, or rename it"
            )


def split_of(word: str) -> str | None:
    """The split that a word in a column or an array's name tells, e.g. ``Training``."""
    found = split_word(word)
    if found is None or found[1] - NEUTRAL:
        return None
    return "test" if found[0] == "eval" else found[0]


def _lines(content: bytes) -> list[str]:
    try:
        text = text_of(content)
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return [line for line in text.splitlines() if line.strip()]


class Names:
    """Finds images by the names that lists give them.

    Args:
        keys: Each image as ``class/file``.
    """

    def __init__(self, keys: Mapping[PurePosixPath, str]) -> None:
        self._files: dict[str, list[PurePosixPath]] = {}
        self._bare: dict[str, list[PurePosixPath]] = {}
        for file, key in keys.items():
            path = PurePosixPath(key)
            for name in (key, str(path.with_suffix(""))):
                self._files.setdefault(name.casefold(), []).append(file)
            for name in (path.name, path.stem):
                self._bare.setdefault(name.casefold(), []).append(file)
        self._keys = keys

    def find(self, line: str) -> list[PurePosixPath]:
        """The images that a line may mean: one, as a rule; none where nothing fits."""
        for name in _readings(line):
            parts = [part for part in PurePosixPath(name).parts if part not in (".", "/")]
            for start in range(len(parts)):
                wanted = "/".join(parts[start:])
                if found := self._files.get(wanted.casefold()):
                    # What is written exactly so comes before another case of letters.
                    exact = [file for file in found if self._keys[file] == wanted]
                    return exact or found
            if len(parts) == 1 and (found := self._bare.get(parts[0].casefold())):
                return found
        return []


def _readings(line: str) -> Iterator[str]:
    """The names that a line may give: as it stands, without what stands behind, or a column."""
    line = line.strip().replace("\\", "/")
    yield line.strip("'\"")
    for cut in (r"[\s,;|]+[^\s,;|/]*$", r"[,;\t].*$", r"\s.*$"):
        yield re.sub(cut, "", line).strip(" '\"")
    for delimiter in ",;\t":
        try:
            for fields in csv.reader([line], delimiter=delimiter):
                yield from (field.strip(" '\"") for field in fields if len(fields) > 1)
        except csv.Error:
            continue


def read_lists(
    place: Place,
    lists: Mapping[str, PurePath],
    keys: Mapping[PurePosixPath, str],
    left_out: Collection[str],
) -> dict[PurePosixPath, str]:
    """The split of each image that a list names.

    Args:
        place: Where the lists lie.
        lists: The list of each split.
        keys: Each image as ``class/file``.
        left_out: Classes whose lines are passed over.

    Raises:
        UserError: Most lines of a list name no image, one names several, or two lists name one.
    """
    names = Names(keys)
    given: dict[PurePosixPath, str] = {}
    for part, file in lists.items():
        where = place.path / file
        try:
            lines = _lines(place.read(str(file)))
        except UNREADABLE as error:
            raise UserError(f"{where} cannot be read: {error}") from None
        lines = [line for line in lines if not line.startswith("#") or names.find(line)]
        if lines and _is_header(lines[0]) and not names.find(lines[0]):
            lines = lines[1:]
        lines = [line for line in lines if _folder(line) not in left_out]
        missing = []
        for line in lines:
            found = names.find(line)
            if len(found) > 1:
                raise UserError(
                    f"{where}: {line.strip()!r} may be {found[0]} or {found[1]}: write the file "
                    "as class/file with its ending"
                )
            if not found:
                missing.append(line.strip())
            elif given.setdefault(found[0], part) != part:
                other = lists[given[found[0]]].name
                raise UserError(f"{place.path}: {found[0]} is both in {other} and in {file.name}")
        if 2 * len(missing) >= len(lines):
            first = f", e.g. {missing[0]!r}" if missing else ""
            example = next(iter(keys.values()))
            raise UserError(
                f"{where}: {len(missing)} of {len(lines)} lines name no image here{first}: "
                f"write lines such as {example}"
            )
        if missing:
            log.warning(
                "%s: left out %d images that are not there, e.g. %s",
                *(where, len(missing), missing[0]),
            )
    return given


def _is_header(line: str) -> bool:
    return bool(re.search("|".join(HEADERS), line.casefold()))


def _folder(line: str) -> str:
    return line.strip(" '\"").removeprefix("./").replace("\\", "/").split("/")[0]
