"""The tests with the lowest versions that pyproject.toml declares, or with the newest there are.

python tests/versions.py lowest                        # a new environment, and the whole suite
python tests/versions.py newest tests/test_config.py   # beyond the upper bounds, with candidates

``--beside ENV`` takes what is not asked for from another environment, and ``--keep torch`` what is;
that saves the download of a torch. It prints a table of the versions and what the tests said.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
# Without text, whose lowest wordllama wants a newer NumPy than the rest does.
EXTRAS = ("cpu", "joblib", "slurm", "bayes", "pml", "dev")
INSTALLED = (
    "import importlib.metadata as m, json, sys; "
    "print(json.dumps({n: m.version(n) for n in json.loads(sys.argv[1])}))"
)


def declared() -> list[Requirement]:
    """What pyproject.toml asks for, the extras that the tests use included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    words = project["dependencies"] + [word for extra in EXTRAS for word in extras[extra]]
    return [Requirement(word) for word in words]


def lowest(requirement: Requirement) -> str:
    """``name==X`` of ``name>=X``; what declares no bound is taken as it comes."""
    bounds = [part.version for part in requirement.specifier if part.operator == ">="]
    return f"{requirement.name}=={bounds[0]}" if bounds else requirement.name


def newest(requirement: Requirement) -> str:
    """The name alone: no upper bound holds."""
    return requirement.name


def installed(which: str, words: list[str], into: Path, beside: Path | None) -> Path:
    """An environment with these packages and the checkout; its Python."""
    subprocess.run([sys.executable, "-m", "venv", into], check=True)
    python = into / "bin" / "python"
    options = ["--pre", "--upgrade"] if which == "newest" else []
    if beside is not None:
        options.append("--no-deps")
    command = [python, "-m", "pip", "install", "--quiet", "--no-compile", *options, *words]
    subprocess.run(command, check=True)
    (site,) = into.glob("lib/python*/site-packages")
    paths = [ROOT / "src", *(beside.glob("lib/python*/site-packages") if beside else [])]
    # Behind this environment's own packages; the checkout's have no other of their name.
    (site / "zzz_beside.pth").write_text("".join(f"{path}\n" for path in paths))
    if beside is not None and (wanted := lacking(python, words)):
        subprocess.run([*command, *wanted], check=True)
    return python


def lacking(python: Path, words: list[str]) -> list[str]:
    """What the packages asked for require, and the environment beside has not or otherwise."""
    names = {re.split(r"[=<>!]", word)[0].lower() for word in words}
    told = subprocess.run([python, "-m", "pip", "check"], capture_output=True, text=True).stdout
    line = r"^(\S+) \S+ (?:requires (\S+), which is not|has requirement (.+?), but you have)"
    found = re.findall(line, told, re.MULTILINE)
    return sorted({missing or other for name, missing, other in found if name.lower() in names})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("which", choices=("lowest", "newest"))
    parser.add_argument("tests", nargs="*", help="words for pytest (default: the whole suite)")
    parser.add_argument("--into", type=Path, help="where the environment is made, and kept")
    parser.add_argument("--beside", type=Path, help="an environment for what is not asked for")
    parser.add_argument("--keep", nargs="+", default=[], help="packages that are not asked for")
    parser.add_argument("--only", nargs="+", help="the packages that are asked for; others are not")
    options = parser.parse_intermixed_args()
    only = options.only or [one.name for one in declared()]
    asked = [one for one in declared() if one.name in only and one.name not in options.keep]
    words = [(lowest if options.which == "lowest" else newest)(one) for one in asked]
    into = options.into or ROOT / ".versions" / options.which
    python = into / "bin" / "python"
    if not python.exists():
        python = installed(options.which, sorted(set(words)), into, options.beside)
    names = json.dumps(sorted({requirement.name for requirement in declared()}))
    found = subprocess.run([python, "-c", INSTALLED, names], check=True, capture_output=True)
    versions = json.loads(found.stdout)
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options.tests]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print("| package | declared | here |\n|---|---|---|")
    for requirement in declared():
        kept = "" if requirement in asked else " (kept)"
        here = f"{versions[requirement.name]}{kept}"
        print(f"| {requirement.name} | {requirement.specifier} | {here} |")
    python_version = subprocess.run([python, "--version"], capture_output=True, text=True).stdout
    failed = re.findall(r"^(?:FAILED|ERROR) .*", done.stdout, re.MULTILINE)
    print(f"\n{python_version.strip()}: {done.stdout.strip().splitlines()[-1]}")
    print("\n".join(failed) if failed or not done.returncode else done.stdout + done.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
