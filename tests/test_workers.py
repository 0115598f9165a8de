"""Workers on one folder, as on several machines: other names, other clocks, no flock."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from sweeping import finish, finished_at, journals, start, starts, write_sweep
from test_lease import silence, started

from minesweep.config.identity import run_folder
from minesweep.errors import UserError
from minesweep.training.folder import RunFolder, lease_folder

pytest_plugins = ["sweep_fixtures"]

MACHINE = """
import errno, fcntl, os, signal, socket, time

def flock(*arguments):
    raise OSError(errno.ENOLCK, "No locks available")

fcntl.flock = fcntl.lockf = flock
socket.gethostname = lambda name=os.environ["MACHINE"]: name

def replace(source, target, *rest, replace=os.replace, **named):
    if os.path.basename(target) == os.environ.get("DIES_AT"):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target, *rest, **named)

os.replace = replace
time.time = lambda now=time.time, ahead=float(os.environ["AHEAD"]): now() + ahead
"""


@pytest.fixture
def worker(tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``worker(file, "b", 600)``: a worker on a machine of that name whose clock is ahead."""
    (tmp_path / "machine").mkdir()
    (tmp_path / "machine" / "sitecustomize.py").write_text(MACHINE)

    def begin(path: Path, name: str, ahead: float = 0.0, *words: str) -> subprocess.Popen[str]:
        with monkeypatch.context() as patch:
            patch.setenv("PYTHONPATH", str(tmp_path / "machine"))
            patch.setenv("MACHINE", name)
            patch.setenv("AHEAD", str(ahead))
            return start(path, runs, "--worker", *words)

    return begin


def kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_workers_share_the_trials(worker: Any, runs: Path, tmp_path: Path) -> None:
    path = write_sweep(tmp_path, {"seed": {"values": [0, 1, 2, 3, 4, 5]}})
    workers = [worker(path, "one"), worker(path, "two", 600), worker(path, "three", -600)]
    outputs = [finish(process) for process in workers]
    assert set(starts(runs).values()) == {1}
    assert len(finished_at(runs)) == 6
    assert not any("tried: mean" in output for output in outputs)  # a report


def test_the_trial_of_a_dead_machine_is_taken_over(
    worker: Any,
    sweep: Any,
    runs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = {"trainer.max_steps": {"value": 40}, "trainer.checkpoint_every": {"value": 10}}
    path = write_sweep(tmp_path, {**steps, "seed": {"values": [0, 1]}})
    monkeypatch.setenv("DIES_AT", "step-00000020.pt")
    first = worker(path, "one")
    first.communicate(timeout=240)
    assert first.returncode == -signal.SIGKILL
    monkeypatch.delenv("DIES_AT")
    (folder,) = (runs / "tried" / name for name in starts(runs))
    sweep(path, check=True)
    told = f"{folder.name}  running      seed=0  (one, process "
    assert told in capsys.readouterr().out, "nobody knows yet"
    silence(lease_folder(folder))
    sweep(path, check=True)
    printed = capsys.readouterr().out
    assert f"{folder.name}  stopped      seed=0  (one, process " in printed
    assert "is dead: no sign for " in printed
    finish(worker(path, "two", 600))
    assert sorted(starts(runs).values()) == [1, 2]
    assert starts(runs)[folder.name] == 2
    assert len(finished_at(runs)) == 2


def test_a_worker_computes_by_itself(runs: Path, tmp_path: Path) -> None:
    process = start(write_sweep(tmp_path), runs, "--worker", "--launcher", "joblib", "--jobs", "2")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output.startswith("minesweep: --worker computes its trials itself")
    assert output.count("\n") == 1


def test_a_trial_that_kills_its_workers_is_left_alone(
    sweep: Any, runs: Path, tmp_path: Path
) -> None:
    """Each of four workers is at a trial before the fifth one, the deadly one, is begun."""
    path = write_sweep(tmp_path, {"seed": {"values": [0, 1, 2, 3, 4]}})
    together = multiprocessing.get_context("fork").Barrier(4)
    waited: list[int] = []

    def task(cfg: Any) -> None:
        folder = RunFolder(run_folder(cfg))
        with folder.lock():
            if cfg.seed == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            if not waited:
                waited.append(together.wait())
            folder.prepare(cfg)
            folder.set_status(state="finished", step=20, max_steps=20, seconds=2.0)

    def work() -> None:
        with pytest.raises(UserError) as caught:
            sweep(path, task=task, worker=True)
        (tmp_path / "end").write_text(str(caught.value))

    workers = [started(work) for _ in range(4)]
    for process in workers:
        process.join()
    assert sorted(process.exitcode or 0 for process in workers) == [-signal.SIGKILL] * 3 + [0]
    assert "1 of 5 trials failed" in (tmp_path / "end").read_text()
    assert len(finished_at(runs)) == 4
    (deadly,) = runs.glob("tried/*-s4-*/status.json")
    assert "3 processes in a row died at it" in json.loads(deadly.read_text())["reason"]
    # The same command tries it again.
    assert len(sweep(path, worker=True)) == 5


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_of_four_workers_three_are_killed(
    worker: Any, sweep: Any, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minesweep.training.run import run

    seeds = {"values": list(range(6))}
    steps = {"trainer.max_steps": {"value": 400}, "trainer.checkpoint_every": {"value": 50}}
    path = write_sweep(
        tmp_path, {**steps, "seed": seeds, "miner": {"values": ["ohem", "random_k"]}}
    )
    luck = random.Random(4)
    workers = [worker(path, name, luck.uniform(-900, 900)) for name in ("a", "b", "c", "d")]
    for number, victim in enumerate(workers[:3], start=1):
        while len(finished_at(runs)) < 2 * number or not starts(runs):
            assert victim.poll() is None, victim.communicate()[0]
            time.sleep(0.01)
        time.sleep(luck.uniform(0, 0.3))
        kill(victim)
    for claims in (runs / "tried" / ".locks").iterdir():
        newest = max(claims.iterdir(), key=lambda claim: int(claim.name))
        if json.loads(newest.read_text())["host"] in "abc" and newest.stat().st_mtime:
            os.utime(newest, (1, 1))
    finish(workers[3])
    again = starts(runs)
    assert len(finished_at(runs)) == 12
    assert sum(again.values()) <= 12 + 3
    assert max(again.values()) <= 4
    monkeypatch.setenv("MINESWEEP_RUNS", str(tmp_path / "alone"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    sweep(path, "trainer.threads=1", task=run)
    assert journals(tmp_path / "alone") == journals(runs)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_workers_race_until_sure(worker: Any, runs: Path, tmp_path: Path) -> None:
    """A round follows from the finished runs, so each worker comes to the same trials."""
    path = write_sweep(tmp_path, {"miner": {"values": ["ohem", "random_k", "all"]}})
    words = ("--until-sure", "--max-seeds", "4", "--care", "0.1")
    workers = [worker(path, name, ahead, *words) for name, ahead in (("a", 0), ("b", 600))]
    for process in workers:
        finish(process)
    assert set(starts(runs).values()) == {1}
    assert starts(runs).keys() == finished_at(runs).keys()
    assert socket.gethostname() not in {
        json.loads(claim.read_text())["host"] for claim in runs.glob("tried/.locks/*/*")
    }
