"""The values of one metric in a run's journal, read while the run still writes it."""

from __future__ import annotations

import json
import math
from pathlib import Path


class History:
    """Follows one metric of one journal; each read parses only what was added since.

    Args:
        folder: The run's folder.
        metric: A metric of the journal. A row without it is skipped, null is NaN.
    """

    def __init__(self, folder: Path, metric: str) -> None:
        self._path = folder / "journal.jsonl"
        self._metric = metric
        self._needle = f'"{metric}":'.encode()
        self._offset = 0
        self._values: dict[int, float] = {}

    def read(self) -> dict[int, float]:
        """All values so far by step, in the order of the steps."""
        try:
            with self._path.open("rb") as file:
                if file.seek(0, 2) < self._offset:
                    # The run was resumed and its journal cut back to a checkpoint.
                    self._offset, self._values = 0, {}
                file.seek(self._offset)
                added = file.read()
        except OSError:
            return dict(self._values)
        # The last line may be half written: it is read when its end is there.
        whole, newline, _ = added.rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        for line in whole.splitlines():
            if self._needle in line:
                self._add(line)
        return dict(self._values)

    def _add(self, line: bytes) -> None:
        try:
            row = json.loads(line)
        except ValueError:
            return
        value = row.get(self._metric)
        if value is None or isinstance(value, int | float):
            self._values[int(row["step"])] = math.nan if value is None else float(value)
