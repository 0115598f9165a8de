"""``--until-sure`` with trainings: killed at random moments, and shared by two processes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from sweeping import finish, finished_at, journals, start, starts, write_sweep

RACE = {
    "miner": {"values": ["random_k", "ohem"]},
    "trainer.max_steps": {"value": 30},
    "trainer.checkpoint_every": {"value": 10},
    "optimizer.lr": {"value": 0.01},
}
WORDS = ("--until-sure", "--care", "3", "--max-seeds", "6", "trainer.threads=1")


def outcome(runs: Path) -> dict[str, object]:
    """The declared looks, each run to the bit, and the answers of the report."""
    from minesweep.reporting.analyse.report import analyse

    report = analyse(runs / "tried")
    return {
        "declared": json.loads((runs / "tried" / "until_sure.json").read_text()),
        "journals": journals(runs),
        "answers": report.answers.to_csv(),
        "headline": report.headline,
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What one process finds that nobody stops."""
    folder = tmp_path_factory.mktemp("undisturbed")
    finish(start(write_sweep(folder, RACE), folder / "runs", *WORDS))
    return outcome(folder / "runs")


def kill_at_random(path: Path, runs: Path, kills: int, luck: random.Random) -> None:
    """Ends the sweep with SIGKILL, each time after another while; a finished run stays."""
    previous: dict[str, int] = {}
    for _ in range(kills):
        process = start(path, runs, *WORDS)
        goal = len(previous) + luck.randint(0, 2)
        while len(finished_at(runs)) < goal or not starts(runs):
            if process.poll() is not None:
                break
            time.sleep(0.01)
        time.sleep(luck.uniform(0, 0.3))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        before = finished_at(runs)
        assert previous.items() <= before.items(), "a finished trial was computed again"
        previous = before


@pytest.mark.timeout(300)
def test_a_killed_race_ends_as_an_undisturbed_one(
    tmp_path: Path, undisturbed: dict[str, object]
) -> None:
    path, runs = write_sweep(tmp_path, RACE), tmp_path / "runs"
    kill_at_random(path, runs, 1, random.Random(0))
    finish(start(path, runs, *WORDS))
    assert outcome(runs) == undisturbed


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_kills(tmp_path: Path, undisturbed: dict[str, object]) -> None:
    path, runs = write_sweep(tmp_path, RACE), tmp_path / "runs"
    kill_at_random(path, runs, 10, random.Random(10))
    finish(start(path, runs, *WORDS))
    assert outcome(runs) == undisturbed


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_race_as_one(tmp_path: Path, undisturbed: dict[str, object]) -> None:
    path, runs = write_sweep(tmp_path, RACE), tmp_path / "runs"
    first, second = start(path, runs, *WORDS), start(path, runs, *WORDS)
    finish(first), finish(second)
    assert outcome(runs) == undisturbed
    assert starts(runs) == dict.fromkeys(starts(runs), 1)
    shutil.rmtree(runs)
