"""The real `wandb` command, agent and client against the protocol server of wandb_server.py."""

from __future__ import annotations

import math
import random
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wandb_backend import Run, draw, trials
from wandb_commands import COMMAND, register, wandb
from wandb_server import WandbServer

ROOT = Path(__file__).parents[1]

# A trial as short as it can be: it needs wandb alone, so that any version of wandb can run it.
TRIAL = """\
import pathlib, sys, time
import wandb
options = dict(argument.split("=", 1) for argument in sys.argv[1:])
with wandb.init(project="standin", config={"cfg": options}) as run:
    for step in range(1, 6):
        losses = ([step, 0, 64 - step], [0.0, 0.5, 1.0, 1.5])
        row = {"loss": float(options["lr"]) / step}
        run.log(row | {"losses": wandb.Histogram(np_histogram=losses)}, step=step)
    while "until" in options and not pathlib.Path(options["until"]).exists():
        time.sleep(0.02)
    if options.get("outcome") == "breaks":
        raise RuntimeError("this trial breaks")
"""


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    path = tmp_path / "trial.py"
    path.write_text(TRIAL)
    return path


def assert_complete(run: Run, lr: float) -> None:
    """The five rows of TRIAL arrived, with their histograms bin for bin."""
    assert [row["_step"] for row in run.history] == [1, 2, 3, 4, 5]
    assert [row["loss"] for row in run.history] == [lr / step for step in range(1, 6)]
    for step, row in enumerate(run.history, start=1):
        assert row["losses"] == {
            "_type": "histogram",
            "values": [step, 0, 64 - step],
            "bins": [0.0, 0.5, 1.0, 1.5],
        }
    assert run.summary["loss"] == lr / 5
    assert run.summary["losses"] == run.history[-1]["losses"]


