"""`wandb sweep` and `wandb agent` on src/train.py: a trial equals the same run started by hand."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from sweeping import finish, start, write_sweep
from wandb_backend import Run, trials
from wandb_commands import COMMAND, register, wandb
from wandb_server import WandbServer

from minesweep.reporting.analyse.report import analyse
from minesweep.tracking.journal import Histogram, read_rows, revive
from minesweep.training.folder import worker

ROOT = Path(__file__).parents[1]
PROGRAM = str(ROOT / "src" / "train.py")
SHORT = [
    "dataset=digits",
    "trainer.max_steps=20",
    "trainer.eval_every=10",
    "trainer.threads=1",
    "logger.every=5",
    "logger.histogram_every=10",
]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the agent's trials are written."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("MINESWEEP_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def train_by_hand(runs: Path, *overrides: str) -> None:
    words = [*SHORT, "logger=none", f"paths.runs_dir={runs}", *overrides]
    subprocess.run(
        [sys.executable, PROGRAM, "-m", *words],
        check=True,
        timeout=180,
    )


def journals(runs: Path) -> dict[str, bytes]:
    """The bytes of each journal, by study and name of the run."""
    found = runs.glob("*/*/journal.jsonl")
    return {str(path.parent.relative_to(runs)): path.read_bytes() for path in found}


def as_sent(value: Any) -> Any:
    """A value of the journal in the form in which W&B gets it."""
    if isinstance(value, Histogram):
        return {"_type": "histogram", "values": value.counts, "bins": value.edges}
    return math.nan if value is None else value


def same(one: Any, other: Any) -> bool:
    return one == other or (one != one and other != other)  # NaN equals NaN here


def assert_journal_arrived(run: Run, journal: Path) -> None:
    """Every row and value of the journal is in the history, and nothing else is."""
    rows = read_rows(journal)
    assert [row["_step"] for row in run.history] == [row["step"] for row in rows]
    assert [row["step"] for row in rows] == [1, 5, 10, 15, 20]
    assert sum("train/loss_selected_histogram" in row for row in rows) >= 2
    for arrived, row in zip(run.history, rows, strict=True):
        written = {name: as_sent(value) for name, value in revive(row).items() if name != "step"}
        further = {"mined"} if row is rows[-1] else set()
        assert arrived.keys() - written.keys() == {"_step", "_runtime", "_timestamp"} | further
        assert {name for name in written if not same(arrived.get(name), written[name])} == set()


def test_trials_of_an_agent_equal_runs_by_hand(
    wandb_server: WandbServer, runs: Path, tmp_path: Path
) -> None:
    config = {
        "program": PROGRAM,
        "project": "minesweep",
        "command": [*COMMAND, *SHORT],
        "parameters": {
            "miner": {"values": ["ohem", "random_k"]},
            "miner.k": {"value": 128},
            "study": {"value": "small"},
        },
    }
    path = register(wandb_server, tmp_path, config)
    agent = wandb(wandb_server, tmp_path, "agent", path)
    assert [run.state for run in wandb_server.runs] == ["finished"] * 2, agent.stdout

    by_hand = tmp_path / "by_hand"
    train_by_hand(by_hand, "miner=ohem,random_k", "miner.k=128", "study=small")
    assert len(journals(runs)) == 2
    assert journals(runs) == journals(by_hand)

    for run, miner in zip(wandb_server.runs, ("ohem", "random_k"), strict=True):
        # The sweep's own entry `miner` must not replace the tree of the run.
        assert run.config["miner"] == run.config["miner_name"] == miner
        assert run.config["cfg"]["miner"]["k"] == run.config["k"] == 128
        assert run.config["n"] == run.config["cfg"]["trainer"]["batch_size"] == 512
        assert run.project == "minesweep"
        (journal,) = runs.glob(f"small/{miner}-*/journal.jsonl")
        assert_journal_arrived(run, journal)
        assert {"test/accuracy", "val/accuracy", "samples/backward"} <= run.summary.keys()
        assert run.group
        assert run.group.startswith("small/")


@pytest.mark.slow
def test_nk_sweep_file_on_digits(wandb_server: WandbServer, runs: Path, tmp_path: Path) -> None:
    """sweeps/nk.yaml as it is, but for fixed overrides and two of its cells."""
    config = yaml.safe_load((ROOT / "sweeps" / "nk.yaml").read_text())
    assert len(list(trials(config, seed=0))) == 7 * 5
    cells = ["nk/n512-k384", "nk/n1024-k1024"]
    assert set(cells) < set(config["parameters"]["experiment"]["values"])
    config["command"] += SHORT
    config["parameters"] |= {"experiment": {"values": cells}, "seed": {"values": [3]}}
    file = tmp_path / "nk.yaml"
    file.write_text(yaml.safe_dump(config))
    # From the project's root: the file names its program from there.
    assert wandb(wandb_server, ROOT, "sweep", str(file)).returncode == 0
    (sweep,) = wandb_server.sweeps
    agent = wandb(wandb_server, ROOT, "agent", sweep.path)
    assert [run.state for run in wandb_server.runs] == ["finished"] * 2, agent.stdout

    by_hand = tmp_path / "by_hand"
    train_by_hand(by_hand, f"experiment={','.join(cells)}", "seed=3", "study=nk")
    assert len(journals(runs)) == 2
    assert journals(runs) == journals(by_hand)
    for run, (n, k) in zip(wandb_server.runs, [(512, 384), (1024, 1024)], strict=True):
        assert (run.config["n"], run.config["k"], run.config["seed"]) == (n, k, 3)
        (journal,) = runs.glob(f"nk/*-n{n}-*/journal.jsonl")
        assert_journal_arrived(run, journal)


@pytest.mark.slow
def test_run_with_a_key_is_online_and_one_without_is_not(
    wandb_server: WandbServer, runs: Path, tmp_path: Path
) -> None:
    command = [sys.executable, PROGRAM, *SHORT]
    online = wandb_server.env()
    subprocess.run([*command, "seed=1"], env=online, cwd=tmp_path, check=True, timeout=180)
    (run,) = wandb_server.runs
    assert (run.state, run.project, run.sweep) == ("finished", "minesweep", None)
    (journal,) = runs.glob("single/*/journal.jsonl")
    assert_journal_arrived(run, journal)

    without_key = {name: value for name, value in online.items() if name != "WANDB_API_KEY"}
    subprocess.run([*command, "seed=2"], env=without_key, cwd=tmp_path, check=True, timeout=180)
    assert len(wandb_server.runs) == 1
    assert len(journals(runs)) == 2


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_killed_trial_of_four_agents_is_given_out_again(
    wandb_server: WandbServer, runs: Path, tmp_path: Path
) -> None:
    """One trial is preempted: another agent gets it, and its W&B run goes on. Another is killed
    outright: agents of a second sweep of the same file find the others finished, and go on."""
    config = {
        "program": PROGRAM,
        "project": "minesweep",
        "command": [*COMMAND, *SHORT, "trainer.max_steps=150", "trainer.checkpoint_every=5"],
        "parameters": {"seed": {"values": [0, 1, 2, 3, 4, 5]}, "study": {"value": "small"}},
    }
    four_agents(wandb_server, register(wandb_server, tmp_path, config), runs, disturb=True)
    states = [run.state for run in wandb_server.runs]
    assert sorted(states) == ["finished"] * 5 + ["running"]  # W&B finds out after five minutes
    assert sorted(starts(runs).values()) == [1] * 5 + [2]
    four_agents(wandb_server, register(wandb_server, tmp_path, config), runs)
    assert [run.state for run in wandb_server.runs[6:]] == ["finished"] * 6
    assert sorted(starts(runs).values()) == [1] * 4 + [2] * 2
    for run in wandb_server.runs[:6]:
        (journal,) = runs.glob(f"small/*-s{run.values['seed']}-*/journal.jsonl")
        if run.state == "finished":
            assert [row["_step"] for row in run.history] == [r["step"] for r in read_rows(journal)]
    by_hand = tmp_path / "by_hand"
    last = [word for word in config["command"] if "=" in word][-2:]
    train_by_hand(by_hand, "seed=0,1,2,3,4,5", "study=small", *last)
    assert journals(runs) == journals(by_hand)


def starts(runs: Path) -> dict[str, int]:
    """How often each run was begun or gone on with."""
    found = runs.glob("*/*/timing.jsonl")
    return {path.parent.name: path.read_text().count('"event": "start"') for path in found}


def four_agents(server: WandbServer, sweep: str, runs: Path, disturb: bool = False) -> None:
    """Runs a sweep's trials; disturbed, the first two at work get a SIGUSR1 and a SIGKILL."""
    agents = [
        subprocess.Popen(
            server.command("agent", sweep),
            cwd=ROOT,
            env=server.env(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(4)
    ]
    numbers = [signal.SIGUSR1, signal.SIGKILL] if disturb else []
    told: set[int] = set()
    while numbers:
        assert any(agent.poll() is None for agent in agents)
        for checkpoint in runs.glob("small/*/checkpoints/step-*.pt"):
            found = worker(checkpoint.parents[1])
            if found and found.alive and found.pid not in told and numbers:
                told.add(found.pid)
                os.kill(found.pid, numbers.pop(0))
        time.sleep(0.02)
    for agent in agents:
        agent.wait(600)


TO_DO = re.compile(r"^  (\S+)-n64\S*-s(\d+)-\w+ +to do", re.MULTILINE)
"""Of the plan that ``--check`` prints: the miner and the seed of a trial that is asked for."""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_agents_add_seeds_until_it_is_sure(
    wandb_server: WandbServer, runs: Path, tmp_path: Path
) -> None:
    """A sweep per round, as docs/concepts/sure.md has it, ends as `--until-sure` alone does."""
    race = {
        "miner": {"values": ["random_k", "ohem"]},
        "optimizer.lr": {"value": 0.01},
        "logger": {"value": "wandb"},
        "trainer.threads": {"value": 1},
    }
    path = write_sweep(tmp_path, race, project="minesweep")
    words = ("--until-sure", "--care", "0.1", "--max-seeds", "6")
    told = finish(start(path, runs, *words, "--budget", "1"))
    assert "stopped: " in told
    assert not journals(runs)
    declared = (runs / "tried" / "until_sure.json").read_bytes()

    rounds = []
    while asked := TO_DO.findall(finish(start(path, runs, *words, "--check"))):
        miners, seeds = (list(dict.fromkeys(column)) for column in zip(*asked, strict=True))
        assert len(asked) == len(miners) * len(seeds), "a round is a grid"
        rounds.append((miners, [int(seed) for seed in seeds]))
        tree = yaml.safe_load(path.read_text())
        tree["parameters"] |= {"miner": {"values": miners}, "seed": {"values": rounds[-1][1]}}
        (tmp_path / "round.yaml").write_text(yaml.safe_dump(tree))
        # From the project's root: the file names its program from there.
        done = wandb(wandb_server, ROOT, "sweep", str(tmp_path / "round.yaml"))
        assert done.returncode == 0, done.stdout
        agent = wandb(wandb_server, ROOT, "agent", wandb_server.sweeps[-1].path, timeout=900)
        assert {run.state for run in wandb_server.runs} == {"finished"}, agent.stdout
        assert len(rounds) <= 2
    assert rounds == [(["random_k", "ohem"], [0, 1, 2, 3, 4]), (["random_k", "ohem"], [5])]
    assert (runs / "tried" / "until_sure.json").read_bytes() == declared
    assert len(wandb_server.runs) == 12

    alone = tmp_path / "alone"
    finish(start(path, alone, *words, "logger=none"))
    assert journals(runs) == journals(alone)
    answers = [analyse(folder / "tried").answers for folder in (runs, alone)]
    pd.testing.assert_frame_equal(*answers)
