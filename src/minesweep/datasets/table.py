"""A table of the user's own: rows are examples, numeric columns features, one column the label."""

from __future__ import annotations

import csv
import gzip
import io
import logging
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from minesweep.datasets.arrays import OwnArrays
from minesweep.datasets.base import Data
from minesweep.datasets.encoding import other_kind, text_of
from minesweep.datasets.layout import PARTS
from minesweep.datasets.split_lists import find_lists, split_of
from minesweep.errors import UserError
from minesweep.words import check_word

log = logging.getLogger(__name__)

LABELS = ("label", "class", "target", "y", "category", "species", "variety")
"""Columns that are taken for the label where none is named; the last column otherwise not."""
NUMBERED = ("", "id", "index", "row", "no", "nr")
"""Names of a first column that may only number the rows."""


class Csv(OwnArrays):
    """Rows of a table: numeric columns are the features, one column is the label.

    The columns are separated by commas, semicolons or tabs, with names in the first row or
    without (then they are 1, 2, ...). A folder holds a table for each split, ``train.csv``,
    ``val.csv`` and ``test.csv``; a column can say the split, too. What is not said is dealt.

    Args:
        path: The table, packed (``.gz``) or not, or the folder.
        label: The label's column; None for the one named label, class, target or alike.
        split: The column that says the split: train, val or test; None for none.
        ignore: Columns that are left out.
        **arrays: See :class:`~minesweep.datasets.arrays.OwnArrays`.
    """

    def __init__(
        self,
        path: str,
        *,
        label: str | None = None,
        split: str | None = None,
        ignore: Sequence[str] = (),
        **arrays: Any,
    ) -> None:
        super().__init__(path, **arrays)
        self.label, self.split, self.ignore = label, split, [str(name) for name in ignore]

    def load(self, data_dir: Path) -> Data:
        """Reads the table."""
        path = self.find(data_dir)
        table, given = self._tables(path)
        names = list(table.columns)
        for key, name in (("label", self.label), ("split", self.split)):
            if name is not None:
                check_word(f"dataset.{key}", str(name), names)
        for name in self.ignore:
            check_word("dataset.ignore", name, names)
        label = str(self.label) if self.label is not None else _find_label(path, names)
        if self.split is not None:
            given = _splits(path, table[str(self.split)])
        left_out = {label, str(self.split), *self.ignore}
        features = {name: column for name, column in table.items() if name not in left_out}
        first = str(next(iter(features), ""))
        if _only_numbers_rows(first, features.get(first)):
            log.warning("%s: column %r numbers the rows, and is left out", path, first)
            del features[first]
        if not features:
            raise UserError(f"{path} has no column of features beside {', '.join(left_out)}")
        labels = table[label]
        _check_whole(path, label, labels)
        inputs = np.stack([_numbers(path, str(n), column) for n, column in features.items()], 1)
        return self.data(path, torch.from_numpy(inputs), _plain(labels), given or [""] * len(table))

    def _tables(self, path: Path) -> tuple[pd.DataFrame, list[str]]:
        """One table of all rows, and the split of each where a folder's files say it."""
        if not path.is_dir():
            return read_table(path), []
        files = find_lists(path, sorted(file.relative_to(path) for file in path.iterdir()))
        if "train" not in files:
            raise UserError(f"{path} holds no train.csv (nor a table of a like name)")
        tables = {part: read_table(path / files[part]) for part in PARTS if part in files}
        columns = list(tables["train"].columns)
        for part, table in tables.items():
            if list(table.columns) != columns:
                odd = sorted(set(columns) ^ set(table.columns)) or ["another order"]
                raise UserError(
                    f"{path / files[part]} has other columns than {files['train']}: {odd[0]}"
                )
        whole = pd.concat(list(tables.values()), ignore_index=True)
        return whole, [part for part, table in tables.items() for _ in range(len(table))]