def test_run_of_this_process_arrives_and_can_be_resumed(
    wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    for name, value in wandb_server.env().items():
        monkeypatch.setenv(name, value)
    wandb.teardown()  # what another test set up in this process has the settings of then
    described: dict[str, Any] = {"group": "nk", "job_type": "train", "tags": ["digits", "quick"]}
    config = {"cfg": {"miner": {"k": 128}, "hidden": [32, 16], "none": None}, "k": 128}
    histogram = wandb.Histogram(np_histogram=np.histogram([0.0, 0.0, 1.0, 2.0], bins=2))
    with wandb.init(project="minesweep", name="first", config=config, **described) as run:
        run.log({"loss": 0.5, "losses": histogram}, step=10)
        run.log({"loss": math.nan}, step=20)
        run.summary["test/accuracy"] = 0.9
        run_id = run.id
    (arrived,) = wandb_server.runs
    assert (arrived.id, arrived.project, arrived.state) == (run_id, "minesweep", "finished")
    assert arrived.exit_code == 0
    assert arrived.config == config
    assert (arrived.display_name, arrived.group, arrived.job_type) == ("first", "nk", "train")
    assert arrived.tags == ["digits", "quick"]
    assert [row["_step"] for row in arrived.history] == [10, 20]
    assert arrived.history[0]["losses"]["values"] == [2, 2]
    assert arrived.summary["test/accuracy"] == 0.9
    assert b"miner" in arrived.files["config.yaml"]

    with wandb.init(project="minesweep", id=run_id, resume="must") as run:
        assert run.starting_step == 21
        run.log({"loss": 0.25}, step=30)
    assert wandb_server.runs == [arrived]
    assert [row["_step"] for row in arrived.history] == [10, 20, 30]
    assert arrived.config == config
    assert wandb_server.unanswered == []


def test_wandb_sweep_and_agent_end_to_end(
    wandb_server: WandbServer, trial: Path, tmp_path: Path
) -> None:
    parameters = {"lr": {"values": [0.5, 0.25]}, "seed": {"values": [0, 1]}, "n": {"value": 64}}
    path = register(
        wandb_server, tmp_path, {"program": trial.name, "name": "nk", "parameters": parameters}
    )
    (sweep,) = wandb_server.sweeps
    assert sweep.path == path
    assert sweep.config["parameters"] == parameters

    agent = wandb(wandb_server, tmp_path, "agent", path)
    assert agent.returncode == 0, agent.stdout
    assert sweep.state == "FINISHED"
    assert [(run.state, run.exit_code) for run in wandb_server.runs] == [("finished", 0)] * 4
    grid = [(lr, seed) for lr in (0.5, 0.25) for seed in (0, 1)]
    for run, (lr, seed) in zip(wandb_server.runs, grid, strict=True):
        assert run.sweep == sweep.id
        # The agent adds the sweep's own values, typed, beside the script's config.
        assert {key: run.config[key] for key in parameters} == {"lr": lr, "seed": seed, "n": 64}
        assert run.config["cfg"] == {"lr": str(lr), "seed": str(seed), "n": "64"}
        assert_complete(run, lr)
    assert wandb_server.unanswered == []


@pytest.mark.slow
def test_failing_trial_does_not_stop_the_others(
    wandb_server: WandbServer, trial: Path, tmp_path: Path
) -> None:
    parameters = {"lr": {"value": 0.5}, "outcome": {"values": ["good", "breaks", "fine"]}}
    path = register(wandb_server, tmp_path, {"program": trial.name, "parameters": parameters})
    agent = wandb(wandb_server, tmp_path, "agent", path)
    assert "this trial breaks" in agent.stdout
    ends = {r.config["outcome"]: (r.state, r.exit_code) for r in wandb_server.runs}
    assert ends == {"good": ("finished", 0), "breaks": ("failed", 1), "fine": ("finished", 0)}
    for run in wandb_server.runs:
        assert_complete(run, 0.5)


@pytest.mark.slow
def test_new_agent_goes_on_after_a_killed_one(
    wandb_server: WandbServer, trial: Path, tmp_path: Path
) -> None:
    """The killed agent's trial outlives it and finishes; nothing runs twice."""
    gate = tmp_path / "gate"
    path = register(
        wandb_server,
        tmp_path,
        {
            "program": trial.name,
            "command": [*COMMAND, f"until={gate}"],
            "parameters": {"lr": {"values": [1.0, 2.0, 3.0]}},
        },
    )
    with (tmp_path / "agent.txt").open("w") as log:
        agent = subprocess.Popen(
            wandb_server.command("agent", path),
            cwd=tmp_path,
            env=wandb_server.env(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            wandb_server.wait_for(lambda s: [run.state for run in s.runs] == ["running"])
        finally:
            agent.kill()
            agent.wait()
            gate.touch()
    wandb_server.wait_for(lambda s: s.runs[0].state == "finished")
    assert len(wandb_server.runs) == 1

    second = wandb(wandb_server, tmp_path, "agent", path)
    assert second.returncode == 0, second.stdout
    assert [run.state for run in wandb_server.runs] == ["finished"] * 3
    for run, lr in zip(wandb_server.runs, (1.0, 2.0, 3.0), strict=True):
        assert run.config["lr"] == lr
        assert_complete(run, lr)


@pytest.mark.slow
def test_offline_run_is_synced_later(
    wandb_server: WandbServer, trial: Path, tmp_path: Path
) -> None:
    offline = {"WANDB_MODE": "offline", "WANDB_RUN_GROUP": "nk"}
    subprocess.run(
        [sys.executable, trial.name, "lr=0.5"],
        cwd=tmp_path,
        env=wandb_server.env() | offline,
        timeout=60,
        check=True,
    )
    assert wandb_server.runs == []
    (folder,) = wandb_server.folder.glob("runs/wandb/offline-run-*")
    synced = wandb(wandb_server, tmp_path, "sync", str(folder))
    assert synced.returncode == 0, synced.stdout
    (run,) = wandb_server.runs
    assert (run.project, run.group, run.state) == ("standin", "nk", "finished")
    assert run.config == {"cfg": {"lr": "0.5"}}
    assert_complete(run, 0.5)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_lowest_declared_wandb_end_to_end(
    wandb_server: WandbServer, trial: Path, tmp_path: Path
) -> None:
    """The same sweep with the oldest wandb that pyproject.toml allows, in a venv of its own."""
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (lowest,) = (d.removeprefix("wandb>=") for d in dependencies if d.startswith("wandb>="))
    python = str(tmp_path / "venv" / "bin" / "python")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    pip = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--retries", "1", f"wandb=={lowest}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if "connection broken" in pip.stderr:
        pytest.skip("the package index cannot be reached")
    assert pip.returncode == 0, pip.stderr

    parameters = {"lr": {"values": [0.5, 0.25]}}
    config = {"program": trial.name, "parameters": parameters}
    path = register(wandb_server, tmp_path, config, python)
    agent = wandb(wandb_server, tmp_path, "agent", path, python=python)
    assert agent.returncode == 0, agent.stdout
    assert [run.state for run in wandb_server.runs] == ["finished"] * 2
    for run, lr in zip(wandb_server.runs, (0.5, 0.25), strict=True):
        assert f"cli_version: {lowest}".encode() in run.files["config.yaml"]
        assert_complete(run, lr)


def test_server_leaves_no_thread_behind(tmp_path: Path) -> None:
    before = threading.enumerate()
    with WandbServer(tmp_path) as server:
        assert len(threading.enumerate()) == len(before) + 1
        with pytest.raises(TimeoutError, match="not so after"):
            server.wait_for(lambda s: s.runs, timeout=0.01)
    assert threading.enumerate() == before


def test_grid_takes_every_combination_up_to_run_cap() -> None:
    grid = {
        "method": "grid",
        "parameters": {"b": {"values": ["x", "y"]}, "a": {"values": [2, 1]}, "c": {"value": 0}},
    }
    points = list(trials(grid, seed=0))
    assert points == [{"b": b, "a": a, "c": 0} for b in "xy" for a in (2, 1)]
    assert list(trials({**grid, "run_cap": 3}, seed=0)) == points[:3]
    with pytest.raises(ValueError, match="bayes"):
        trials({**grid, "method": "bayes"}, seed=0)


def test_random_draws_stay_in_range_and_repeat_with_the_seed() -> None:
    parameters = {
        "int": {"distribution": "int_uniform", "min": 1, "max": 3},
        "uniform": {"distribution": "uniform", "min": -1.0, "max": 1.0},
        "steps": {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.25},
        "lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1.0},
        "batch": {"distribution": "q_log_uniform_values", "min": 32, "max": 512, "q": 32},
        "noise": {"distribution": "normal", "mu": 10.0, "sigma": 0.1},
        "arm": {"values": ["ohem", "all"], "probabilities": [0.9, 0.1]},
        "n": {"value": 512},
    }
    sweep = {"method": "random", "run_cap": 500, "parameters": parameters}
    points = list(trials(sweep, seed=1))
    assert len(points) == 500
    assert points == list(trials(sweep, seed=1))
    assert points != list(trials(sweep, seed=2))
    column = {name: [point[name] for point in points] for name in parameters}
    assert set(column["int"]) == {1, 2, 3}
    assert -1 <= min(column["uniform"]) < -0.9 < 0.9 < max(column["uniform"]) <= 1
    assert set(column["steps"]) == {0, 0.25, 0.5, 0.75, 1}
    assert 1e-4 <= min(column["lr"]) <= max(column["lr"]) <= 1
    assert 0.4 < sum(lr < 1e-2 for lr in column["lr"]) / 500 < 0.6  # the middle, on a log scale
    assert {batch % 32 for batch in column["batch"]} == {0}
    assert abs(sum(column["noise"]) / 500 - 10) < 0.03
    assert 0.85 < column["arm"].count("ohem") / 500 < 0.95
    assert set(column["n"]) == {512}
    with pytest.raises(ValueError, match="beta"):
        draw({"distribution": "beta"}, random.Random(0))
