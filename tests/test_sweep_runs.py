"""Sweeps of real trainings: killed, shared, stopped, and through launchers of several processes."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from sweeping import finish, finished_at, journals, start, starts, write_sweep

pytest_plugins = ["sweep_fixtures"]


def test_hyperband_stops_a_hopeless_training(sweep: Any, tmp_path: Path) -> None:
    from minesweep.training.run import run

    path = write_sweep(
        tmp_path,
        {
            "seed": {"value": 0},
            "optimizer.lr": {"values": [0.01, 1.0e-7]},
            "trainer.eval_every": {"value": 5},
        },
        early_terminate={"type": "hyperband", "min_iter": 2, "eta": 3},
    )
    good, bad = sweep(path, task=run)
    assert good.status["step"] == 20
    assert bad.status["step"] == 10  # the second validation: its first bracket
    assert bad.status["state"] == "finished"


def test_code_beside_ones_own_configuration(runs: Path, tmp_path: Path) -> None:
    """A miner from outside the repository is found when the sweep is checked."""
    mine = tmp_path / "mine"
    (mine / "miner").mkdir(parents=True)
    (mine / "miner" / "mine.yaml").write_text("_target_: my_miner.Mine\n")
    code = "from minesweep.miners.all import All\n\nclass Mine(All):\n    pass\n"
    (mine / "my_miner.py").write_text(code)
    path = write_sweep(tmp_path, {"miner": {"value": "mine"}})
    output = finish(start(path, runs, "--check", "--config-dir", str(mine)))
    assert "mine-n64" in output


TWELVE = {"seed": {"values": [0, 1, 2, 3]}, "miner": {"values": ["ohem", "random_k", "all"]}}
RANDOM = {
    "seed": {"min": 0, "max": 99},
    "optimizer.lr": {"distribution": "log_uniform_values", "min": 1.0e-4, "max": 0.1},
}


def killed_and_restarted(path: Path, runs: Path, kills: int, luck: random.Random) -> None:
    """Kills the sweep at random moments, starts it again each time, lets the last one finish."""
    previous: dict[str, int] = {}
    for kill in range(kills):
        process = start(path, runs)
        goal = luck.randint(2 * kill, 2 * kill + 2)
        deadline = time.monotonic() + 120
        while len(finished_at(runs)) < goal or not starts(runs):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(luck.uniform(0, 0.2))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        before = finished_at(runs)
        assert len(before) < 12
        assert previous.items() <= before.items(), "a finished trial was computed again"
        previous = before
    finish(start(path, runs))
    assert previous.items() <= finished_at(runs).items()
    assert len(finished_at(runs)) == 12


def check_kills(
    sweep: Any, runs: Path, tmp_path: Path, path: Path, kills: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minesweep.training.run import run

    killed = tmp_path / "killed"
    killed_and_restarted(path, killed, kills, random.Random(kills))
    again = starts(killed)
    assert sum(again.values()) <= 12 + kills
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert len(sweep(path, "trainer.threads=1", task=run)) == 12
    assert journals(killed) == journals(runs)


def test_a_killed_grid_loses_nothing(
    sweep: Any, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_sweep(tmp_path, {**TWELVE, "trainer.checkpoint_every": {"value": 5}})
    check_kills(sweep, runs, tmp_path, path, 1, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("method", ["grid", "random"])
def test_five_kills(
    sweep: Any, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    parameters = {
        **(TWELVE if method == "grid" else RANDOM),
        "trainer.checkpoint_every": {"value": 5},
    }
    path = write_sweep(tmp_path, parameters, method=method, run_cap=12)
    check_kills(sweep, runs, tmp_path, path, 5, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_share_a_sweep(runs: Path, tmp_path: Path) -> None:
    path = write_sweep(tmp_path, TWELVE)
    first, second = start(path, runs), start(path, runs)
    finish(first), finish(second)
    assert starts(runs) == dict.fromkeys(starts(runs), 1)
    assert len(finished_at(runs)) == 12


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_launchers_of_several_processes(runs: Path, tmp_path: Path, launcher: str) -> None:
    package = launcher.removesuffix("_local")
    pytest.importorskip(f"hydra_plugins.hydra_{package}_launcher")
    output = finish(start(write_sweep(tmp_path), runs, "--launcher", launcher, "--jobs", "2"))
    assert "tried: mean" in output
    assert len(finished_at(runs)) == 3


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_stopped_joblib_sweep_writes_its_checkpoints(runs: Path, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    path = write_sweep(
        tmp_path,
        {
            "trainer.max_steps": {"value": 100_000},
            "trainer.checkpoint_every": {"value": 100_000},
            "seed": {"values": [0, 1]},
        },
    )
    process = start(path, runs, "--launcher", "joblib", "--jobs", "2")
    while len(journals(runs)) < 2 or not all(journals(runs).values()):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "stopped with 0 of 2 trials finished" in output
    for status in runs.glob("tried/*/status.json"):
        assert json.loads(status.read_text())["state"] == "interrupted"
        assert list((status.parent / "checkpoints").glob("*.pt"))


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--jobs", "2"], "minesweep: --jobs needs a launcher of several processes"),
        (["digits"], "minesweep: 'digits' is no override"),
        (["--retries", "-1"], "minesweep: --retries -1 must be at least 0"),
    ],
)
def test_wrong_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], answer: str
) -> None:
    process = start(write_sweep(tmp_path), tmp_path, *words)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output.startswith(answer)
    assert output.count("\n") == 1


def test_a_wrong_file_is_one_line_and_status_1(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, {"seed": {"values": [0, "a"]}})
    process = start(path, tmp_path / "runs")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output == (
        f"minesweep: {path}: trial seed=a: seed=a must be a whole number of at least 0\n"
    )
