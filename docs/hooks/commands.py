"""The reference of the command lines: what each prints with ``--help``."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENTRIES = {
    "train": "Train one run",
    "sweep": "Run a sweep file",
    "report": "Report a study or a run",
    "mine": "Mine negatives once",
    "dashboard": "Look at all runs",
}


def page() -> str:
    """A part for each entry."""
    with ThreadPoolExecutor() as pool:
        helps = list(pool.map(shown, ENTRIES))
    lines = ["# Command lines", "", "Each command prints this text with `--help`."]
    for (name, title), text in zip(ENTRIES.items(), helps, strict=True):
        lines += ["", f"## {title}", "", "```text", f"$ python src/{name}.py --help", text, "```"]
    return "\n".join(lines) + "\n"


def shown(name: str) -> str:
    """What ``python src/<name>.py --help`` prints, 90 columns wide."""
    command = [sys.executable, str(ROOT / "src" / f"{name}.py"), "--help"]
    environment = {**os.environ, "COLUMNS": "90", "NO_COLOR": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
