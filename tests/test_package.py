"""The command ``minesweep``, and the wheel that brings it to any folder."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from minesweep.cli import COMMANDS, main
from minesweep.config.compose import compose
from minesweep.config.equal_cost import with_equal_cost
from minesweep.config.places import command, from_here
from minesweep.dashboard.index import write_index
from minesweep.errors import UserError
from minesweep.sweeps.spec import read

QUICK = ("trainer.max_steps=5", "trainer.threads=1", "trainer.batch_size=64", "logger=none")


def started(
    *words: str, cwd: Path, python: str = sys.executable, timeout: int = 250
) -> subprocess.CompletedProcess:
    """``minesweep WORDS`` as its console script starts it."""
    code = "import sys; sys.argv[0] = 'minesweep'; from minesweep.cli import main; main()"
    environment = {name: text for name, text in os.environ.items() if name != "MINESWEEP_RUNS"}
    return subprocess.run(
        [python, "-c", code, *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def refused(monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    monkeypatch.setattr(sys, "argv", ["minesweep", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return str(ended.value.code)


def test_the_commands_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(monkeypatch) == "2"
    assert refused(monkeypatch, "--help") == "0"
    told = capsys.readouterr().out
    assert all(f"  {name} " in told for name in COMMANDS)
    assert refused(monkeypatch, "trian") == "minesweep: no command 'trian'; did you mean 'train'?"


def test_each_command_has_its_entry() -> None:
    from minesweep.config.places import ENTRIES

    assert all((ENTRIES / f"{name}.py").is_file() for name in COMMANDS if name != "init")


def test_a_folder_that_holds_something_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").touch()
    told = refused(monkeypatch, "init", str(tmp_path))
    assert told == f"minesweep: {tmp_path} exists and is not empty: name a new folder"
    assert refused(monkeypatch, "init") == "2"
    assert "cannot be written" in refused(monkeypatch, "init", str(tmp_path / "notes.txt" / "a"))
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_the_commands_complete(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", "minesweep re")
    assert refused(monkeypatch, "-sc", "query=bash") == "0"
    assert capsys.readouterr().out.split() == ["report"]


def test_hydra_completes_what_follows_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMP_LINE", "minesweep train miner=oh")
    monkeypatch.setenv("COMP_POINT", "24")
    done = started("-sc", "query=bash", cwd=tmp_path)
    assert done.stdout.split() == ["miner=ohem"], done.stderr


def test_a_sweep_is_known_by_its_name(tmp_path: Path) -> None:
    words = ["--check", "dataset=digits", "trainer.equal_cost=null", "seed=0"]
    done = started("sweep", "does_it_help", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "nothing was run" in done.stdout
    assert "does_it_hel: No such file" in started("sweep", "does_it_hel", cwd=tmp_path).stderr


def told(node: ast.AST) -> Iterator[str]:
    """The texts of a file's code but for the strings that document it."""
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Constant):
            continue
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value
        yield from told(inner)


def test_no_message_names_a_file_that_a_wheel_lacks() -> None:
    """A command is spelled by ``minesweep.config.places.command``."""
    package = ROOT / "src" / "minesweep"
    texts = {path: path.read_text() for path in package.rglob("*.j2")}
    for path in [*package.rglob("*.py"), *(ROOT / "src").glob("*.py")]:
        texts[path] = "\n".join(told(ast.parse(path.read_text())))
    hydra = yaml.safe_load((ROOT / "conf" / "train.yaml").read_text())["hydra"]
    texts[ROOT / "conf" / "train.yaml"] = yaml.safe_dump(hydra)
    wrong = {
        str(path): re.findall(r"python src/.*|src/\w+\.py \S.*", t) for path, t in texts.items()
    }
    assert {path: found for path, found in wrong.items() if found} == {}


def test_commands_are_spelled_as_they_are_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert command("sweep") == "python src/sweep.py"
    assert read("nk").started() == ["python", "src/train.py"]
    monkeypatch.chdir(tmp_path)
    assert command("sweep") == "minesweep sweep"


