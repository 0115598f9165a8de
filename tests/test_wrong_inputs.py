"""Wrong inputs of the kinds that strangers brought: each is answered by one line, no traceback."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import Killed, Train
from reporting_fixtures import config, ohem_study, write_run
from test_training import only_run

import report as entry
from minesweep.config.compose import compose
from minesweep.dashboard.index import write_index
from minesweep.errors import UserError
from minesweep.reporting.analyse.report import analyse
from minesweep.training import checkpoint
from minesweep.training.load import load_run

# --- a user's own parts that return the wrong thing -----------------------------------------------

MINERS = [
    *("select/scalar", "select/short", "select/indices", "select/none", "select/negative"),
    *("select/not a number", "select/matrix", "select/column", "select/list", "select/mapping"),
    *("select/array", "propose/floats", "propose/beyond", "propose/negative", "propose/empty"),
    *("propose/pairs", "propose/list", "propose/none", "propose/mask", "metrics/vector"),
    *("metrics/none", "metrics/text", "metrics/number as a name", "distributions/list"),
    "distributions/none",
]
OBJECTIVES = [
    *("losses/mean", "losses/column", "losses/matrix", "losses/short", "losses/none"),
    *("losses/detached", "losses/number", "losses/integers", "metrics/vector", "metrics/none"),
    *("metrics/text", "metrics/list", "details/list", "details/none", "details/number"),
    *("evaluate/vector", "evaluate/none", "evaluate/no monitor", "evaluate/text"),
    *("evaluate/complex", "evaluate/number", "evaluate/number as a name"),
]
FORWARDS = ["loss", "none", "tuple", "vector", "number", "detached", "weights", "scores"]
MODELS = [
    *("flat", "mean", "tuple", "mapping", "few classes", "few rows", "none", "detached"),
    *("three dimensions", "integers"),
]
OWN = [
    *(("OddMiner", "miner", how) for how in MINERS),
    *(("OddObjective", "objective", how) for how in OBJECTIVES),
    *(("OddForward", "objective", how) for how in FORWARDS),
    *(("OddModel", "model", how) for how in MODELS),
    *(("OddData", "dataset", how) for how in ("none", "tuple", "split")),
    ("NoModule", "model", ""),
]
FEW = ("trainer.max_steps=6", "trainer.eval_every=3", "logger.every=1")


def own(cls: str, group: str, how: str) -> list[str]:
    """The overrides that put a class in a group's place, without the options that it lacks."""
    tree = compose(["dataset=digits", "miner=all"])[group]
    takes_all = cls in ("OddObjective", "OddData")
    dropped = [f"~{group}.{key}" for key in tree if key != "_target_" and not takes_all]
    told = [f"+{group}.how='{how}'"] if how else []
    return [*dropped, f"{group}._target_=odd_parts.{cls}", *told]


@pytest.mark.parametrize(("cls", "group", "how"), OWN)
def test_own_parts_that_return_the_wrong_thing(
    cls: str, group: str, how: str, train: Train
) -> None:
    with pytest.raises(UserError) as told:
        train("miner=all", *own(cls, group, how), *FEW)
    line = str(told.value)
    assert "\n" not in line
    # It names the part, and what it returned or has to return.
    assert line.startswith((group, cls)) or (how == "detached" and "has no gradient" in line)


@pytest.mark.parametrize("group", ["miner", "objective", "optimizer", "scheduler"])
def test_a_part_of_another_kind(group: str, train: Train) -> None:
    with pytest.raises(UserError, match=f"^{group}: its _target_ makes a dict, not a subclass of"):
        train(f"{group}._target_=builtins.dict")


@pytest.mark.parametrize("how", ["losses/mean", "losses/short", "losses/none"])
def test_wrong_losses_where_a_part_is_learned_from(how: str, train: Train) -> None:
    with pytest.raises(UserError, match="must return one loss for each candidate"):
        train("miner=ohem", "miner.k=16", *own("OddObjective", "objective", how), *FEW)


# --- report.yaml, and the options of a report -----------------------------------------------------


