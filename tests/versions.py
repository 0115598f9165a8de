"""The suite with the lowest versions that pyproject.toml declares, the newest, and other Pythons.

    python tests/versions.py                         # all of them (make versions); hours
    python tests/versions.py lowest --tests tests/test_config.py --keep

Each environment is built from nothing, and removed again without ``--keep``. A run of the whole
suite is kept in ``results/versions.json``, and ``results/versions.md`` is the table of it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
STORED = ROOT / "results" / "versions.json"
# The FAISS of a GPU excludes the other; `bench` names nothing that others do not.
LEFT_OUT = ("gpu", "bench")
# Each wants a newer one of another package than is declared, which would keep its lowest out.
APART = ("import-linter", "wandb-workspaces", "wordllama")
# Files of it are read and it is not imported, so that it needs none of what it asks for.
FILES = ("wordllama",)
# Newer ones want NumPy 2 without declaring it, or warn the lowest Matplotlib of old spellings.
BELOW = ("pyarrow<18", "pyparsing<3.3")
SHOWN = ("torch", "numpy", "hydra-core", "omegaconf", "optuna", "pytorch-metric-learning")
VERSIONS = (
    "import importlib.metadata as m, json, platform, sys; names = json.loads(sys.argv[1]); "
    "held = {d.metadata['Name'].lower(): d.version for d in m.distributions()}; "
    "print(json.dumps([platform.python_version(), {n: held.get(n.lower()) for n in names}]))"
)


@dataclass(frozen=True)
class Environment:
    """One environment: the Python that makes it, what pip is told, and what that is."""

    python: str
    words: Callable[[], list[str]]
    is_what: str
    alone: Callable[[], list[str]] = list
    """What pip is told to install without what that asks for."""


def declared() -> list[Requirement]:
    """What pyproject.toml asks for, with the extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    words = [word for extra in extras if extra not in LEFT_OUT for word in extras[extra]]
    return [Requirement(word) for word in [*project["dependencies"], *words]]


def pinned() -> list[str]:
    return ["-c", str(ROOT / "constraints.txt"), *map(str, declared())]


def lowest() -> list[str]:
    return [*(exact(one) for one in declared() if one.name not in APART), *BELOW]


def lowest_files() -> list[str]:
    return [exact(one) for one in declared() if one.name in FILES]


def exact(requirement: Requirement) -> str:
    """``name==X`` of ``name>=X``; what declares no bound is taken as it comes."""
    bounds = [part.version for part in requirement.specifier if part.operator == ">="]
    return f"{requirement.name}=={bounds[0]}" if bounds else requirement.name


def newest() -> list[str]:
    """The newest releases, and beyond the upper bounds: candidates of Hydra's next, too."""
    beyond = {"hydra-core": ">=1.4.0rc1", "omegaconf": ">=2.4"}
    names = (requirement.name for requirement in declared())
    return [name + beyond.get(name, "") for name in names]


ENVIRONMENTS = {
    "pinned": Environment("python3.11", pinned, "the pinned versions"),
    "python-3.13": Environment("python3.13", pinned, "the pinned versions, with Python 3.13"),
    "lowest": Environment(
        "python3.11", lowest, "the lowest versions that are declared", lowest_files
    ),
    "newest": Environment("python3.11", newest, "the newest, with Hydra's next"),
}


def runs(python: str) -> bool:
    """Whether there is this Python; a stand-in on the PATH may only say that there is none."""
    found = shutil.which(python)
    return bool(found) and not subprocess.run([found, "-c", ""], capture_output=True).returncode


def built(name: str, folder: Path) -> Path:
    """The Python of a new environment with the packages."""
    subprocess.run([ENVIRONMENTS[name].python, "-m", "venv", "--clear", folder], check=True)
    python = folder / "bin" / "python"
    install(python, *ENVIRONMENTS[name].words())
    if alone := ENVIRONMENTS[name].alone():
        install(python, "--no-deps", *alone)
    return python


def install(python: Path, *words: str | Path) -> None:
    command = [python, "-m", "pip", "install", "--quiet", "--no-compile"]
    subprocess.run([*command, *words], check=True)


def tried(python: Path, words: list[str]) -> dict[str, Any]:
    """What the suite says in an environment."""
    report = python.parents[1] / "suite.xml"
    paths = {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": ""}
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    start = time.monotonic()
    done = subprocess.run([*command, *words], cwd=ROOT, env=os.environ | paths, check=False)
    seconds = time.monotonic() - start
    names = json.dumps(sorted({requirement.name for requirement in declared()}))
    found = subprocess.run([python, "-c", VERSIONS, names], check=True, capture_output=True)
    number, versions = json.loads(found.stdout)
    facts = {"python": number, "versions": versions, "seconds": round(seconds)}
    if done.returncode > 1:  # neither all passed nor some failed
        return facts | {"passed": 0, "failed": [f"pytest exits with {done.returncode}"]}
    return facts | counts(report)


def counts(report: Path) -> dict[str, Any]:
    """How many tests passed and were skipped, and the names of those that failed."""
    passed, skipped, failed = 0, 0, []
    for case in ET.parse(report).iter("testcase"):
        said = {part.tag for part in case}
        if said & {"failure", "error"}:
            failed.append(f"{case.get('classname')}::{case.get('name')}")
        elif "skipped" in said:
            skipped += 1
        else:
            passed += 1
    return {"passed": passed, "failed": failed, "skipped": skipped}


def table(stored: dict[str, Any]) -> str:
    """The Markdown table of the stored runs, in the order of ``ENVIRONMENTS``."""
    heads = ["environment", "Python", *SHOWN, "passed", "failed", "skipped", "minutes"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, environment in ENVIRONMENTS.items():
        if row := stored.get(name):
            versions = [row["versions"][package] or "none" for package in SHOWN]
            numbers = [row["passed"], len(row["failed"]), row.get("skipped", 0)]
            said = [*numbers, f"{row['seconds'] / 60:.0f}"]
            cells = [environment.is_what, row["python"], *versions, *map(str, said)]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def keep(name: str, row: dict[str, Any]) -> None:
    """Puts a run into the stored ones, which are read again: two may run at once."""
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    stored[name] = row
    STORED.write_text(json.dumps(stored, indent=1) + "\n")
    STORED.with_suffix(".md").write_text(table(stored))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(ENVIRONMENTS)} (default: all)")
    parser.add_argument("--tests", nargs="+", default=[], help="files (default: the whole suite)")
    parser.add_argument("--jobs", type=int, default=1, help="processes of the suite (default: 1)")
    parser.add_argument("--keep", action="store_true", help="keep environments, and use those kept")
    parser.add_argument("--into", type=Path, default=ROOT / ".versions", help="where they are made")
    options = parser.parse_args()
    if unknown := set(options.names) - set(ENVIRONMENTS):
        parser.error(f"{min(unknown)} is none of {', '.join(ENVIRONMENTS)}")
    failed = False
    for name in options.names or ENVIRONMENTS:
        if not runs(ENVIRONMENTS[name].python):
            print(f"{name}: there is no {ENVIRONMENTS[name].python} on the PATH; left out")
            continue
        folder = options.into / name
        python = folder / "bin" / "python"
        if not (options.keep and python.exists()):
            python = built(name, folder)
        install(python, "--no-deps", "--editable", ROOT)  # an environment kept may have another
        row = tried(python, [*options.tests, *(["-n", str(options.jobs)] * (options.jobs > 1))])
        print(table({name: row}), *row["failed"], sep="\n", flush=True)
        failed |= bool(row["failed"])
        if not options.tests:
            keep(name, row)
        if not options.keep:
            shutil.rmtree(folder)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
