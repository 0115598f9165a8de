"""A rule for each kind of command that README and documentation show, by its first words."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from minesweep.config.checks import check
from minesweep.config.compose import compose


def train_words(command: str) -> list[str]:
    """The overrides of a training command; a folder of the reader's is one of the tests'."""
    words = shlex.split(command)
    words = words[words.index("src/train.py") + 1 :]
    return ["tests/own" if word == "my_conf" else word for word in words]


def split_config_dir(words: list[str]) -> tuple[list[str], Path | None]:
    """Overrides, and the folder that ``--config-dir`` names."""
    if "--config-dir" not in words:
        return [word for word in words if "=" in word], None
    at = words.index("--config-dir")
    return [word for word in words[:at] + words[at + 2 :] if "=" in word], ROOT / words[at + 1]


def is_training(command: str) -> None:
    """The configuration composes and passes each check that precedes a run."""
    overrides, folder = split_config_dir(train_words(command))
    if "-m" not in command.split():
        check(compose(overrides, folder))


def is_sweep(command: str) -> None:
    """The options are read, the file and the launcher exist, and the first trial composes."""
    from minesweep.sweeps.command import command as as_hydra
    from minesweep.sweeps.spec import read
    from minesweep.sweeps.trials import trials

    words = ["tests/own" if word == "my_conf" else word for word in shlex.split(command)[2:]]
    options = parsed("sweep", words)
    assert as_hydra(options)
    sweep = read(options.file)
    overrides = [word for word in options.overrides if not word.startswith("hydra.")]
    check(compose([*trials(sweep)[0], *overrides], options.config_dir))


def is_report(command: str) -> None:
    """The options are read; the same options run on a study in another test."""
    assert "--help" not in command
    assert re.match(r"python src/report\.py runs(/|$)", command)


def is_dashboard(command: str) -> None:
    """The options are read; the real service is never called."""
    assert parsed("dashboard", shlex.split(command)[2:])


def is_target(command: str) -> None:
    """``make`` knows the target and would run it."""
    subprocess.run(["make", "-n", *shlex.split(command)[1:]], cwd=ROOT, check=True, timeout=30)


def is_torchrun(command: str) -> None:
    overrides, _ = split_config_dir(train_words(command))
    assert compose(overrides).trainer.parallel == "ddp"
    assert shutil.which("torchrun", path=str(Path(sys.executable).parent))


def is_wandb(command: str) -> None:
    """W&B's own command line has the command; a sweep file is one that Minesweep reads too."""
    from wandb.cli.cli import cli

    from minesweep.sweeps.spec import read

    _, name, *words = shlex.split(command)
    assert name in cli.commands
    if name == "sweep":
        assert read(words[-1])


def is_minesweep(command: str) -> None:
    """A command of the package is the entry of the same name; ``init`` has a test of its own."""
    _, name, *words = shlex.split(command)
    written = shlex.join(["python", f"src/{name}.py", *words])
    if name in ("train", "sweep", "report") and "sweep.yaml" not in words:
        RULES[f"python src/{name}.py"](written)
    else:
        assert name in ("init", "sweep", "dashboard")


def is_shell(command: str) -> None:
    assert command in (
        "source .venv/bin/activate",
        "pre-commit install",
        "cd my_problem",
        "pip install -e '.[slurm]'",
        "export 'MINESWEEP_RUNS=$HOME/runs'",
        "python -m pytest -q test_mine.py",
        "pip install '$(ls dist/minesweep-*.whl)[cpu]'",
        "eval '$(minesweep -sc install=bash)'",
    )


RULES: dict[str, Callable[[str], None]] = {
    "python src/train.py": is_training,
    "python src/sweep.py": is_sweep,
    "python src/report.py": is_report,
    "python src/dashboard.py": is_dashboard,
    "make ": is_target,
    "torchrun ": is_torchrun,
    "wandb ": is_wandb,
    "source ": is_shell,
    "minesweep ": is_minesweep,
    "cd ": is_shell,
    "python -m pytest": is_shell,
    "pip install": is_shell,
    "eval ": is_shell,
    "export ": is_shell,
    "pre-commit ": is_shell,
}


def load(entry: str) -> Any:
    """The module ``src/<entry>.py``."""
    spec = importlib.util.spec_from_file_location(f"entry_{entry}", ROOT / "src" / f"{entry}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parsed(entry: str, words: list[str]) -> Any:
    """The options that an entry reads from ``words``."""
    module = load(entry)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{entry}.py", *words])
        return module.parse_arguments()
