"""Imports run one way: the layers of pyproject.toml hold, and there is no circle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("grimp", reason="needs import-linter, which the lowest versions exclude")
import imports

ROOT = Path(__file__).parents[1]


def test_each_package_imports_from_lower_layers_alone() -> None:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    broken = ran.stdout.partition("Broken contracts")[2]
    assert ran.returncode == 0, f"imports that break the layers of pyproject.toml:\n{broken}"


def test_no_files_import_each_other_in_a_circle() -> None:
    found = imports.circles(imports.build())
    told = "\n".join(" <-> ".join(circle) for circle in found)
    assert not found, f"files that import each other, late imports counted:\n{told}"


def test_a_late_import_makes_a_circle(tmp_path: Path) -> None:
    package = tmp_path / "rounded"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "one.py").write_text("import rounded.two\n")
    (package / "two.py").write_text("def late():\n    import rounded.one\n")
    assert imports.circles(imports.build(tmp_path, "rounded")) == [["rounded.one", "rounded.two"]]


def test_the_command_prints_the_graph_in_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    imports.main(imports.SRC)
    told = {line[:20].strip(): line[20:].strip() for line in capsys.readouterr().out.splitlines()}
    assert told["circles"] == "[]"
    assert int(told["modules"]) == sum(1 for _ in (imports.SRC / "minesweep").rglob("*.py"))


def test_no_file_is_longer_than_400_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in imports.SRC.rglob("*.py")
        if (count := imports.lines(path)) > 400
    }
    assert not long, f"split these: {long}"
