"""The real command and the real signals."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, on_digits
from test_training import only_run, results

from minesweep.tracking.journal import read_rows

CHOSEN = [
    "dataset=digits",
    "logger=none",
    "trainer.batch_size=64",
    "trainer.eval_every=40",
    "trainer.checkpoint_every=20",
]


def start(study: str, steps: int, miner: str = "selective_backprop") -> subprocess.Popen[bytes]:
    command = [sys.executable, str(ROOT / "src" / "train.py"), f"miner={miner}", *CHOSEN]
    return subprocess.Popen(
        [*command, *on_digits(miner), f"study={study}", f"trainer.max_steps={steps}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},  # a dataset of the tests
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_for_rows(runs_dir: Path, study: str, rows: int, process: subprocess.Popen[bytes]) -> None:
    """Waits until the journal has so many lines, or the process has ended."""
    while process.poll() is None:
        lines = sum(p.read_bytes().count(b"\n") for p in (runs_dir / study).glob("*/journal.jsonl"))
        if lines >= rows:
            return
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)]
)
def test_a_signal_writes_a_checkpoint(number: int, status: int, runs_dir: Path) -> None:
    process = start("single", 100_000)
    wait_for_rows(runs_dir, "single", 3, process)
    process.send_signal(number)
    assert process.wait(30) == status
    folder = only_run(runs_dir)
    state = json.loads((folder / "status.json").read_text())
    assert state["state"] == "interrupted"
    assert state["reason"] == f"signal {int(number)}"
    (last,) = sorted((folder / "checkpoints").glob("step-*.pt"))[-1:]
    assert last.name == f"step-{state['step']:08d}.pt"


def kill_and_resume(
    runs_dir: Path, kills: int, steps: int, miner: str = "selective_backprop"
) -> None:
    assert start("whole", steps, miner).wait(120) == 0
    draw, killed = random.Random(0), 0
    # Rows of the whole run over the kills: each process gets about that far beyond the last.
    stride = len(read_rows(only_run(runs_dir, "whole") / "journal.jsonl")) // (kills + 1)
    for attempt in range(kills):
        process = start("killed", steps, miner)
        wait_for_rows(runs_dir, "killed", attempt * stride + draw.randint(1, stride), process)
        time.sleep(draw.random() * 0.02)
        process.kill()
        killed += process.wait() == -signal.SIGKILL
    assert killed == kills
    assert start("killed", steps, miner).wait(120) == 0
    assert results(only_run(runs_dir, "whole")) == results(only_run(runs_dir, "killed"))


@pytest.mark.parametrize("miner", ["selective_backprop", "mochi"])
def test_sigkill_and_resume_bit_for_bit(miner: str, runs_dir: Path) -> None:
    kill_and_resume(runs_dir, kills=2, steps=400, miner=miner)


@pytest.mark.slow
def test_sigkill_twenty_times(runs_dir: Path) -> None:
    kill_and_resume(runs_dir, kills=20, steps=4000)
