"""A study's headline at W&B: what the real client sends from the report of runs that are there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Train
from wandb_backend import Run
from wandb_server import WandbServer

sys.path.insert(0, str(ROOT / "src"))

import report as command

ARMS = ("miner=random_k", "miner=ohem")


@pytest.fixture(autouse=True)
def online(wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in wandb_server.env().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def study(train: Train, runs_dir: Path) -> Path:
    """Two arms at one seed, whose runs are at W&B."""
    for arm in ARMS:
        train(arm, "logger=wandb", "study=raced")
    return runs_dir / "raced"


def reports(server: WandbServer) -> list[Run]:
    return [run for run in server.runs if run.job_type == "report"]


def answer_of(study: Path) -> str:
    """The first line in bold of the local report."""
    return (study / "report" / "report.md").read_text().split("**")[1]


def test_the_headline_goes_to_one_run_beside_those_of_the_study(
    study: Path, train: Train, wandb_server: WandbServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([str(study)]) == 0
    (run,) = reports(wandb_server)
    assert (run.project, run.entity, run.group) == ("minesweep", "tester", "raced")
    assert (run.display_name, run.state) == ("report of raced", "finished")
    assert run.summary["headline"].replace("[", "\\[").replace("]", "\\]") == answer_of(study)
    (answer,) = (run.summary[key] for key in run.summary if key.startswith("answer/"))
    assert answer.endswith(", 1 seed")
    assert f"The headline is at W&B: {wandb_server.url}" in capsys.readouterr().out

    # Nothing new: W&B is left alone, and so is a report that goes elsewhere.
    requests = len(wandb_server.runs), run.state
    assert command.main([str(study)]) == 0
    assert command.main([str(study), "--output", str(study.parent / "elsewhere")]) == 0
    assert "W&B" not in capsys.readouterr().out
    assert (len(wandb_server.runs), run.state) == requests

    # A further seed: the same run gets the new headline.
    for arm in ARMS:
        train(arm, "seed=1", "logger=wandb", "study=raced")
    assert command.main([str(study)]) == 0
    assert reports(wandb_server) == [run]
    (answer,) = (run.summary[key] for key in run.summary if key.startswith("answer/"))
    assert answer.endswith(", 2 seeds")
    assert run.summary["headline"].replace("[", "\\[").replace("]", "\\]") == answer_of(study)


def test_offline_nothing_is_lost_and_one_line_tells_how_to_send_it(
    study: Path,
    wandb_server: WandbServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert command.main([str(study)]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "W&B" in line]
    assert told == [f"W&B is offline. To send it the headline later: python src/report.py {study}"]
    assert not reports(wandb_server)
    assert answer_of(study)
    monkeypatch.delenv("WANDB_MODE")
    assert command.main([str(study)]) == 0
    assert len(reports(wandb_server)) == 1


def test_a_server_that_refuses_costs_one_line(
    study: Path, wandb_server: WandbServer, capsys: pytest.CaptureFixture[str]
) -> None:
    wandb_server.fault = 401
    assert command.main([str(study)]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "W&B" in line]
    assert len(told) == 1
    assert told[0].startswith("W&B did not take the headline (")
    assert told[0].endswith(f"To send it later: python src/report.py {study}")
    assert "sent" not in json.loads((study / "report" / "wandb.json").read_text())


def test_without_an_account_nobody_hears_of_it(
    train: Train,
    runs_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    for arm in ARMS:
        train(arm, "logger=wandb", "study=alone")
    assert command.main([str(runs_dir / "alone")]) == 0
    assert "W&B" not in capsys.readouterr().out
