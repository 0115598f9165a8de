"""``--until-sure``: what is declared, which trials the rounds ask for, and what they cost.

Here with a task that trains nothing. ``test_until_sure_runs.py`` has trainings, kills and two
processes.
"""

from __future__ import annotations

import json
import math
import shlex
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from scipy import stats
from sweeping import ROOT, write_sweep

from minesweep.config.identity import choice, run_folder
from minesweep.errors import UserError
from minesweep.reporting.analyse.declared import read_design
from minesweep.reporting.analyse.report import analyse
from minesweep.statistics.sequential import COSTS, HELPS, SAME, UNSURE
from minesweep.sweeps.budget import Budget
from minesweep.training.folder import RunFolder

pytest_plugins = ["sweep_fixtures"]

LOOKS = [5, 8, 12, 16, 20]
ARMS = {"miner": {"values": ["random_k", "ohem", "selective_backprop"]}}
OHEM = {"miner": {"values": ["all", "ohem"]}}
EFFECT = {"ohem": 0.02, "selective_backprop": 0.0}
"""Of the miners below, over no mining; the seeds scatter by 0.002."""


def accuracy(miner: str, seed: int, scatter: float = 0.002) -> float:
    """What a run would find: the seed's own level, the miner's effect, and chance."""
    word = sum(map(ord, miner))
    level, chance = np.random.default_rng([seed, 7]), np.random.default_rng([seed, word])
    return float(0.9 + 0.01 * level.normal() + EFFECT.get(miner, 0.0) + scatter * chance.normal())


def learn(cfg: DictConfig, fails: tuple[tuple[str, int], ...] = (), scatter: float = 0.002) -> None:
    """Ends as a training would, and finds that the looks were declared before."""
    folder = RunFolder(run_folder(cfg))
    miner = choice(cfg, "miner")
    assert (folder.path.parent / "until_sure.json").exists(), "looks come before the first trial"
    with folder.lock():
        folder.prepare(cfg)
        if (miner, cfg.seed) in fails:
            folder.set_status(state="failed", reason="ValueError: no")
            raise ValueError("no")
        value = accuracy(miner, cfg.seed, scatter)
        summary = {"val/accuracy": value, "test/accuracy": value, "test/loss": 1 - value}
        (folder.path / "summary.json").write_text(json.dumps(summary))
        (folder.path / "journal.jsonl").write_text("")
        folder.set_status(state="finished", step=20, max_steps=20, seconds=2.0)


def seeds_by_miner(runs: Path) -> dict[str, list[int]]:
    """The seeds that were run, by miner."""
    held: dict[str, list[int]] = {}
    for path in runs.glob("tried/*/status.json"):
        if json.loads(path.read_text())["state"] == "finished":
            miner, _, rest = path.parent.name.partition("-n64")
            held.setdefault(miner, []).append(int(rest.split("-s")[1].split("-")[0]))
    return {miner: sorted(seeds) for miner, seeds in held.items()}


def by_hand(miner: str, care: float, levels: list[float]) -> tuple[str, int]:
    """The answer and the seeds that it takes, with SciPy."""
    for n, level in zip(LOOKS, levels, strict=True):
        d = [accuracy(miner, s) - accuracy("random_k", s) for s in range(n)]
        low, high = stats.ttest_1samp(d, 0).confidence_interval(1 - level)
        if low > 0 or high < 0:
            return (HELPS if low > 0 else COSTS), n
        if -care < low and high < care:
            return SAME, n
    return UNSURE, LOOKS[-1]


