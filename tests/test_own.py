"""A dataset, a model and a miner from outside the repository (tests/own), composed with ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Train

OWN = Path(__file__).parent / "own"
SETTINGS = ["trainer.batch_size=64", "trainer.max_steps=400", "optimizer.lr=0.01", "logger=none"]


def test_from_the_command_line(runs_dir: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "src" / "train.py"), "--config-dir", str(OWN)]
    chosen = ["dataset=mine", "model=mine", "miner=mine", *SETTINGS]
    done = subprocess.run(
        [*command, *chosen], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
    )
    (folder,) = (runs_dir / "single").glob("above_mean-n64-s0-*")
    assert folder.name in done.stdout
    import json

    summary = json.loads((folder / "summary.json").read_text())
    assert summary["test/accuracy"] > 0.8
    assert summary["samples/backward"] < summary["samples/forward"]


@pytest.fixture
def own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(OWN))


@pytest.mark.usefixtures("own_code")
def test_each_composes_with_ours(train: Train) -> None:
    for choices in (["miner=mine"], ["model=mine"], ["dataset=mine", "model=mlp", "miner=ohem"]):
        summary = train(*choices, "trainer.max_steps=20", config_dir=OWN)
        assert summary["step"] == 20


def test_code_that_cannot_be_found_is_told(train: Train, tmp_path: Path) -> None:
    from minesweep.errors import UserError

    (tmp_path / "miner").mkdir()
    (tmp_path / "miner" / "lost.yaml").write_text("_target_: nowhere.Lost\n")
    with pytest.raises(UserError, match=r"miner=nowhere\.Lost: .*nowhere"):
        train("miner=lost", config_dir=tmp_path)
    (tmp_path / "miner" / "wrong.yaml").write_text("_target_: minesweep.miners.ohem.Ohem\nkk: 3\n")
    with pytest.raises(UserError, match="kk"):
        train("miner=wrong", config_dir=tmp_path)
