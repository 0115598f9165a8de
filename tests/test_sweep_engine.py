"""The engine: what is done is not done again, what fails stops nobody, what is shared is done once.

Here with a task that trains nothing; ``test_sweep_runs.py`` has trainings, kills and launchers.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig
from sweeping import ROOT, SWEEP, calls, finished_at, plan_of, pretend, write_sweep

from minesweep.config.compose import compose
from minesweep.config.identity import run_folder
from minesweep.errors import UserError
from minesweep.sweeps.progress import Standing, describe, pause
from minesweep.sweeps.spec import Metric
from minesweep.training.folder import RunFolder
from minesweep.units import duration

pytest_plugins = ["sweep_fixtures"]


def test_finished_trials_are_skipped(sweep: Any, runs: Path, tmp_path: Path) -> None:
    path = write_sweep(tmp_path)
    assert len(sweep(path)) == 3
    assert calls(runs) == {"ohem-n64-k48-s0": 1, "ohem-n64-k48-s1": 1, "ohem-n64-k48-s2": 1}
    wider = write_sweep(tmp_path, {"seed": {"values": [2, 3]}})
    assert [trial.label for trial in sweep(wider)] == ["seed=2", "seed=3"]
    assert set(calls(runs).values()) == {1}
    assert len(calls(runs)) == 4


def test_a_failing_trial_is_tried_again_and_stops_nobody(
    sweep: Any, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(tmp_path, {"seed": {"values": [7, 0, 1]}})
    with pytest.raises(UserError, match="1 of 3 trials failed; the same command tries them again"):
        sweep(path, retries=2)
    assert calls(runs) == {"ohem-n64-k48-s7": 3, "ohem-n64-k48-s0": 1, "ohem-n64-k48-s1": 1}
    printed = capsys.readouterr().out
    assert "(seed=7): ValueError: seven" in printed
    assert "[2/3]" in printed


def test_the_tries_of_other_workers_count(sweep: Any, runs: Path, tmp_path: Path) -> None:
    """While this one tries a trial for the first time, others fail with it twice."""

    def task(cfg: DictConfig) -> None:
        if cfg.seed == 7:
            folder = RunFolder(run_folder(cfg))
            folder.path.mkdir(parents=True, exist_ok=True)
            folder.set_status(failures=2)
        pretend(cfg)

    path = write_sweep(tmp_path, {"seed": {"values": [7, 0]}})
    with pytest.raises(UserError, match="1 of 2 trials failed"):
        sweep(path, task=task, worker=True)
    assert calls(runs) == {"ohem-n64-k48-s7": 1, "ohem-n64-k48-s0": 1}
    with pytest.raises(UserError, match="1 of 2 trials failed"):
        sweep(path, worker=True, retries=0)
    assert calls(runs)["ohem-n64-k48-s7"] == 2, "the same command tries it again"


def test_check_runs_nothing_and_tells_the_plan(
    sweep: Any, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(tmp_path)
    sweep(path, check=True)
    assert "grid, 3 trials, 0 finished" in capsys.readouterr().out
    assert calls(runs) == {}
    sweep(path, count=1)
    sweep(path, check=True)
    printed = capsys.readouterr().out
    assert "grid, 3 trials, 1 finished" in printed
    assert "2 to run, about 4 s (from 1 finished trials)" in printed


def test_overrides_hold_for_every_trial_and_win_over_the_file(
    sweep: Any, runs: Path, tmp_path: Path
) -> None:
    path = write_sweep(tmp_path, command=[*SWEEP["command"], "optimizer.lr=0.5"])
    finished = sweep(path, "seed=5", "miner=random_k", "+note=1", check=False)
    assert [trial.folder.name.rpartition("-")[0] for trial in finished] == ["random_k-n64-k48-s5"]
    config = yaml.safe_load((finished[0].folder / "config.yaml").read_text())
    assert config["optimizer"]["lr"] == 0.5
    assert config["note"] == 1


def test_a_trial_is_what_the_command_line_makes_of_its_overrides(
    sweep: Any, tmp_path: Path
) -> None:
    """Values are set on a shared composition; Hydra's own of all overrides must be the same run."""
    axes = {
        "miner": {"values": ["ohem", "random_k"]},
        "objective": {"values": ["l2", "cross_entropy"]},
        "seed": {"value": 0},
        "miner.start": {"value": 0.1},
        "optimizer.lr": {"values": [0.01, "${miner.start}"]},
    }
    path = write_sweep(tmp_path, axes)
    planned = sweep(path)
    assert len(planned) == 8
    for trial, written in zip(planned, plan_of(path), strict=True):
        assert run_folder(compose(trial.overrides)) == trial.folder
        # And the same run as W&B's agent would start, which adds nothing of ours.
        assert run_folder(compose(written)) == trial.folder