def test_a_command_names_a_folder_from_where_it_is_typed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert from_here(tmp_path / "my conf" / "..") == "."
    assert from_here(tmp_path / "a" / "conf") == from_here("a/conf") == str(Path("a") / "conf")
    assert from_here(ROOT / "tests") == str(ROOT / "tests")
    assert read("nk").started() == ["minesweep", "train"]
    costs = ["dataset=digits", "trainer.equal_cost=auto"]
    with pytest.raises(UserError, match="minesweep sweep FILE --check measures the arms"):
        with_equal_cost(compose(costs))
    (tmp_path / "runs").mkdir()
    assert "minesweep train makes one" in write_index(tmp_path / "runs").read_text()
    words = started("train", "--help", cwd=tmp_path)
    assert "  minesweep train miner=ohem miner.k=384\n" in words.stdout, words.stderr


def test_a_folder_to_start_from_trains(tmp_path: Path) -> None:
    """``init`` in the checkout: each of its parts, and its own test."""
    assert started("init", "mine", cwd=tmp_path).returncode == 0
    folder = tmp_path / "mine"
    assert len((folder / "README.md").read_text().splitlines()) <= 10
    words = ["--config-dir", "conf", "dataset=mine", "model=mine", "miner=mine", *QUICK]
    done = started("train", *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert list((folder / "runs" / "single").glob("above_mean-n64-s0-*/summary.json"))
    wrong = started("train", *words, "miner.factor=much", cwd=folder)
    assert wrong.stderr == "minesweep: miner.factor=much must be a number of at least 0\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    words = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", *words, str(ROOT)], check=True, timeout=250)
    (built,) = folder.glob("minesweep-*.whl")
    return built


def test_the_wheel_holds_what_is_read(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, place in (("conf", "conf"), ("sweeps", "sweep_files"), ("template", "template")):
        files = [path for path in (ROOT / folder).rglob("*") if path.is_file()]
        wanted = {f"minesweep/{place}/{path.relative_to(ROOT / folder)}" for path in files}
        assert {name for name in wanted if "__pycache__" not in name} <= names
    assert {f"minesweep/entries/{name}.py" for name in COMMANDS if name != "init"} <= names
    assert {f"hydra_plugins/minesweep_{name}.py" for name in ("sweeper", "arms")} <= names
    assert not any("__pycache__" in name or name.startswith("tests") for name in names)


@pytest.mark.slow
@pytest.mark.timeout(3600)  # half a minute of work for a core that has nothing else to do
def test_the_installed_wheel_runs_in_an_empty_folder(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installed into an environment that sees the packages of this one, but not the checkout."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    packages = [path for path in sys.path if path.endswith("site-packages")]
    lines = [f"import site; site.addsitedir({path!r})" for path in packages]
    (site / "zzz_packages.pth").write_text("\n".join(lines) + "\n")
    zipfile.ZipFile(wheel).extractall(site)
    empty = tmp_path / "empty"
    empty.mkdir()

    def ran(*words: str, cwd: Path = empty) -> str:
        done = started(*words, cwd=cwd, python=str(python), timeout=1800)
        assert done.returncode == 0, done.stderr
        return done.stdout

    code = "import minesweep; print(minesweep.__file__)"
    place = subprocess.run([python, "-c", code], cwd=empty, capture_output=True, text=True)
    assert place.stdout.strip() == str(site / "minesweep" / "__init__.py")
    ran("train", "dataset=digits", *QUICK)
    small = ["dataset=digits", "seed=0", "trainer.max_steps=20", "trainer.equal_cost=null"]
    ran("sweep", "does_it_help", "--count=3", *small, "trainer.batch_size=64", "logger=none")
    ran("report", "runs/does_it_help")
    assert (empty / "runs" / "does_it_help" / "report" / "report.html").exists()
    ran("dashboard", "--no-tensorboard")
    ran("init", "my_problem")
    ran("sweep", "sweep.yaml", "--config-dir", "conf", cwd=empty / "my_problem")
    summaries = list((empty / "my_problem" / "runs" / "mine").glob("*/summary.json"))
    assert len(summaries) == 12
    assert all(json.loads(path.read_text())["test/accuracy"] > 0.6 for path in summaries)
    tested = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"],
        cwd=empty / "my_problem",
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert tested.returncode == 0, tested.stdout
