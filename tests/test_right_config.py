"""What a configuration may say: names that look like numbers, no choice, ranges of one's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from test_wrong_config import QUICK, sweep_file

from minesweep.config.checks import check
from minesweep.config.compose import compose
from minesweep.errors import UserError


@pytest.mark.parametrize("name", ["2024", "1e3", "20241126", "1_1_1", "true", "null", "12e5", "ü"])
def test_a_name_is_text_whatever_it_looks_like(name: str) -> None:
    words = [f"study={name}", f"logger.wandb.project={name}", f"logger.wandb.tags=[{name},a]"]
    cfg = compose([*words, "model=timm", f"model.name={name}"])
    check(cfg)
    assert cfg.study == cfg.logger.wandb.project == cfg.model.name == name
    assert cfg.logger.wandb.tags == [name, "a"]


def test_a_name_is_text_in_a_sweep_file(tmp_path: Path) -> None:
    from minesweep.sweeps.spec import read
    from minesweep.sweeps.trials import trials

    path = sweep_file(tmp_path, {})
    written = "\n  study: {values: [2024, 1e3, 1_1_1, true, null, abc]}\n"
    path.write_text(path.read_text().replace("parameters:\n", f"parameters:{written}"))
    planned = [word for trial in trials(read(path)) for word in trial if word.startswith("study")]
    names = ["2024", "1e3", "1_1_1", "true", "null", "abc"]
    assert planned == [f"study={name}" for name in names]


def test_several_names_of_a_multirun_are_text() -> None:
    from minesweep.config.overrides import names_as_text

    assert names_as_text(["study=1,b,null", "seed=0,1"], several=True) == [
        "study='1',b,'null'",
        "seed=0,1",
    ]


def test_no_choice_can_be_written(tmp_path: Path) -> None:
    from minesweep.config.identity import identity

    assert identity(compose(["experiment=none", "debug=none"])) == identity(compose())


def test_a_miner_of_ones_own_has_its_own_ranges(tmp_path: Path) -> None:
    """``ratio`` of OHEM lies in (0, 1]; that of another class is what its own file says."""

    (tmp_path / "miner").mkdir()
    (tmp_path / "miner" / "mine.yaml").write_text(
        "# Mine.\n_target_: mine.Mine\n# Negatives for each positive.\nratio: 3 # float >= 1\n"
        "# Whether to shuffle.\nshuffle: false\n"
    )
    check(compose(["miner=mine"], tmp_path), [tmp_path])
    for word, answer in (("miner.ratio=0.5", "of at least 1"), ("miner.shuffle=no", "true or fal")):
        with pytest.raises(UserError, match=answer):
            check(compose(["miner=mine", word], tmp_path), [tmp_path])


def test_what_a_constructor_says_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    from omegaconf import OmegaConf

    from minesweep.config.build import check_arguments

    monkeypatch.syspath_prepend(str(Path(__file__).parent / "own"))
    for node, answer in (
        ({"_target_": "own.Net", "width": 2.5}, "model.width=2.5 must be a whole number"),
        ({"_target_": "own.Net", "wdith": 3}, "no key 'model.wdith': .* did you mean 'width'"),
        ({"_target_": "own.Rings", "size": True}, "model.size=true must be a whole number"),
    ):
        with pytest.raises(UserError, match=answer):
            check_arguments(OmegaConf.create({"model": node}))


def test_home_and_empty_variables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    """``~`` is the home folder; an empty variable is no variable; ignored options are told."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MINESWEEP_RUNS", "~/runs")
    for name in ("WANDB_MODE", "WANDB_RUN_ID", "WANDB_PROJECT", "WANDB_BASE_URL"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("WANDB_DISABLED", "")
    done = cli(*QUICK, "logger=tensorboard", f"hydra.run.dir={tmp_path / 'elsewhere'}", "study=1e3")
    assert done.returncode == 0, done.stderr
    assert "minesweep: hydra.run.dir is ignored: runs lie in paths.runs_dir" in done.stderr
    assert list((tmp_path / "home" / "runs" / "1e3").glob("*/status.json"))
    assert not (tmp_path / "elsewhere").exists()
    assert not (ROOT / "~").exists()
    done = cli(*QUICK, "logger=none", "paths.runs_dir=~/others", "miner.ratio=2")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "Traceback" not in done.stderr


def test_an_empty_folder_variable_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINESWEEP_RUNS", "")
    monkeypatch.setenv("MINESWEEP_DATA", " ")
    assert dict(compose().paths) == {"data_dir": "data", "runs_dir": "runs"}