def line(*words: str) -> str:
    """What ``src/report.py`` says; empty if all is well. It must be one line."""
    err = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(err):
        status = entry.main(list(words))
    assert status == (1 if err.getvalue() else 0)
    assert err.getvalue().count("\n") == status
    return err.getvalue().strip()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ohem_study(tmp_path_factory.mktemp("odd") / "study", {128: 0.01}, seeds=[0, 1])


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("metric: 3", "metric=3 must be text"),
        ("metric: {a: 1}", "must be text"),
        ("validation: 3", "validation=3 must be text"),
        ("budget: 3", "budget=3 must be text"),
        ("best_by: 3", "best_by=3 must be text"),
        ("group_by: 3", "group_by=3 must be a list"),
        ("group_by: [3]", "must be a list, each text"),
        ("further: 3", "further=3 must be a list"),
        ("further: [3]", "must be a list, each text"),
        ("further: [nope]", "nope: no finished run has this metric"),
        ("at_budget: maybe", "at_budget=maybe must be true or false"),
        ("baseline: 3", "baseline=3 must be a mapping"),
        ("baseline: [miner]", "a list, each a mapping"),
        ("at_step: 3", "at_step=3 must be a mapping"),
        ("at_step: {val/accuracy: x}", "must map metrics to numbers"),
        ("at_step: [1]", "must be a mapping"),
        ("reach: 3", "reach=3 must be a mapping"),
        ("reach: {val/accuracy: high}", "must map metrics to numbers"),
        ("goal: up", "goal=up must be one of maximize, minimize"),
        ("views: 3", "views"),
        ("views: [3]", "views"),
        ("views: [{kind: curv}]", "did you mean 'curve'?"),
        ("- metric", "report.yaml holds no mapping"),
        ("metric: [", "report.yaml is not whole YAML"),
        ("metric: " + "[" * 5000, "nested more than 100 levels deep"),
        ("metric: !!python/object:os.system x", "report.yaml is not whole YAML"),
    ],
)
def test_a_wrong_report_file(text: str, answer: str, study: Path) -> None:
    path = study / "report.yaml"
    path.write_text(text)
    try:
        assert answer in line(str(study))
    finally:
        path.unlink()


def test_wrong_options_of_a_report(study: Path, tmp_path: Path) -> None:
    plain = tmp_path / "file"
    plain.write_text("")
    for words, answer in [
        (["--baseline", "n=[1"], "baseline: cannot read n=[1"),
        (["--baseline", "n={"], "baseline: cannot read n={"),
        (["--group-by", ","], "group_by=['', ''] must be a list, each text"),
        (["--output", str(plain)], "file"),
        (["--output", str(plain / "deeper")], "Not a directory"),
        (["--keep", str(plain)], "File exists"),
    ]:
        assert answer in line(str(study), *words)
    assert "no such folder" in line(str(plain)) or "not" in line(str(plain))
    assert "name too long" in line("x" * 5000)
    with pytest.raises(UserError, match="no such folder"):
        write_index(Path("x" * 5000))


# --- damaged files of a run -----------------------------------------------------------------------


def damage(path: Path, how: str) -> None:
    text = path.read_text()
    if how == "a folder":
        path.unlink()
        path.mkdir()
        return
    content = {
        "empty": b"",
        "a list": b"[1, 2]",
        "a number": b"3",
        "UTF-16": text.encode("utf-16"),
        "not text": bytes(range(256)),
        "deep": b"[" * 100_000,
    }
    path.write_bytes(content[how])


KINDS = ["empty", "a list", "a number", "UTF-16", "not text", "deep", "a folder"]


@pytest.mark.parametrize("how", KINDS)
@pytest.mark.parametrize("name", ["status.json", "summary.json", "config.yaml", "journal.jsonl"])
def test_a_damaged_file_is_told_and_the_other_runs_are_reported(
    name: str, how: str, tmp_path: Path
) -> None:
    study = tmp_path / "runs" / "study"
    for seed in range(2):
        write_run(study, config(seed=seed), 0.9, name=f"run-{seed}", every=50)
    damage(study / "run-1" / name, how)
    result = analyse(study)
    counts = name == "journal.jsonl"  # its summary still counts
    assert len(result.runs) == 1 + counts
    assert [p.run for p in result.study.problems.itertuples()] == ["run-1"] * (
        how != "empty" or not counts
    )
    assert write_index(study.parent).exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [("seed", "zero"), ("seed", None), ("seed", True), ("miner", None), ("miner", "ohem")],
)
def test_a_configuration_that_is_none_of_a_run(key: str, value: Any, tmp_path: Path) -> None:
    write_run(tmp_path, config(), name="odd")
    (tmp_path / "odd" / "config.yaml").write_text(yaml.safe_dump(config() | {key: value}))
    assert "config.yaml lacks seed, miner._target_ or trainer.batch_size" in line(str(tmp_path))


