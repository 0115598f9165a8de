"""The parts of this folder train together."""

from __future__ import annotations

from pathlib import Path

import pytest

from minesweep.config.compose import compose
from minesweep.training.run import run

CONF = Path(__file__).parent / "conf"


def test_it_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINESWEEP_RUNS", str(tmp_path))
    monkeypatch.syspath_prepend(str(CONF))
    words = ["dataset=mine", "model=mine", "miner=mine", "trainer.batch_size=128"]
    quiet = ["trainer.max_steps=150", "optimizer.lr=0.01", "logger=none", "trainer.progress=false"]
    assert run(compose([*words, *quiet], CONF))["test/accuracy"] > 0.8
