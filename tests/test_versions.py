"""What `make versions` installs and counts, and the table of its stored runs."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import versions
import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.version import Version

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SUITE = """
import pytest

@pytest.fixture
def broken():
    raise OSError

def test_passes(): pass
def test_fails(): assert False
def test_cannot_begin(broken): pass
@pytest.mark.parametrize("n", [1, 2])
def test_is_skipped(n): pytest.skip("no")
@pytest.mark.xfail
def test_is_expected_to_fail(): assert False
"""


def test_the_lowest_versions_are_those_declared() -> None:
    words = [Requirement(word) for word in versions.lowest()]
    asked = {word.name: word.specifier for word in words}
    for requirement in versions.declared():
        if requirement.name in versions.APART:
            assert requirement.name not in asked
            continue
        if "stubs" in requirement.name or requirement.name.startswith("types-"):
            continue
        (part,) = asked[requirement.name]
        assert part.operator == "=="
        assert requirement.specifier.contains(part.version)
        lower = Version(f"{part.version}.dev0")
        assert not requirement.specifier.contains(lower, prereleases=True), requirement


def test_every_extra_is_installed_but_those_named() -> None:
    names = {requirement.name for requirement in versions.declared()}
    extras = PROJECT["optional-dependencies"]
    assert set(versions.LEFT_OUT) <= set(extras)
    for extra, words in extras.items():
        if extra != "gpu":
            assert {Requirement(word).name for word in words} <= names, extra


def test_outcomes_are_counted(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=a.xml"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert versions.counts(tmp_path / "a.xml") == {
        "passed": 1,
        "failed": ["test_it::test_fails", "test_it::test_cannot_begin"],
        "skipped": 3,
    }


def test_a_python_that_is_not_there_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert versions.runs(sys.executable)
    stand_in = tmp_path / "python3.99"
    stand_in.write_text("#!/bin/sh\nexit 127\n")
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not versions.runs("python3.99")
    assert not versions.runs("python3.98")


def test_the_table_is_that_of_the_stored_runs() -> None:
    stored = json.loads(versions.STORED.read_text())
    assert versions.STORED.with_suffix(".md").read_text() == versions.table(stored)
    assert set(stored) <= set(versions.ENVIRONMENTS)
    shown = (ROOT / "docs" / "contributing" / "index.md").read_text()
    assert '--8<-- "results/versions.md"' in shown


def test_the_pythons_are_those_of_the_declaration_and_of_the_workflow() -> None:
    tried = sorted({one.python.removeprefix("python") for one in versions.ENVIRONMENTS.values()})
    (workflow,) = (ROOT / ".github" / "workflows").glob("*.yml")
    job = yaml.safe_load(workflow.read_text())["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == tried
    assert PROJECT["requires-python"] == f">={tried[0]}"
    assert PROJECT["classifiers"] == [f"Programming Language :: Python :: {n}" for n in tried]