def read_table(path: Path) -> pd.DataFrame:
    """Reads a table; its separator, encoding and decimal sign are found.

    Raises:
        UserError: It cannot be read, or has one column alone.
    """
    try:
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        if kind := other_kind(content):
            raise UserError(f"{path} is {kind}, not a table: save it as CSV text")
        text = text_of(content)
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    first = _first_row(text)
    separator = max(",;\t|", key=first.count)
    if not text.strip():
        raise UserError(f"{path} is empty")
    if not first.count(separator) or "\0" in text:
        raise UserError(
            f"{path} is no table: its first row {first[:40]!r} has one column; separate columns "
            "by commas, semicolons or tabs"
        )
    row = next(csv.reader([first], delimiter=separator, skipinitialspace=True))
    fields = [field.strip(" \"'") for field in row]
    named = sum(map(_is_number, fields)) < max(1, len(fields) - 1)
    if not named:
        log.warning("%s: row 1 is no row of names: columns are 1 to %d", path, len(fields))

    def read(decimal: str) -> pd.DataFrame:
        return pd.read_csv(
            io.StringIO(text),
            sep=separator,
            decimal=decimal,
            header=0 if named else None,
            skipinitialspace=True,
            index_col=False,
        )

    try:
        table = read(".")
        if (
            separator == ";"
            and (other := read(",")).select_dtypes("number").shape[1]
            > (table.select_dtypes("number").shape[1])
        ):
            table = other
        if named:  # as they are written: pandas would tell two of one name apart by numbers
            table.columns = pd.Index([f or c for f, c in zip(fields, table.columns, strict=True)])
        else:
            table.columns = pd.Index([str(number) for number in range(1, len(fields) + 1)])
    except (ValueError, pd.errors.ParserError, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split()).removeprefix("Error tokenizing data. C error: ")
        raise UserError(f"{path} cannot be read as a table: {reason}") from None
    if table.columns.has_duplicates:
        twice = table.columns[table.columns.duplicated()][0]
        raise UserError(f"{path} has two columns named {twice}: give each a name of its own")
    if not len(table):
        raise UserError(f"{path} has no rows below its names")
    return table


def _first_row(text: str) -> str:
    """The first row that holds something; a name in quotes may hold a line's end."""
    first, *rest = text.lstrip("\n").split("\n", 20)
    while first.count('"') % 2 and rest:
        first += "\n" + rest.pop(0)
    return first


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _find_label(path: Path, names: Sequence[str]) -> str:
    found = [name for name in names if name.casefold() in LABELS]
    if len(found) != 1:
        listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
        raise UserError(f"{path}: which column is the label? Set dataset.label to one of {listed}")
    return found[0]


def _only_numbers_rows(name: str, column: pd.Series | None) -> bool:
    """Whether a first column is 0, 1, 2, ...: it would tell the class of sorted rows."""
    plain = name.casefold().removeprefix("unnamed: 0")
    if column is None or plain not in NUMBERED or not pd.api.types.is_numeric_dtype(column):
        return False
    return bool((column.diff().iloc[1:] == 1).all())


def _check_whole(path: Path, name: str, column: pd.Series, left_out: str = "the rows out") -> None:
    missing = np.flatnonzero(column.isna())
    if len(missing):
        raise UserError(
            f"{path}: column {name} has no value in {len(missing)} of {len(column)} rows, first "
            f"in row {missing[0] + 2} (NA, None and null are none): fill them in, or leave "
            f"{left_out}"
        )


def _numbers(path: Path, name: str, column: pd.Series) -> np.ndarray:
    """A column as float32."""
    given = column[column.notna()]
    found = pd.to_numeric(given, errors="coerce")
    bad = found.isna()
    if not bad.any():
        _check_whole(path, name, column, f"the rows, or the column (dataset.ignore=[{name}]), out")
        with np.errstate(over="ignore"):
            values = found.to_numpy(np.float64).astype(np.float32)
        if not np.isfinite(values).all():
            row = int(np.argmin(np.isfinite(values)))
            raise UserError(
                f"{path}: column {name} holds infinite values or numbers above 1e38, first in "
                f"row {row + 2}"
            )
        return values
    row = int(np.argmax(bad.to_numpy()))
    what = "is text" if bad.all() else f"holds {bad.sum()} values that are no numbers"
    raise UserError(
        f"{path}: column {name} {what}, first {str(given.iloc[row])[:20]!r} in row "
        f"{given.index[row] + 2}: write numbers, or leave it out by dataset.ignore=[{name}]"
    )


def _plain(labels: pd.Series) -> np.ndarray:
    """Labels as numbers, or as text without spaces around it."""
    if pd.api.types.is_numeric_dtype(labels):
        return labels.to_numpy()
    return np.array([str(label).strip() for label in labels])


def _splits(path: Path, column: pd.Series) -> list[str]:
    _check_whole(path, str(column.name), column)
    words = {value: split_of(str(value)) for value in column.unique()}
    wrong = [value for value, split in words.items() if split is None]
    if wrong:
        raise UserError(
            f"{path}: column {column.name} says {str(wrong[0])[:20]!r}, not train, val or test"
        )
    return [str(words[value]) for value in column]