def test_an_answered_arm_gets_no_more_seeds(
    sweep: Any, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(write_sweep(tmp_path, ARMS), task=learn, until_sure=True, care=0.5)
    design = read_design(runs / "tried")
    assert design is not None
    assert (design.metric, design.goal, design.care) == ("test/accuracy", "maximize", 0.5)
    assert list(design.looks) == LOOKS
    assert len(design.baselines) == 2
    wanted = {m: by_hand(m, 0.005, list(design.levels)) for m in ("ohem", "selective_backprop")}
    assert wanted["ohem"] == (HELPS, 5)
    assert wanted["selective_backprop"][1] > 5
    held = seeds_by_miner(runs)
    for miner, (_, seeds) in wanted.items():
        assert held[miner] == list(range(seeds))
    assert held["random_k"] == held["selective_backprop"]
    printed = capsys.readouterr().out
    count = sum(map(len, held.values()))
    assert f"spent {count} trials" in printed
    assert "round to 5 seeds: 15 trials; 0 of 2 comparisons are answered" in printed
    assert f"random_k {len(held['random_k'])}" in printed
    answers = analyse(runs / "tried").answers.itertuples()
    assert {a.arm: (a.answer, a.n) for a in answers} == wanted


def test_what_was_declared_holds(
    sweep: Any, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(tmp_path, OHEM)
    sweep(path, task=learn, until_sure=True, care=1.0, max_seeds=8)
    before = (runs / "tried" / "until_sure.json").read_bytes()
    for wrong, told in (
        ({"care": 2.0}, "declared --care 1.0 before its first trial, not 2.0"),
        ({"max_seeds": 12}, "declared looks at 5, 8 before its first trial, not 5, 8, 12"),
    ):
        with pytest.raises(UserError, match=told):
            sweep(path, task=learn, until_sure=True, **{"care": 1.0, **wrong})
    write_sweep(tmp_path, {**OHEM, "miner": {"values": ["all", "ohem", "selective_backprop"]}})
    with pytest.raises(UserError, match="declared comparisons"):
        sweep(path, task=learn, until_sure=True)
    write_sweep(tmp_path, OHEM)
    # What is left out is as it was declared, and nothing is left to do.
    capsys.readouterr()
    sweep(path, task=learn, until_sure=True)
    assert "round" not in capsys.readouterr().out
    assert (runs / "tried" / "until_sure.json").read_bytes() == before
    sweep(path, "study=anew", task=learn, until_sure=True, care=2.0)
    assert read_design(runs / "anew").care == 2.0  # type: ignore[union-attr]


def test_check_declares_nothing(sweep: Any, runs: Path, tmp_path: Path) -> None:
    assert sweep(write_sweep(tmp_path, OHEM), task=learn, until_sure=True, check=True) == []
    assert not list(runs.rglob("*"))


def test_a_budget_ends_the_race_and_a_larger_one_goes_on(
    sweep: Any, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(tmp_path, ARMS)
    options: dict[str, Any] = {"task": learn, "until_sure": True, "care": 0.15, "max_seeds": 8}
    sweep(path, budget="20", **options)
    assert "do not fit into the budget of 20 trials, 15 of which are spent" in (
        capsys.readouterr().out
    )
    assert set(map(len, seeds_by_miner(runs).values())) == {5}
    sweep(path, **options)
    assert max(map(len, seeds_by_miner(runs).values())) == 8


def test_a_budget_of_time_counts_training_and_jobs(
    sweep: Any, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Each trial says that it took two seconds.
    sweep(write_sweep(tmp_path, OHEM), task=learn, until_sure=True, budget="9s")
    assert sum(map(len, seeds_by_miner(runs).values())) == 4
    assert "8 s of which are spent" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "trials", "seconds"),
    [
        (None, None, None),
        ("100", 100, None),
        ("90s", None, 90),
        ("2h", None, 7200),
        ("1h30m", None, 5400),
        ("1.5 hours", None, 5400),
        ("2 d", None, 172_800),
    ],
)
def test_budgets(text: str | None, trials: int | None, seconds: float | None) -> None:
    assert Budget.parse(text) == Budget(trials, seconds)


@pytest.mark.parametrize("text", ["", "0", "-3", "2x", "h", "1h2", "two hours", "1.5"])
def test_what_is_no_budget(text: str) -> None:
    with pytest.raises(UserError, match="neither a time, such as 2h, 30m or 90s, nor a number"):
        Budget.parse(text)


def test_a_round_of_which_every_trial_fails_is_the_last(
    sweep: Any, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every = tuple((miner, seed) for miner in ("all", "ohem") for seed in range(20))
    with pytest.raises(UserError, match="10 of 10 trials failed"):
        sweep(write_sweep(tmp_path, OHEM), task=partial(learn, fails=every), until_sure=True)
    printed = capsys.readouterr().out
    assert "stopped: every trial of this round failed" in printed
    assert "round to 8 seeds" not in printed


def test_a_seed_that_fails_is_used_up_and_told(
    sweep: Any, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(tmp_path, OHEM)
    task = partial(learn, fails=(("ohem", 4),))
    for _ in range(2):  # the second time it is the only trial that is left
        with pytest.raises(UserError, match="1 of 10 trials failed"):
            sweep(path, task=task, until_sure=True)
        assert "stopped" not in capsys.readouterr().out
    assert seeds_by_miner(runs) == {"all": [0, 1, 2, 3, 4], "ohem": [0, 1, 2, 3]}
    # The look at five seeds was taken, with four differences.
    (answer,) = analyse(runs / "tried").answers.itertuples()
    assert (answer.answer, answer.n) == (HELPS, 4)


def test_a_mean_after_an_early_stop_has_an_estimate_beside_it(
    sweep: Any, runs: Path, tmp_path: Path
) -> None:
    from minesweep.reporting.show.write import csv_texts, markdown

    sweep(write_sweep(tmp_path, OHEM), task=partial(learn, scatter=0.008), until_sure=True)
    report = analyse(runs / "tried")
    (answer,) = report.answers.itertuples()
    assert (answer.answer, answer.n) == (HELPS, 8)
    d = [accuracy("ohem", s, 0.008) - accuracy("all", s, 0.008) for s in range(8)]
    assert answer.difference == pytest.approx(np.mean(d))
    row = report.comparisons.query("measure == 'test/accuracy'").iloc[0]
    assert 0.9 * row["difference"] < row["estimate"] < 0.95 * row["difference"]
    told = f"The median unbiased estimates are: ohem +{100 * row['estimate']:.2f} points."
    assert told in markdown(report, [])
    assert "estimate" in csv_texts(report)["differences"].partition("\n")[0]


def test_looks_that_were_declared_late_are_told(sweep: Any, runs: Path, tmp_path: Path) -> None:
    sweep(write_sweep(tmp_path, OHEM), task=learn, until_sure=True)
    (early,) = (note for note in analyse(runs / "tried").notes if "ooks at 5, 8, 12" in note)
    assert early.startswith("Looks at")
    assert "before the first trial" in early
    path = runs / "tried" / "until_sure.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"finished_before": 4}))
    (late,) = (note for note in analyse(runs / "tried").notes if "ooks at 5, 8, 12" in note)
    assert late.startswith("Warning: looks at")
    assert "declared when 4 runs had finished" in late


def test_a_loss_has_no_smallest_difference_of_its_own(
    sweep: Any, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(tmp_path, OHEM, metric={"name": "val/loss", "goal": "minimize"})
    sweep(path, task=learn, until_sure=True)
    design = read_design(runs / "tried")
    assert design is not None
    assert (design.metric, design.goal, design.care) == ("test/loss", "minimize", None)
    assert "no smallest difference that matters" in capsys.readouterr().out
    assert math.isclose(design.alpha, 0.05)


@pytest.mark.parametrize(
    ("parameters", "changes", "fixed", "told"),
    [
        ({}, {}, (), "no arm has a baseline"),
        (OHEM, {"method": "random", "run_cap": 3}, (), "method: random has none"),
        (OHEM, {"run_cap": 3}, (), "takes no --count or run_cap: give --budget 100"),
        (OHEM, {}, ("seed=3",), "chooses the seeds itself"),
        ({**OHEM, "study": {"values": ["a", "b"]}}, {}, (), "lie in several studies"),
        ({**OHEM, "seed": {"values": ["a", 1]}}, {}, (), "needs whole numbers as seeds"),
    ],
)
def test_what_has_no_seeds_to_add(
    sweep: Any,
    tmp_path: Path,
    parameters: dict[str, Any],
    changes: dict[str, Any],
    fixed: tuple[str, ...],
    told: str,
) -> None:
    with pytest.raises(UserError, match=told):
        sweep(write_sweep(tmp_path, parameters, **changes), *fixed, until_sure=True)


def test_a_report_that_chooses_by_results_is_refused(
    sweep: Any, runs: Path, tmp_path: Path
) -> None:
    (runs / "tried").mkdir(parents=True)
    (runs / "tried" / "report.yaml").write_text("best_by: optimizer.lr\n")
    rates = {**OHEM, "optimizer.lr": {"values": [0.1, 0.01]}}
    with pytest.raises(UserError, match=r"chooses optimizer.lr for each arm by its results"):
        sweep(write_sweep(tmp_path, rates), until_sure=True)


def test_an_arm_at_equal_cost_takes_the_time_of_its_baseline(
    sweep: Any, runs: Path, tmp_path: Path
) -> None:
    arms = {"experiment": {"values": ["help/random_k-25", "help/ohem-25", "help/ohem-25-cost"]}}
    path = write_sweep(tmp_path, {**arms, "trainer.batch_size": {"value": 128}})
    trials = sweep(path, task=learn, until_sure=True, max_seeds=3)
    stored = json.loads((runs / "tried" / "step_seconds.json").read_text())
    told = stored["calibration"]
    ratio = told["cost_over_baseline"]["ohem"]
    assert ratio["low"] <= ratio["median"] <= ratio["high"]
    # Scoring four times as many examples costs something.
    assert ratio["median"] > 1
    (steps,) = told["equal_cost_steps"].values()
    assert steps == int(20 / ratio["median"])
    assert sum(f"trainer.equal_cost={steps}" in t.overrides for t in trials) == 3
    before = (runs / "tried" / "step_seconds.json").read_bytes()
    sweep(path, task=learn, until_sure=True)
    assert (runs / "tried" / "step_seconds.json").read_bytes() == before


@pytest.mark.parametrize(("miner", "steps"), [("ohem", 5), ("knn", 12)])
def test_a_turn_holds_a_whole_period_of_a_miner(miner: str, steps: int, tmp_path: Path) -> None:
    """A refresh that most turns lack would be left out by the median."""
    from minesweep.config.build import build
    from minesweep.config.compose import compose
    from minesweep.sweeps.calibrate import _turn
    from minesweep.training.folder import RunFolder
    from minesweep.training.loop import Trainer
    from minesweep.training.run import load_data

    more = ["miner.refresh=12"] if miner == "knn" else []
    cfg = compose([f"miner={miner}", "dataset=digits", "trainer.batch_size=64", *more])
    data = load_data(cfg, build(cfg, "dataset"), torch.device("cpu"))
    trainer = Trainer(cfg, data, RunFolder(tmp_path))
    _turn(trainer, time.process_time)
    assert trainer.step == steps


def test_which_miner_races_what_fits_and_ends_with_a_command(
    sweep: Any, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minesweep.config.checks import check
    from minesweep.config.compose import compose

    monkeypatch.setattr("minesweep.sweeps.calibrate.ROUNDS", 2)
    path = ROOT / "sweeps" / "which_miner.yaml"
    words = ("dataset=digits", "study=tried", "trainer.batch_size=64", "trainer.max_epochs=1")
    sweep(path, *words, task=learn, until_sure=True, max_seeds=3, care=0.1)
    design = read_design(runs / "tried")
    assert design is not None
    # On validation data, so that test data stay unseen by the choice.
    assert design.metric == "val/accuracy"
    assert set(design.baselines) == {
        *(f"{miner} k={k}" for miner in ("ohem", "random_k") for k in (16, 32, 48)),
        "selective_backprop",
    }
    assert set(design.baselines.values()) == {"all k=64"}
    report = analyse(runs / "tried")
    # OHEM is better by two points at each k; the task knows no other differences.
    assert report.advice.startswith("Use ohem k=")
    assert report.headline.startswith("Mining helps in 3 of 4 comparisons: ohem k=")
    assert "at equal cost" in report.headline
    _, _, command = report.advice.partition("To train with it: python src/train.py ")
    cfg = compose(shlex.split(command))
    check(cfg)
    assert choice(cfg, "miner") == "ohem"
    assert cfg.trainer.equal_cost >= 1


@pytest.mark.parametrize(
    ("objective", "baseline", "count"),
    [("contrastive", "random", 4), ("triplet", "band", 6), ("moco", "queue", 1)],
)
def test_which_miner_knows_each_objective(
    sweep: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    objective: str,
    baseline: str,
    count: int,
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(
        "minesweep.sweeps.calibrate.calibrate", lambda cells, console: seen.append(cells) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        sweep(ROOT / "sweeps" / "which_miner.yaml", f"objective={objective}", until_sure=True)
    assert set(seen[0].baselines.values()) == {baseline}
    assert len(seen[0].baselines) == count