@pytest.mark.parametrize(
    "row",
    [
        {"step": "x"},
        {"step": -5},
        {"step": 1e300},
        {"step": True},
        {"val/accuracy": 1.0},
        {"step": 7, "val/accuracy": "much"},
        {"step": 7, "train/loss_batch_histogram": "x"},
        {"step": 7, "train/loss_batch_histogram": {"counts": "x", "low": 1}},
        {"step": 7, "train/loss_batch_histogram": {"counts": [-1, 2], "low": 1, "high": 0}},
        {"step": 7, "train/loss_batch_histogram": {"counts": [None], "low": 0, "high": 1}},
        {"step": 1, "val/accuracy": 0.5},
    ],
)
def test_an_odd_row_of_a_journal_harms_no_report(row: dict[str, Any], tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs" / "study", config(), 0.9, every=50)
    with (run / "journal.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    assert line(str(run.parent)) == ""
    assert write_index(tmp_path / "runs").exists()


@pytest.mark.parametrize("how", KINDS)
def test_a_run_whose_configuration_is_damaged_cannot_be_loaded(how: str, tmp_path: Path) -> None:
    run = write_run(tmp_path, config(), name="run")
    damage(run / "config.yaml", how)
    with pytest.raises(UserError, match=r"config\.yaml") as told:
        load_run(run)
    assert "\n" not in str(told.value)


# --- checkpoints that are readable and not of this run --------------------------------------------

CHECKPOINTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "only the model": lambda state: {"model": state["model"]},
    "no optimizer": lambda state: {k: v for k, v in state.items() if k != "optimizer"},
    "an empty optimizer": lambda state: {**state, "optimizer": {}},
    "other shapes": lambda state: {
        **state, "model": {k: v[..., :1] for k, v in state["model"].items()}
    },
    "another miner": lambda state: {**state, "miner": {"x": torch.ones(1)}},
    "no generators": lambda state: {k: v for k, v in state.items() if k != "random"},
    "generators of none": lambda state: {**state, "random": None},
    "a step in words": lambda state: {**state, "step": "four"},
    "offsets in words": lambda state: {**state, "offsets": "all"},
    "too few offsets": lambda state: {**state, "offsets": (0,)},
}  # fmt: skip


@pytest.mark.parametrize("how", CHECKPOINTS)
def test_a_checkpoint_that_is_not_of_this_run(
    how: str,
    train: Train,
    kill_at: Any,
    runs_dir: Path,
) -> None:
    chosen = ["miner=ohem", "trainer.max_steps=6", "trainer.checkpoint_every=2"]
    kill_at(5)
    with pytest.raises(Killed):
        train(*chosen)
    kill_at(None)
    path = checkpoint.steps(only_run(runs_dir) / "checkpoints")[-1]
    torch.save(CHECKPOINTS[how](checkpoint.read(path)), path)
    with pytest.raises(UserError, match="is not one of this run as it is now") as told:
        train(*chosen)
    assert "\n" not in str(told.value)
    assert train(*chosen, "resume=never")["step"] == 6


# --- something else where a run's files should be -------------------------------------------------


def file_for_folder(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.write_text("not a folder")


def folder_for_file(path: Path) -> None:
    path.unlink()
    (path / "inside").mkdir(parents=True)


@pytest.mark.parametrize(
    ("name", "swap"),
    [
        ("", file_for_folder),
        ("checkpoints", file_for_folder),
        ("journal.jsonl", folder_for_file),
        ("timing.jsonl", folder_for_file),
        ("mined.jsonl", folder_for_file),
        ("config.yaml", folder_for_file),
        ("status.json", folder_for_file),
    ],
)
def test_something_else_in_the_place_of_a_runs_file(
    name: str,
    swap: Callable[[Path], None],
    train: Train,
    kill_at: Any,
    runs_dir: Path,
) -> None:
    chosen = ["miner=ohem", "trainer.max_steps=6", "trainer.checkpoint_every=2"]
    kill_at(5)
    with pytest.raises(Killed):
        train(*chosen)
    kill_at(None)
    path = only_run(runs_dir) / name if name else only_run(runs_dir)
    swap(path)
    with pytest.raises(UserError, match="resume=never") as told:
        train(*chosen)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)
    assert train(*chosen, "resume=never")["step"] == 6
