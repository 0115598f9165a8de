"""Every choice does not only compose: it runs, with a tiny budget."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import ROOT, Train, choices, reference
from image_files import files, folder

from minesweep.config.compose import compose
from minesweep.config.identity import choice
from minesweep.training.run import run

MANY = ("triplet/", "mochi", "lsh_vs_knn/", "which/")
FAST = (
    *("triplet/masked", "mochi/n256-s128-s64", "mochi/raw_pixels", "mochi/untrained"),
    *("lsh_vs_knn/lsh16-positives", "lsh_vs_knn/knn-both"),
    *("which/selective_backprop", "which/random_negative"),
)


def has_quora() -> bool:
    return (Path(os.environ.get("MINESWEEP_DATA", "data")) / "quora").is_dir()


# Reading the Quora pairs takes seconds, a large encoder too; a few arms stand for the others.
EXPERIMENTS = [
    pytest.param(
        name,
        marks=[pytest.mark.slow] * (name.startswith(MANY) and name not in FAST),
    )
    for name in choices("experiment")
]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_runs(experiment: str, tmp_path: Path) -> None:
    small = ["logger=none", "trainer.progress=false", "trainer.max_steps=2"]
    small += ["trainer.equal_cost=null"]  # a sweep has measured it
    data = choice(compose([f"experiment={experiment}"]), "dataset")
    if data.startswith("quora") and not has_quora():
        pytest.skip("needs the Quora pairs")
    if data == "quora":
        small += ["dataset.limit=300", "trainer.batch_size=32"]
    elif data.startswith("caltech"):
        small += ["dataset=image_folder", f"dataset.path={folder(tmp_path / 'a', files())}"]
        small += ["dataset.image_size=32", "trainer.batch_size=8", "objective.queue_size=1024"]
    elif data == "mnist":
        small += ["dataset=digits"]  # 1,079 training rows: enough for n = 1024
    elif experiment.startswith("pixels"):
        small += ["dataset.source=digits", "dataset.scenes=32", "dataset.held_out=4"]
    if experiment.endswith("/rho"):
        small += [f"miner.reference={reference()}"]
    assert run(compose([f"experiment={experiment}", *small]))["step"] == 2


@pytest.mark.parametrize("debug", sorted({*choices("debug")} - {"none"}))
def test_every_debug_mode_runs(debug: str, runs_dir: Path) -> None:
    summary = run(compose([f"debug={debug}", "dataset=digits", "trainer.progress=false"]))
    (written,) = (runs_dir / "debug").glob("*/summary.json")
    assert (summary["step"] == 1) == (debug == "fdr")
    assert (written.parent / "trace.json").exists() == (debug == "profiler")
    if debug == "overfit":
        assert summary["train/loss_batch"] < 0.05


@pytest.mark.parametrize(
    "choice",
    [
        *(f"optimizer={name}" for name in choices("optimizer")),
        *(f"scheduler={name}" for name in choices("scheduler")),
        "trainer=cpu",
        "trainer.precision=bf16",
        "trainer.gradient_clip=0.1",
        "objective=l2",
        "dataset.normalize=zscore",
    ],
)
def test_every_optimizer_schedule_and_setting_learns(choice: str, train: Train) -> None:
    steps = ["trainer.max_steps=60", "optimizer.lr=0.01"]
    assert train(choice, *steps)["test/accuracy"] > 0.5


def test_the_rate_follows_the_schedule(train: Train, runs_dir: Path) -> None:
    from minesweep.tracking.journal import frame

    train("scheduler=linear", "scheduler.warmup=10", "logger.every=1", "optimizer.lr=1.0")
    (path,) = (runs_dir / "single").glob("*/journal.jsonl")
    rates = frame(path).lr.tolist()
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10:] == pytest.approx([1 - step / 20 for step in range(20)])


def test_every_sweep_report_belongs_to_a_sweep() -> None:
    sweeps = {path.stem for path in (ROOT / "sweeps").glob("*.yaml")}
    assert {path.stem for path in (ROOT / "sweeps" / "report").glob("*.yaml")} <= sweeps
