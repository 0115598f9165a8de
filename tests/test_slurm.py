"""Trials as jobs: a preempted one writes a checkpoint, is requeued, and ends as if undisturbed."""

from __future__ import annotations

import json
import os
import shlex
import signal
import time
from pathlib import Path
from typing import Any

import fake_slurm
import pytest
from conftest import ROOT, on_digits
from documented import commands
from fake_slurm import FIRST
from sweeping import finish, finished_at, journals, start, starts, write_sweep

from minesweep.lease import holder
from minesweep.training.folder import lease_folder, read_json

pytest_plugins = ["sweep_fixtures"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROWS = {"trainer.max_steps": {"value": 400}, "logger.every": {"value": 1}}
ONE = {**ROWS, "seed": {"value": 0}, "trainer.checkpoint_every": {"value": 100_000}}


@pytest.fixture(autouse=True)
def _submitit(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def cluster(monkeypatch: pytest.MonkeyPatch, folder: Path, signals: str = "") -> None:
    for name, value in fake_slurm.install(folder, signals).items():
        monkeypatch.setenv(name, value)


def on_slurm(path: Path, runs: Path, *words: str) -> str:
    return finish(start(path, runs, "--launcher", "submitit_slurm", *words), timeout=850)


def undisturbed(sweep: Any, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    from minesweep.training.run import run

    monkeypatch.setenv("MINESWEEP_RUNS", str(tmp_path / "undisturbed"))
    sweep(path, task=run)
    return journals(tmp_path / "undisturbed")


def test_preempted_jobs_are_requeued_to_the_bit(
    sweep: Any, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No checkpoint is due in a run: each goes on from the one that the signal made it write.

    One job is told before it is to go: by a warning, and with time to go. The other one is requeued
    by Slurm, and then thrown out by a Slurm that requeues none.
    """
    words = {0: ("USR1", "TERM", "USR2"), 1: ("TERM", "PREEMPT", "EVICT")}
    signals = " ".join(f"{FIRST}_{job}:{word}" for job in words for word in words[job])
    cluster(monkeypatch, tmp_path / "slurm", signals=signals)
    path = write_sweep(tmp_path, {**ONE, "seed": {"values": [0, 1]}})
    on_slurm(path, runs, "--jobs", "2")
    assert list(starts(runs).values()) == [4, 4]
    assert len(finished_at(runs)) == 2
    for folder in runs.glob("tried/ohem*"):
        assert "Caught signal" in (folder / "job.log").read_text()
    assert {p.read_text() for p in (tmp_path / "slurm").glob("*.state")} == {"COMPLETED"}
    assert undisturbed(sweep, path, tmp_path, monkeypatch) == journals(runs)


def test_the_example_of_the_documentation(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it stands there, on two short trials of small data."""
    cluster(monkeypatch, tmp_path / "slurm")
    (command,) = (c for c in commands() if "--launcher submitit_slurm --jobs 8" in c)
    _, _, file, *words = shlex.split(command)
    small = ["--count", "2", "dataset=digits", "logger=none", "trainer.max_steps=3"]
    finish(start(ROOT / file, runs, *words, *small), timeout=850)
    (flags,) = (json.loads(p.read_text()) for p in (tmp_path / "slurm").glob("*.flags"))
    asked = {name: flags[name] for name in ("partition", "time", "gpus-per-node", "array")}
    assert asked == {"partition": "gpu", "time": "120", "gpus-per-node": "1", "array": "0-1%2"}
    assert len(list(runs.glob("nk/*/job.log"))) == 2


def test_a_cancelled_job_ends(
    sweep: Any, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm sends the same signal as for a preemption. The job writes a checkpoint, and is gone."""
    cluster(monkeypatch, tmp_path / "slurm", signals=f"{FIRST}_0:SCANCEL")
    path = write_sweep(tmp_path, {**ONE, "seed": {"values": [0, 1]}})
    process = start(path, runs, "--launcher", "submitit_slurm", "--jobs", "2")
    output, _ = process.communicate(timeout=850)
    assert process.returncode == 1
    assert f"its job {FIRST}_0 was cancelled" in output
    assert "1 of 2 trials failed; the same command tries them again" in output
    states = {p.stem: p.read_text() for p in (tmp_path / "slurm").glob("*.state")}
    assert states == {f"{FIRST}_0": "CANCELLED by 1000", f"{FIRST}_1": "COMPLETED"}
    (folder,) = runs.glob("tried/ohem*-s0-*")
    assert read_json(folder / "status.json")["state"] == "interrupted"
    assert list(folder.glob("checkpoints/step-*.pt"))
    on_slurm(path, runs, "--jobs", "2")
    assert sorted(starts(runs).values()) == [1, 2]
    assert undisturbed(sweep, path, tmp_path, monkeypatch) == journals(runs)


def test_a_job_whose_node_fails_is_submitted_again(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster(monkeypatch, tmp_path / "slurm", signals=f"{FIRST}:KILL")
    path = write_sweep(tmp_path, {**ONE, "trainer.checkpoint_every": {"value": 5}})
    on_slurm(path, runs)
    states = {p.stem: p.read_text() for p in (tmp_path / "slurm").glob("*.state")}
    assert states == {str(FIRST): "NODE_FAIL", str(FIRST + 1): "COMPLETED"}
    assert len(finished_at(runs)) == 1


def test_a_job_of_the_local_executor_is_requeued(
    sweep: Any, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_sweep(tmp_path, ONE)
    process = start(path, runs, "--launcher", "submitit_local")
    while not any(journals(runs).values()):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    (folder,) = runs.glob("tried/ohem*")
    found = holder(lease_folder(folder))
    assert found is not None
    os.kill(found.pid, signal.SIGUSR1)
    finish(process)
    assert list(starts(runs).values()) == [2]
    assert undisturbed(sweep, path, tmp_path, monkeypatch) == journals(runs)


def test_a_trial_on_two_nodes(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of torchrun's on each; both are preempted, and meet again."""
    cluster(monkeypatch, tmp_path / "slurm", signals="TERM")
    # A dataset of the tests.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    words = dict(word.split("=") for word in on_digits("mochi"))
    parameters = {name: {"value": value} for name, value in {"miner": "mochi", **words}.items()}
    parameters |= {**ONE, "trainer": {"value": "ddp"}}
    metric = {"name": "val/knn_accuracy", "goal": "maximize"}
    path = write_sweep(tmp_path, parameters, metric=metric)
    on_slurm(path, runs, "hydra.launcher.nodes=2")
    (folder,) = runs.glob("tried/mochi*")
    assert len(json.loads((folder / "summary.json").read_text())) > 3
    assert starts(runs)[folder.name] == 2
    assert {log.name for log in folder.glob("job*.log")} == {"job.log", "job1.log"}