@pytest.mark.parametrize(
    ("parameters", "changes", "fixed", "answer"),
    [
        (
            {"miner.kk": {"values": [3]}},
            {},
            (),
            "trial miner.kk=3 seed=0: no key 'miner.kk'; did you mean 'miner.k'?",
        ),
        (
            {"miner": {"values": ["ohme"]}},
            {},
            (),
            "miner=ohme: no such choice; did you mean 'ohem'?",
        ),
        (
            {"miner.k": {"values": [8, 65]}},
            {},
            (),
            "trial miner.k=65 seed=0: miner.k=65 is more than n",
        ),
        ({"seed": {"values": [0, -1]}}, {}, (), "seed=-1 must be a whole number of at least 0"),
        (
            {},
            {"metric": {"name": "val/acuracy"}},
            (),
            "no run logs val/acuracy; did you mean 'val/ac",
        ),
        (
            {},
            {
                "metric": {"name": "test/accuracy"},
                "early_terminate": {"type": "hyperband", "min_iter": 3},
            },
            (),
            "early_terminate cannot follow test/accuracy",
        ),
        ({}, {"method": "random"}, (), "method: random has no end; add run_cap"),
        ({}, {}, ("seed=1,2",), "'seed=1,2' names several values: sweep them in the file"),
        ({}, {}, ("resume=never",), "a sweep goes on where it stopped"),
        ({}, {}, ("sed=1",), "no key 'sed'; did you mean 'seed'?"),
    ],
)
def test_what_only_the_configuration_can_tell(
    sweep: Any,
    runs: Path,
    tmp_path: Path,
    parameters: dict[str, Any],
    changes: dict[str, Any],
    fixed: tuple[str, ...],
    answer: str,
) -> None:
    path = write_sweep(tmp_path, parameters, **changes)
    with pytest.raises(UserError) as error:
        sweep(path, *fixed)
    assert answer in str(error.value)
    assert "\n" not in str(error.value)
    assert calls(runs) == {}


