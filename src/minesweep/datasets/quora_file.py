"""Reading files of Quora question pairs, the official one and partial ones with a source column."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from minesweep.datasets.encoding import text_of
from minesweep.errors import UserError

REQUIRED = ("question1", "question2", "is_duplicate")
MOST_LINES = 100  # of one row: more means a quote that is never closed
LABELS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}
NO_ID = {"", "-", "na", "n/a", "nan", "none", "null"}


@dataclass
class Rows:
    """The rows of a file, column by column; a column that the file has not is of empty strings.

    Attributes:
        empty: Row numbers of those left out because a question was empty; the header is row 1.
        known: Of each id the text that it names, and the row that did so first.
    """

    question1: list[str] = field(default_factory=list)
    question2: list[str] = field(default_factory=list)
    is_duplicate: list[bool] = field(default_factory=list)
    qid1: list[str] = field(default_factory=list)
    qid2: list[str] = field(default_factory=list)
    source: list[str] = field(default_factory=list)
    empty: list[int] = field(default_factory=list)
    known: dict[str, tuple[str, int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.is_duplicate)

    def questions(self) -> tuple[list[str], np.ndarray]:
        """The distinct questions, and ``[rows, 2]`` which of them each row names.

        Questions are the same where their texts are but for case and white space, or where the
        file gives them the same number.
        """
        names: dict[str, int] = {}
        texts: list[str] = []
        both = np.empty((len(self), 2), dtype=np.int64)
        for column, (questions, numbers) in enumerate(
            ((self.question1, self.qid1), (self.question2, self.qid2))
        ):
            for row, (text, number) in enumerate(zip(questions, numbers, strict=True)):
                text_key, number_key = _key(text), f"\t{number}"
                place = names.get(text_key)
                if place is None and number:
                    place = names.get(number_key)
                if place is None:
                    place = len(texts)
                    texts.append(text)
                names.setdefault(text_key, place)
                if number:
                    names.setdefault(number_key, place)
                both[row, column] = place
        return texts, both


def _key(text: str) -> str:
    return " ".join(text.lower().split())


def read(path: Path) -> Rows:
    """Reads a table of tabs, commas or semicolons, packed (gzip) or not, of UTF-8 or UTF-16.

    A field in quotes with its inner quotes doubled, as a spreadsheet writes it, is unquoted; it
    may go over several lines. Other quotes are text. A row with an empty question is left out
    and counted.

    Raises:
        UserError: A column is missing, a row is broken (with its number), an id names two
            questions, or nothing is left.
    """
    rows = Rows()
    try:
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        text = text_of(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error.reason}") from None
    for number, values in _records(path, text):
        _append(rows, values, number, path)
    if not len(rows):
        raise UserError(f"{path} holds no question pair")
    return rows


def _records(path: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows as mappings, with the number of their first line; the header is row 1."""
    numbered = enumerate(io.StringIO(text, newline="\n"), 1)
    first = next(numbered, (1, ""))[1].rstrip("\n")
    delimiter = max("\t,;", key=first.count)
    header = [_unquoted(name.strip()).strip().lower() for name in first.split(delimiter)]
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        raise UserError(
            f"{path}: row 1 has no column {', '.join(missing)}; its columns are {', '.join(header)}"
        )
    for number, line in numbered:
        if not line.strip():
            continue
        fields = line.rstrip("\n").split(delimiter)
        # Tabs stand in no question as a rule, so that quotes may be text there.
        if len(fields) == len(header) and (delimiter == "\t" or '"' not in line):
            fields = [_unquoted(value) for value in fields]
        else:
            following = (text for _, text in itertools.islice(numbered, MOST_LINES))
            where = f"{path}: row {number}"
            fields = _over_lines(line, following, where, len(header), delimiter)
        yield number, dict(zip(header, fields, strict=True))


def _unquoted(value: str) -> str:
    inner = value[1:-1]
    quoted = len(value) > 1 and value[0] == value[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if quoted else value


def _over_lines(
    line: str, following: Iterator[str], where: str, columns: int, delimiter: str
) -> list[str]:
    """The fields of a record that a quote keeps open over several lines."""
    found = len(line.split(delimiter))
    record = [line]
    while True:
        try:
            fields = next(csv.reader(record, delimiter=delimiter, strict=True))
            break
        except csv.Error as error:
            # Only a field that is still open can be mended by a further line.
            extra = next(following, None) if "end of data" in str(error) else None
            if extra is None:
                raise UserError(
                    f"{where} has {found} columns, not {columns}, and its quotes are broken "
                    f"({error}): a question with a line break or a tab stands in quotes, "
                    "its own quotes doubled"
                ) from None
            record.append(extra)
    if len(fields) != columns:
        raise UserError(f"{where} has {len(fields)} columns, where row 1 names {columns}")
    return fields


def _append(rows: Rows, values: dict[str, str], number: int, path: Path) -> None:
    label = values["is_duplicate"].strip()
    if label.lower() not in LABELS:
        raise UserError(f"{path}: row {number}: is_duplicate is {label[:20]!r}, not 0 or 1")
    first, second = values["question1"].strip(), values["question2"].strip()
    if not first or not second:
        rows.empty.append(number)
        return
    rows.question1.append(first)
    rows.question2.append(second)
    rows.is_duplicate.append(LABELS[label.lower()])
    rows.source.append(values.get("source", "").strip())
    for name, text in (("qid1", first), ("qid2", second)):
        number_of = values.get(name, "").strip()
        if number_of.lower() in NO_ID:
            number_of = ""
        else:
            _check_id(rows, number_of, text, number, path)
        getattr(rows, name).append(number_of)


def _check_id(rows: Rows, name: str, text: str, number: int, path: Path) -> None:
    """An id of two texts would make one question of them."""
    known, first = rows.known.setdefault(name, (_key(text), number))
    if known != _key(text):
        raise UserError(
            f"{path}: row {number}: the question id {name} names {_short(text)}, and in row "
            f"{first} {_short(known)}: an id names one question; without ids, leave qid1 and "
            "qid2 empty"
        )


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
