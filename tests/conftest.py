"""What the tests share: quiet threads, runs in a temporary folder, no tracking but the journal."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"

pytest_plugins = ["browser", "children", "wandb_server"]


def pytest_configure(config: pytest.Config) -> None:
    # Two test processes on two cores: more threads only get in each other's way.
    torch.set_num_threads(1)
    # No test depends on timing: an example may take as long as a busy machine needs.
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")
    os.environ["OMP_NUM_THREADS"] = "1"  # and the processes that the tests start
    if SHARED.is_dir():
        os.environ.setdefault("MINESWEEP_DATA", str(SHARED))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def runs_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's runs go."""
    folder = tmp_path / "runs"
    monkeypatch.setenv("MINESWEEP_RUNS", str(folder))
    return folder


SMALL = ("dataset=digits", "logger=none", "trainer.batch_size=64", "trainer.max_steps=30")
"""Half a second of training."""

Train = Callable[..., dict[str, Any]]


@pytest.fixture
def train() -> Train:
    """``train("miner=ohem", ...)``: a small run on digits in this process; returns its summary."""
    from minesweep.config.compose import compose
    from minesweep.training.run import run

    def start(*overrides: str, config_dir: Path | None = None) -> dict[str, Any]:
        return run(compose([*SMALL, "trainer.progress=false", *overrides], config_dir))

    return start


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours handles it (the real one is in test_signals.py)."""


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """``kill_at(17)``: the run dies in the middle of that step."""
    from minesweep.training.loop import Trainer

    update = Trainer.update

    def at(step: int | None) -> None:
        def dying(self: Any) -> Any:
            if self.step == step:
                raise Killed
            return update(self)

        monkeypatch.setattr(Trainer, "update", dying)

    yield at
    monkeypatch.setattr(Trainer, "update", update)


@pytest.fixture
def cli(runs_dir: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``cli("miner.k=3")``: the real ``python src/train.py`` in a process of its own."""

    def start(*words: str, entry: str = "train") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "src" / f"{entry}.py"), *words]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False
        )

    return start


@cache
def reference() -> Path:
    """The folder of a small run on the validation split of digits, kept for the session."""
    from minesweep.config.compose import compose
    from minesweep.training.run import run

    place = Path(tempfile.mkdtemp(prefix="minesweep-reference-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    where = [f"paths.runs_dir={place}", "study=reference", "trainer.progress=false"]
    run(compose([*SMALL, "trainer.train_on=val", "miner=all", *where]))
    return place / "reference"


def on_digits(miner: str) -> list[str]:
    """What lets a miner train on digits that brings a model for another kind of data."""
    from minesweep.config.compose import compose

    brings = compose([f"miner={miner}"]).objective._target_
    if brings.endswith(".Pml"):
        pytest.importorskip("pytorch_metric_learning")
        return ["model=embedding_mlp_256", "miner.per_class=8"]
    if brings.endswith(".Triplet"):
        return ["model=mlp", "objective.positive=hardest", "miner.per_class=8"]
    if brings.endswith(".MoCo"):
        two_views = ["dataset._target_=two_views.TwoViews", "model=mlp"]
        mixing = ["miner.n_hard=20", "miner.s1_start=8"] if miner == "mochi" else []
        # A queue that is no multiple of the batch, and wraps around.
        return [*two_views, *mixing, "objective.queue_size=150", "objective.linear=false"]
    if miner == "rho":
        return [f"miner.reference={reference()}"]
    if brings.endswith(".PixelCrossEntropy"):
        small = ["dataset.source=digits", "dataset.scenes=64", "dataset.held_out=8"]
        return ["dataset=digit_scenes", *small, "dataset.size=16", "model.widths=[8]"]
    if brings.endswith(".MultipleNegatives"):
        questions = ["~dataset", "+dataset._target_=questions.Questions"]
        questions += ["+dataset.label_noise=0", "model.table=random"]
        mining = ["miner.refresh=4"] if miner == "corpus" else []
        return [*questions, "model.width=8", *mining]
    return []


def choices(group: str) -> list[str]:
    """Every choice of a group, so that a new file or arm is tested without a new test."""
    from minesweep.config.arms import read_arms

    folder = ROOT / "conf" / group
    files = [str(p.relative_to(folder).with_suffix("")) for p in folder.rglob("*.yaml")]
    arms = [f"{f}/{a}" for f in files for a in read_arms(ROOT / "conf", f"{group}/{f}")]
    return sorted(files + arms)
