"""Every study of the documentation, from the first trial to its stored tables: ``make studies``.

The studies are the ``src/sweep.py`` commands on the pages in ``docs/studies/``. Finished trials do
not run again, so a study goes on where it was stopped. ``results/studies.json`` keeps what each
study took: the estimate of the next time, and the table of ``results/studies.md``.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from minesweep.config.places import runs_folder
from minesweep.errors import UserError
from minesweep.files import write_atomically
from minesweep.tracking.reading import read_yaml
from minesweep.training.folder import read_json
from minesweep.units import duration
from minesweep.words import check_word

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = (
    *("logger=none", "trainer.device=cpu", "trainer.threads=1"),
    *("trainer.progress=false", "--launcher", "joblib"),
)
_BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Study:
    """One command of a page.

    Attributes:
        name: The study's folder in the runs.
        words: What follows ``python src/sweep.py``.
        shown: Whether the page shows its table.
    """

    name: str
    words: tuple[str, ...]
    shown: bool = True


@dataclass(frozen=True)
class Spent:
    """What the finished trials of a study took.

    Attributes:
        trials: Their number.
        seconds: Their training times, added up.
        commits: The versions of the code that they ran.
    """

    trials: int
    seconds: float
    commits: tuple[str, ...]


def find_studies(pages: Path = ROOT / "docs" / "studies") -> list[Study]:
    """The studies in the order of the pages, each once."""
    found: dict[str, Study] = {}
    for page in sorted(pages.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for block in _BLOCK.findall(text):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("python src/sweep.py "):
                    words = tuple(shlex.split(line, comments=True))[2:]
                    name = _name(words)
                    found.setdefault(name, Study(name, words, f"results/{name}.md" in text))
    return list(found.values())


def _name(words: tuple[str, ...]) -> str:
    for word in words:
        if word.startswith("study="):
            return word.removeprefix("study=")
    return str(read_yaml(ROOT / words[0])["parameters"]["study"]["value"])


def spent(folder: Path) -> Spent:
    """Reads what the finished trials of a study took."""
    statuses = [read_json(path) for path in sorted(folder.glob("*/status.json"))]
    finished = [status for status in statuses if status.get("state") == "finished"]
    return Spent(
        len(finished),
        sum(status["seconds"] for status in finished),
        tuple(sorted({str(status["commit"]) for status in finished})),
    )


def in_order(studies: Iterable[Study], stored: dict[str, Any]) -> list[Study]:
    """The cheapest first, those that never ran last; a study that others need is cheaper."""
    return sorted(studies, key=lambda s: stored.get(s.name, {}).get("seconds", float("inf")))


def estimate(studies: list[Study], stored: dict[str, Any], runs: Path, jobs: int) -> Table:
    """What there is to do."""
    table = Table("study", "trials", "finished", "time left")
    left = 0.0
    for study in studies:
        known, done = stored.get(study.name), spent(runs / study.name)
        if known is None:
            trials, time = "?", "?"
        else:
            share = max(0.0, 1 - done.trials / known["trials"])
            left += share * known["seconds"] / jobs
            trials, time = str(known["trials"]), duration(share * known["seconds"] / jobs)
        table.add_row(study.name, trials, str(done.trials), time)
    table.caption = f"about {duration(left)} with {jobs} at a time, by the last time's trials"
    return table


def run(study: Study, runs: Path, results: Path, jobs: int) -> bool:
    """Runs what is left of a study, and keeps its tables; whether both went well."""
    sweep = (str(ROOT / "src" / "sweep.py"), *study.words, *SETTINGS, "--jobs", str(jobs))
    report = (str(ROOT / "src" / "report.py"), str(runs / study.name), "--keep", str(results))
    return all(
        subprocess.run((sys.executable, *words), cwd=ROOT, check=False).returncode == 0
        for words in ((sweep, report) if study.shown else (sweep,))
    )


def keep(study: Study, took: Spent, results: Path) -> None:
    """Stores what a study took, and makes the table of all studies anew."""
    stored = read_stored(results)
    stored[study.name] = {
        "command": shlex.join(("python", "src/sweep.py", *study.words)),
        "trials": took.trials,
        "seconds": round(took.seconds, 1),
        "commits": took.commits,
    }
    write_atomically(results / "studies.json", json.dumps(stored, indent=1, sort_keys=True) + "\n")
    write_atomically(results / "studies.md", overview(stored, results))


def read_stored(results: Path) -> dict[str, Any]:
    """What the studies took the last time, by name."""
    return read_json(results / "studies.json")


def overview(stored: dict[str, Any], results: Path) -> str:
    """The headline of each study, with its size and its version of the code."""
    lines = ["| Study | Headline | Trials | Time of all | Commit |", "|---|---|---|---|---|"]
    for name, took in sorted(stored.items()):
        table = results / f"{name}.md"
        headline = (
            table.read_text(encoding="utf-8").splitlines()[0] if table.exists() else "\N{EN DASH}"
        )
        commits = ", ".join(commit[:7] for commit in took["commits"])
        numbers = f"{took['trials']} | {duration(took['seconds'])} | {commits}"
        lines.append(f"| {name} | {headline} | {numbers} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Runs the studies of the documentation, the cheapest first."
    )
    parser.add_argument("names", nargs="*", help="some of the studies (default: all)")
    parser.add_argument("--jobs", type=int, default=2, help="trials at a time (default: 2)")
    parser.add_argument("--check", action="store_true", help="show the estimate, run nothing")
    options = parser.parse_args(arguments)
    known = {study.name: study for study in find_studies()}
    results, console = ROOT / "results", Console()
    runs = ROOT / runs_folder()
    try:
        for name in options.names:
            check_word("study", name, known)
    except UserError as error:
        print(f"minesweep: {error}", file=sys.stderr)
        return 1
    chosen = [known[name] for name in options.names or known]
    studies = in_order(chosen, read_stored(results))
    console.print(estimate(studies, read_stored(results), runs, options.jobs))
    if options.check:
        console.print("nothing was run")
        return 0
    failed = []
    for study in studies:
        console.rule(study.name)
        if run(study, runs, results, options.jobs):
            keep(study, spent(runs / study.name), results)
        else:
            failed.append(study.name)
    if failed:
        print(f"minesweep: not finished: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
