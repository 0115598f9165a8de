"""W&B that goes away, refuses, answers slowly or wrongly: the run trains on, and says it once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from children import descendants
from conftest import ROOT, Train
from test_signals import wait_for_rows
from test_training import only_run, results
from wandb_server import WandbServer

from minesweep.config.compose import compose
from minesweep.tracking.weights_and_biases import WeightsAndBiases
from minesweep.training.loop import Trainer

SHORT = ["logger=wandb", "logger.every=5", "logger.histogram_every=10"]
IMPATIENT = "logger.wandb.finish_timeout=3"


@pytest.fixture(autouse=True)
def online(wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in wandb_server.env().items():
        monkeypatch.setenv(name, value)
    for name in ("WANDB_INIT_TIMEOUT", "WANDB_HTTP_TIMEOUT"):
        monkeypatch.delenv(name)


@pytest.mark.parametrize("fault", ["slow", "empty", 401, 429, 500])
def test_a_server_that_fails_after_the_start_costs_a_warning(
    fault: int | str,
    train: Train,
    runs_dir: Path,
    wandb_server: WandbServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train("logger=none", *SHORT[1:], "study=alone")
    update = Trainer.update

    def updating(self: Trainer) -> Any:
        wandb_server.fault = fault
        return update(self)

    monkeypatch.setattr(Trainer, "update", updating)
    with pytest.warns(UserWarning, match="wandb sync ") as warned:
        train(*SHORT, IMPATIENT, "study=faulty")
    (warning,) = warned
    sync = Path(str(warning.message).rpartition("wandb sync ")[2])
    assert list(sync.glob("run-*.wandb"))
    assert results(only_run(runs_dir, "faulty")) == results(only_run(runs_dir, "alone"))
    assert len(wandb_server.runs) == 1


def test_a_server_that_is_stopped_in_mid_run(wandb_server: WandbServer, runs_dir: Path) -> None:
    words = ["dataset=digits", "trainer.batch_size=64", "trainer.max_steps=2000", *SHORT, IMPATIENT]
    with subprocess.Popen(
        [sys.executable, str(ROOT / "src" / "train.py"), *words],
        env=dict(os.environ),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for_rows(runs_dir, "single", 3, process)
        wandb_server.stop()
        errors = process.communicate()[1]
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert errors.count("wandb sync") == 1
    assert (only_run(runs_dir) / "summary.json").exists()


def test_a_server_that_refuses_the_run_gets_it_later(
    train: Train, runs_dir: Path, wandb_server: WandbServer
) -> None:
    wandb_server.fault = 401
    with pytest.warns(UserWarning, match=r"W&B did not take all .* wandb sync .*offline-run-") as w:
        train(*SHORT)
    assert len(w) == 1
    assert (only_run(runs_dir) / "summary.json").exists()


def test_a_service_process_that_hangs_is_ended(tmp_path: Path, wandb_server: WandbServer) -> None:
    cfg = compose(["logger=wandb", IMPATIENT, "dataset=digits"])
    before = descendants().keys()
    sink = WeightsAndBiases(cfg, tmp_path)
    (service,) = (
        pid for pid in descendants().keys() - before if "wandb-core" in descendants()[pid]
    )
    os.kill(service, signal.SIGSTOP)
    for step in range(5):
        sink.log({"step": step, "val/accuracy": 0.5})
    with pytest.warns(UserWarning, match=r"no answer within 3 seconds.* wandb sync "):
        sink.finish({"val/accuracy": 0.5}, 0)
    assert service not in descendants()
    # The next run of this process is sent as ever.
    later = tmp_path / "later"
    later.mkdir()
    sink = WeightsAndBiases(cfg, later)
    sink.log({"step": 1, "val/accuracy": 0.5})
    sink.finish({"val/accuracy": 0.5}, 0)
    run = next(run for run in wandb_server.runs if run.id == sink.id)
    assert run.state == "finished"
    assert [row["val/accuracy"] for row in run.history] == [0.5]
