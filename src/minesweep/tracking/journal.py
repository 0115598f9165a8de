"""The journal: one JSON object a line. A kill loses nothing that was written before it."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Histogram:
    """Counts in equal bins between ``low`` and ``high``."""

    counts: list[int]
    low: float
    high: float

    @property
    def edges(self) -> list[float]:
        """The ``len(counts) + 1`` borders of the bins."""
        bins = len(self.counts)
        return [self.low + (self.high - self.low) * place / bins for place in range(bins + 1)]


Row = dict[str, Any]
"""``{"step": 10, "train/loss_batch": 0.3, ...}``; values are numbers or :class:`Histogram`."""


class Journal:
    """Appends rows to a file, each with one unbuffered write.

    The kernel has each row at once, so rows survive ``kill -9``. A kill can cut short only the row
    that is being written, and readers skip such a row.
    """

    def __init__(self, path: Path, offset: int | None = None) -> None:
        """Opens ``path`` for appending, first cutting it back to ``offset`` bytes if given."""
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        if offset is not None:
            os.ftruncate(self._file, offset)
        self.offset = os.lseek(self._file, 0, os.SEEK_END)

    def write(self, row: Row) -> None:
        line = (json.dumps(_plain(row), allow_nan=False) + "\n").encode()
        while line:
            written = os.write(self._file, line)
            self.offset += written
            line = line[written:]

    def close(self) -> None:
        os.close(self._file)


def _plain(value: Any) -> Any:
    if isinstance(value, Histogram):
        return {"counts": value.counts, "low": value.low, "high": value.high}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no NaN
    return value


def read_rows(path: Path | str) -> list[Row]:
    """The rows of a journal. Skips a line that is not a whole JSON object."""
    rows = []
    with Path(path).open("rb") as file:
        for line in file:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                rows.append(row)
    return rows


def revive(row: Row) -> Row:
    """A row as it was logged, with :class:`Histogram` objects for those read from JSON."""
    return {
        key: Histogram(**value) if isinstance(value, dict) and "counts" in value else value
        for key, value in row.items()
    }


def frame(path: Path | str) -> pd.DataFrame:
    """A journal as a data frame: one row a step, one column a metric, absent values NaN.

    Args:
        path: A ``journal.jsonl`` (or ``timing.jsonl``), or the run's folder.
    """
    import pandas as pd

    path = Path(path)
    rows = read_rows(path / "journal.jsonl" if path.is_dir() else path)
    return pd.DataFrame(rows, columns=None if rows else ["step"])
