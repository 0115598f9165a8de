"""The engine: what is done is not done again, what fails stops nobody, what is shared is done once.

The logic is tested with a task that trains nothing; real trainings, kills and launchers below.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from minesweep.config.compose import CONF, compose
from minesweep.config.identity import run_folder
from minesweep.errors import UserError
from minesweep.sweeps.engine import Options, run_sweep
from minesweep.sweeps.plan import Trial
from minesweep.sweeps.progress import Standing, describe, duration
from minesweep.sweeps.spec import Metric
from minesweep.training.folder import RunFolder

ROOT = Path(__file__).parents[1]
SWEEP = {
    "program": "src/train.py",
    "method": "grid",
    "metric": {"name": "val/accuracy", "goal": "maximize"},
    "command": ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"],
    "parameters": {
        "study": {"value": "tried"},
        "dataset": {"value": "digits"},
        "logger": {"value": "none"},
        "trainer.batch_size": {"value": 64},
        "trainer.max_steps": {"value": 20},
        "seed": {"values": [0, 1, 2]},
    },
}


def write_sweep(folder: Path, parameters: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A sweep file of three digits trials, with some of it changed."""
    tree = {**SWEEP, **changes, "parameters": {**SWEEP["parameters"], **(parameters or {})}}
    path = folder / "tried.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


# --- with a task that trains nothing ------------------------------------------------------------


def pretend(cfg: DictConfig) -> None:
    """Ends as a training would: finished, failed where the seed is 7, busy under a lock."""
    folder = RunFolder(run_folder(cfg))
    with folder.lock():
        folder.prepare(cfg)
        with (folder.path / "calls").open("a") as calls:
            calls.write(f"{os.getpid()} {cfg.trainer.threads}\n")
        if cfg.seed == 7:
            folder.set_status(state="failed", reason="ValueError: seven")
            raise ValueError("seven")
        value = 1 - (cfg.optimizer.lr - 0.02) ** 2
        (folder.path / "summary.json").write_text(json.dumps({"val/accuracy": value}))
        folder.set_status(state="finished", step=20, max_steps=20, seconds=2.0)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("MINESWEEP_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minesweep.reporting.report", lambda folder: None)
    monkeypatch.setattr("minesweep.reporting.tables.print_report", lambda report: None)


@pytest.fixture
def sweep(runs: Path, no_report: None) -> Iterator[Callable[..., list[Trial]]]:
    """Runs a sweep file in this process through Hydra's own launcher."""

    def run(
        path: Path,
        *fixed: str,
        task: Callable[[DictConfig], Any] = pretend,
        launcher: str = "basic",
        hydra: tuple[str, ...] = (),
        **options: Any,
    ) -> list[Trial]:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            words = [
                "hydra/hydra_logging=none",
                "hydra/job_logging=none",
                f"hydra/launcher={launcher}",
                *hydra,
            ]
            master = loader.load_configuration("train", words, RunMode.MULTIRUN)
            context = HydraContext(config_loader=loader, callbacks=Callbacks())
            launch = (
                Plugins.instance()
                .instantiate_launcher(hydra_context=context, task_function=task, config=master)
                .launch
            )
            return run_sweep(
                Options(str(path), fixed=fixed, **options),
                lambda overrides: loader.load_sweep_config(master, list(overrides)),
                launch,
                launcher,
            )

    yield run
    HydraConfig.instance().cfg = None
    if "joblib" in sys.modules:
        # Its workers would outlive the test, with this test's environment.
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True)


def calls(runs: Path) -> dict[str, int]:
    """How often each run was computed."""
    found = {p.parent.name: len(p.read_text().splitlines()) for p in runs.glob("*/*/calls")}
    return {name.rpartition("-")[0]: count for name, count in found.items()}


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
    finished = sweep(path, "seed=5", "miner=random_k", "+dataset.note=1", check=False)
    assert [trial.folder.name.rpartition("-")[0] for trial in finished] == ["random_k-n64-k48-s5"]
    config = yaml.safe_load((finished[0].folder / "config.yaml").read_text())
    assert config["optimizer"]["lr"] == 0.5
    assert config["dataset"]["note"] == 1


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
        ({"seed": {"values": [0, -1]}}, {}, (), "seed=-1 must be a whole number at least 0"),
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


def plan_of(path: Path) -> list[list[str]]:
    from minesweep.sweeps.spec import read
    from minesweep.sweeps.trials import trials

    return trials(read(path))


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


def test_the_standing_in_words() -> None:
    standing = Standing(3, 1, 0, 200.0, (0.98765, "ohem-n64"))
    words = describe(standing, Metric("val/accuracy", "maximize"))
    assert words == "1 running, 0 failed, 3 min left; best val/accuracy 0.9877 (ohem-n64)"
    assert [duration(s) for s in (0, 89.6, 5400, 12000)] == [
        "0 s",
        "90 s",
        "1 h 30 min",
        "3 h 20 min",
    ]


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


# --- real trainings -----------------------------------------------------------------------------


def start(path: Path, runs: Path, *words: str) -> subprocess.Popen[str]:
    """``python src/sweep.py`` on a file, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "src/sweep.py", str(path), *words],
        cwd=ROOT,
        env={**os.environ, "MINESWEEP_RUNS": str(runs), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return output


def journals(runs: Path) -> dict[str, bytes]:
    return {p.parent.name: p.read_bytes() for p in runs.glob("tried/*/journal.jsonl")}


def finished_at(runs: Path) -> dict[str, int]:
    """When each finished run was finished."""
    return {
        path.parent.name: path.stat().st_mtime_ns
        for path in runs.glob("tried/*/status.json")
        if json.loads(path.read_text())["state"] == "finished"
    }


def starts(runs: Path) -> dict[str, int]:
    """How often each run was begun or gone on with."""
    return {
        path.parent.name: path.read_text().count('"event": "start"')
        for path in runs.glob("tried/*/timing.jsonl")
    }


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
        f"minesweep: {path}: trial seed=a: seed=a must be a whole number at least 0\n"
    )
