"""A run from outside: what it draws, how it fails, and what it makes of changed data."""

from __future__ import annotations

import json
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, SMALL, Killed, Train
from test_training import SETTINGS, only_run, results

from minesweep.errors import UserError
from minesweep.seeding import kept_globals
from minesweep.training import run

DRAWN = ["dataset._target_=drawn.DrawnDigits", "model._target_=drawn.DrawnMLP", *SETTINGS]


@pytest.fixture(autouse=True)
def fresh_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No data is taken over from another test; the folder that it is read from."""
    monkeypatch.setattr(run, "_loaded", {})
    monkeypatch.setenv("MINESWEEP_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def test_user_code_that_draws_reproduces_in_a_sweep_too(
    train: Train, runs_dir: Path, kill_at: Callable[[int | None], None], monkeypatch: Any
) -> None:
    train(*DRAWN, "seed=1", "study=alone")
    monkeypatch.setattr(run, "_loaded", {})
    random.seed(5)
    np.random.seed(5)
    train(*DRAWN, "seed=0", "study=sweep")
    kill_at(17)
    with pytest.raises(Killed):
        train(*DRAWN, "seed=1", "study=swept")
    kill_at(None)
    np.random.random(3)
    random.random()
    train(*DRAWN, "seed=1", "study=swept")
    alone, swept = (results(only_run(runs_dir, study)) for study in ("alone", "swept"))
    assert alone == swept
    assert results(only_run(runs_dir, "sweep"))[1] != alone[1]


def test_what_is_drawn_aside_changes_nothing() -> None:
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    with kept_globals():
        random.random()
        np.random.random(7)
    assert (random.random(), np.random.random()) == expected


# --- what fails -----------------------------------------------------------------------------------


def status(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "status.json").read_text())


def test_a_tracker_that_cannot_begin_leaves_the_run_failed(
    train: Train, runs_dir: Path, kill_at: Callable[[int | None], None]
) -> None:
    kill_at(17)
    with pytest.raises(Killed):
        train(*SETTINGS)
    kill_at(None)
    folder = only_run(runs_dir)
    (folder / "tensorboard").write_text("a file where a folder is wanted")
    with pytest.raises(UserError, match="tensorboard"):
        train(*SETTINGS, "logger.tensorboard=true")
    assert status(folder)["state"] == "failed"
    assert "tensorboard" in status(folder)["reason"]
    (folder / "tensorboard").unlink()
    train(*SETTINGS)
    assert status(folder)["state"] == "finished"
    assert status(folder)["reason"] is None


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_without_room_a_run_fails_in_one_line_and_goes_on_later(
    train: Train, runs_dir: Path, kill_at: Callable[[int | None], None]
) -> None:
    train(*SETTINGS, "study=undisturbed")
    kill_at(17)
    with pytest.raises(Killed):
        train(*SETTINGS)
    kill_at(None)
    folder = only_run(runs_dir)
    with (
        files_of_at_most(20_000),
        pytest.raises(UserError, match=r"\.pt cannot be written \(File too large\): free some"),
    ):
        train(*SETTINGS)
    assert not list(folder.rglob("*.part"))
    assert status(folder)["state"] == "failed"
    assert "cannot be written" in status(folder)["reason"]
    train(*SETTINGS)
    assert results(folder) == results(only_run(runs_dir, "undisturbed"))


FULL = """
mount -t tmpfs -o size=1m tmpfs "$1" || exit 77
shift
head -c 750k /dev/zero > "$MINESWEEP_RUNS/filler"
"$@"; echo "full: $?"
cat "$MINESWEEP_RUNS"/single/*/status.json > "$OUT/status.json"
find "$MINESWEEP_RUNS" -name '*.part'
rm "$MINESWEEP_RUNS/filler"
"$@"; echo "room: $?"
cp -r "$MINESWEEP_RUNS" "$OUT/runs"
"""


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs a file system of its own")
def test_a_full_disk_fails_in_one_line_and_goes_on_later(
    train: Train, runs_dir: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [sys.executable, str(ROOT / "src" / "train.py")]
    words = [*SMALL, *SETTINGS, "model.widths=[64]", "trainer.progress=false"]
    done = subprocess.run(
        [*("unshare", "-rm", "sh", "-c", FULL, "sh", str(disk)), *command, *words],
        env={
            "PATH": "/usr/sbin:/sbin:/usr/bin:/bin",
            "MINESWEEP_RUNS": str(disk),
            "OUT": str(tmp_path),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this machine lets nobody mount a file system")
    lines = done.stderr.splitlines()
    assert [line.startswith("minesweep: ") for line in lines] == [True], done.stderr
    assert "No space left on device" in lines[0]
    assert [line for line in done.stdout.splitlines() if ": " in line[:6]] == ["full: 1", "room: 0"]
    assert ".part" not in done.stdout
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "failed"
    train(*words, "study=undisturbed")
    copied = only_run(tmp_path / "runs")
    assert results(copied) == results(only_run(runs_dir, "undisturbed"))


# --- the data -------------------------------------------------------------------------------------


def test_changed_data_is_told_before_a_result_or_a_resume(
    train: Train,
    runs_dir: Path,
    fresh_data: Path,
    kill_at: Callable[[int | None], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = train(*DRAWN)
    kill_at(17)
    with pytest.raises(Killed):
        train(*DRAWN, "study=killed")
    kill_at(None)
    (fresh_data / "more").write_text("0.5")
    monkeypatch.setattr(run, "_loaded", {})
    for study, state in (("single", "finished"), ("killed", "failed")):
        with pytest.raises(UserError, match=r"trained on other data \(.*of other contents\)") as e:
            train(*DRAWN, f"study={study}")
        assert "\n" not in str(e.value)
        assert status(only_run(runs_dir, study))["state"] == state
    (fresh_data / "more").unlink()
    monkeypatch.setattr(run, "_loaded", {})
    assert train(*DRAWN) == first
    train(*DRAWN, "study=killed")
    assert results(only_run(runs_dir, "killed")) == results(only_run(runs_dir))


def test_a_finished_run_is_reported_without_its_data(
    train: Train, runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(*SETTINGS)
    monkeypatch.setattr(run, "_loaded", {})

    def gone(*_: Any) -> None:
        raise UserError("the data has gone")

    monkeypatch.setattr("minesweep.datasets.digits.Digits.load", gone)
    with pytest.warns(UserWarning, match="has gone; so it is not compared"):
        assert train(*SETTINGS) == first


@pytest.mark.parametrize("content", [b"just a text\n", b"", b"\x80\x04N.", b"PK\x03\x04 broken"])
def test_a_file_that_is_no_checkpoint_is_told(content: bytes, train: Train, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"weights\.pt (cannot be read|is not a checkpoint)"):
        train(f"ckpt_path={file}")