@pytest.mark.parametrize("path", sorted(ROOT.glob("sweeps/*.yaml")), ids=lambda path: path.stem)
def test_each_sweep_of_ours_composes(
    sweep: Any, runs: Path, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (
        range(5) if path.stem in ("rho", "nk_noise") else ()
    ):  # what another sweep has to compute first
        folder = runs / "rho_reference" / f"all-n128-s{seed}-00000000"
        folder.mkdir(parents=True)
        finished = {"state": "finished", "identity": f"{seed}"}
        (folder / "status.json").write_text(json.dumps(finished))
    # What is compared at equal cost is measured first, on data: here on digits, which need no file.
    measured = path.stem in ("does_it_help", "which_miner") or "controlled" in path.stem
    assert sweep(path, *(["dataset=digits"] * measured), check=True) == []
    assert "0 finished" in capsys.readouterr().out


def test_early_terminate_reaches_every_trial(sweep: Any, tmp_path: Path) -> None:
    path = write_sweep(tmp_path, early_terminate={"type": "hyperband", "min_iter": 2, "eta": 2})
    for trial in sweep(path):
        rule = yaml.safe_load((trial.folder / "config.yaml").read_text())["trainer"]
        assert rule["early_terminate"] == {
            "_target_": "minesweep.sweeps.hyperband.Hyperband",
            "metric": "val/accuracy",
            "goal": "maximize",
            "min_iter": 2,
            "eta": 2,
            "strict": False,
        }


def test_a_trial_that_another_process_runs_is_left_for_the_end(
    sweep: Any, runs: Path, tmp_path: Path
) -> None:
    """Seed 0 is locked until all others are done; then its holder dies, and it is ours."""
    path = write_sweep(tmp_path)
    first = run_folder(compose(plan_of(path)[0]))
    folder = RunFolder(first)
    others_done, locked = threading.Event(), threading.Event()

    def hold() -> None:
        with folder.lock():
            locked.set()
            assert others_done.wait(60)

    def task(cfg: DictConfig) -> None:
        pretend(cfg)
        if len(calls(runs)) == 2:
            others_done.set()

    holder = threading.Thread(target=hold)
    holder.start()
    assert locked.wait(60)
    assert len(sweep(path, task=task)) == 3
    holder.join()
    assert set(calls(runs).values()) == {1}
    order = [(f / "calls").stat().st_mtime_ns for f in sorted(runs.glob("tried/ohem*"))]
    by_name = sorted(runs.glob("tried/ohem*"))
    assert by_name[order.index(max(order))] == first


def test_a_signal_stops_the_sweep_and_the_same_command_goes_on(
    sweep: Any, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(tmp_path)
    before = signal.getsignal(signal.SIGTERM)

    def task(cfg: DictConfig) -> None:
        if cfg.seed == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        pretend(cfg)

    with pytest.raises(SystemExit) as stop:
        sweep(path, task=task)
    assert stop.value.code == 143
    assert (
        "stopped with 1 of 3 trials finished; the same command goes on" in capsys.readouterr().out
    )
    assert signal.getsignal(signal.SIGTERM) is before
    assert len(sweep(path)) == 3
    assert set(calls(runs).values()) == {1}


def test_joblib_runs_trials_side_by_side_and_divides_the_cores(
    sweep: Any, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    monkeypatch.setattr("minesweep.sweeps.engine.cores", lambda: 6)
    path = write_sweep(tmp_path, {"seed": {"values": [0, 7, 1, 2]}})
    with pytest.raises(UserError, match="1 of 4 trials failed"):
        sweep(path, launcher="joblib", hydra=("hydra.launcher.n_jobs=2",), jobs=2)
    assert calls(runs)["ohem-n64-k48-s7"] == 2
    assert sum(calls(runs).values()) == 5
    lines = [p.read_text().split() for p in runs.glob("*/*/calls")]
    assert all(words[1] == "3" for words in lines)
    assert all(words[0] != str(os.getpid()) for words in lines)


def test_a_killed_worker_costs_its_trial_alone(
    sweep: Any,
    runs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    monkeypatch.setenv("TESTS_PID", str(os.getpid()))
    path = write_sweep(tmp_path)
    with pytest.raises(UserError, match="1 of 3 trials failed"):
        # Not one job: joblib would then run the trials, and their end, in this very process.
        sweep(path, task=die, launcher="joblib", hydra=("hydra.launcher.n_jobs=2",), jobs=2)
    assert "(seed=1): its process was killed" in capsys.readouterr().out
    assert len(finished_at(runs)) == 2


def die(cfg: DictConfig) -> None:
    if cfg.seed == 1:
        assert os.environ["TESTS_PID"] != str(os.getpid())
        folder = RunFolder(run_folder(cfg))
        folder.prepare(cfg)
        folder.set_status(state="running")
        os.kill(os.getpid(), signal.SIGKILL)
    pretend(cfg)


BAYES = {
    "method": "bayes",
    "parameters": {
        "seed": {"value": 0},
        "optimizer.lr": {"min": 0.0, "max": 0.1},
        "miner": {"values": ["ohem", "random_k"]},
    },
}


def test_bayes_finds_the_best_value_and_survives_a_stop(
    sweep: Any, runs: Path, tmp_path: Path
) -> None:
    pytest.importorskip("optuna")
    path = write_sweep(tmp_path, **BAYES, run_cap=14)  # type: ignore[arg-type]
    stops = iter([False] * 5 + [True] + [False] * 100)

    def task(cfg: DictConfig) -> None:
        if next(stops):
            raise SystemExit(143)
        pretend(cfg)

    with pytest.raises(SystemExit):
        sweep(path, task=task)
    finished = sweep(path, task=task)
    assert len(finished) == 14
    assert [len((t.folder / "calls").read_text().splitlines()) for t in finished] == [1] * 14
    rates = [float(t.label.split("optimizer.lr=")[1].split()[0]) for t in finished]
    assert min(abs(rate - 0.02) for rate in rates) < 0.01
    # A search that is done asks for nothing more, a longer one goes on from it.
    assert len(sweep(path)) == 14
    assert len(sweep(path, count=14)) == 14
    longer = write_sweep(tmp_path, **BAYES, run_cap=16)  # type: ignore[arg-type]
    assert len(sweep(longer)) == 16
    assert len(list(runs.glob("tried/*/calls"))) == 16


def test_looks_at_the_trials_take_a_twentieth_of_the_time_at_most() -> None:
    assert pause(0.001) == 1
    for took in (0.1, 3.0, 40.0):
        assert took / (took + pause(took)) <= 0.05 + 1e-9


def test_the_standing_in_words() -> None:
    standing = Standing(3, 9, 1, 0, 200.0, (0.98765, "ohem-n64"))
    words = describe(standing, Metric("val/accuracy", "maximize"))
    assert words == "1 running, 0 failed, 3 min left; best val/accuracy 0.9877 (ohem-n64)"
    assert [duration(s) for s in (0, 89.6, 5400, 12000)] == [
        "0 s",
        "90 s",
        "1 h 30 min",
        "3 h 20 min",
    ]
