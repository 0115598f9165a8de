"""The journal: every whole row survives, whatever happens to the end of the file."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minesweep.tracking.journal import Histogram, Journal, frame, read_rows, revive

ROWS = [
    {"step": 1, "train/loss_batch": 0.1 + 0.2, "lr": 1e-3},
    {"step": 10, "train/loss_batch": 1 / 3, "h": Histogram([1, 0, 2], -1.5, 2.5)},
    {"step": 20, "val/accuracy": 0.9, "name": "ä"},
]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "journal.jsonl"
    writer = Journal(path)
    for row in ROWS:
        writer.write(row)
    writer.close()
    return path


def test_what_was_written_is_read_back_exactly(journal: Path) -> None:
    assert [revive(row) for row in read_rows(journal)] == ROWS


def test_readable_after_truncation_at_any_byte(journal: Path) -> None:
    content = journal.read_bytes()
    ends = [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
    for length in range(len(content) + 1):
        journal.write_bytes(content[:length])
        # The newline itself may be the only byte that is missing.
        whole = sum(end - 1 <= length for end in ends)
        assert [revive(row) for row in read_rows(journal)] == ROWS[:whole]
        assert len(frame(journal)) == whole


@given(junk=st.binary(max_size=60))
@settings(max_examples=60)
def test_junk_is_passed_over(tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
    path = tmp_path_factory.mktemp("junk") / "journal.jsonl"
    path.write_bytes(b'{"step": 1}\n' + junk + b'\n{"step": 2}\n')
    steps = [row.get("step") for row in read_rows(path)]
    assert steps[0] == 1
    assert steps[-1] == 2


def test_a_resume_cuts_back_to_the_checkpoint(journal: Path) -> None:
    offset = len(journal.read_bytes().splitlines(keepends=True)[0])
    writer = Journal(journal, offset)
    writer.write(ROWS[1])
    writer.close()
    assert [row["step"] for row in read_rows(journal)] == [1, 10]
    assert writer.offset == journal.stat().st_size


def test_what_is_not_finite_becomes_null_and_then_nan(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    writer = Journal(path)
    writer.write({"step": 1, "a": math.nan, "b": math.inf})
    writer.write({"step": 2, "a": 1.0, "b": 2.0})
    writer.close()
    assert "NaN" not in path.read_text()
    table = frame(path)
    assert math.isnan(table.a[0])
    assert table.b[1] == 2.0


def test_an_empty_journal_is_an_empty_frame(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").touch()
    assert frame(tmp_path).empty
    assert list(frame(tmp_path).columns) == ["step"]


def test_histogram_edges() -> None:
    assert Histogram([1, 2, 3, 4], 0.0, 2.0).edges == [0.0, 0.5, 1.0, 1.5, 2.0]
