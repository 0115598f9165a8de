"""Every benchmark, one after another, and the table of all of them.

    make bench                                  # installs the peers, then about half an hour
    python benchmarks/bench.py --only ohem epochs
    python benchmarks/bench.py --table          # the table of the stored results alone

Each runs in a process of its own and writes ``results/<name>.json``; ``results/bench.md`` and the
README's table are made from these files.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from common import RESULTS, Row, duration, show

from minesweep.config.entry import clear_errors
from minesweep.errors import UserError
from minesweep.files import write_atomically
from minesweep.words import nearest

HERE = Path(__file__).resolve().parent
NAMES = (
    *("ohem", "row_check", "hard_examples", "epochs", "neighbours", "in_batch", "pairs", "moco"),
    "documents",
    *("sweep_overhead", "startup", "tracking", "step_profile", "growth"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).strip().splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--note", default="", help="kept beside the numbers: the machine's state")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    given = parser.parse_args()
    for name in given.only or NAMES:
        if name not in NAMES:
            raise UserError(f"--only {name}: there is no such benchmark{nearest(name, NAMES)}")
    failed = [] if given.table else [n for n in given.only or NAMES if not run(n, given.note)]
    rows, facts = stored()
    if not rows:
        raise UserError(f"there are no results in {RESULTS}/")
    show(rows)
    write_atomically(RESULTS / "bench.md", markdown(rows, facts))
    print(RESULTS / "bench.md")
    if failed:
        raise UserError(f"failed: {', '.join(failed)}; what they said stands above")


def run(name: str, note: str) -> bool:
    """Whether the benchmark ran to its end."""
    print(f"--- {name}", flush=True)
    command = [sys.executable, str(HERE / f"{name}.py"), "--note", note]
    return subprocess.run(command, check=False).returncode == 0


def stored() -> tuple[list[Row], list[str]]:
    """The rows of all stored results, and a line on what they were measured with."""
    rows, facts = [], []
    for name in NAMES:
        path = RESULTS / f"{name}.json"
        if not path.exists():
            continue
        content = json.loads(path.read_text())
        rows += [
            Row(**{k: v for k, v in row.items() if k in Row.__dataclass_fields__})
            for row in content["rows"]
        ]
        known = content["facts"]
        versions = ", ".join(
            f"{package} {version}" for package, version in known["versions"].items()
        )
        line = f"`{path.stem}`: {versions}; {known['threads']} thread(s), {known['cpu']}"
        line += f", {known['gpu']}" if known["gpu"] else ""
        facts.append(line + (f"; {known['note']}" if known.get("note") else ""))
    return rows, facts


def markdown(rows: list[Row], facts: list[str]) -> str:
    """The table: each row's ratio, the spread of its rounds, its goal, and both times."""
    lines = [
        "| what | against | ratio | spread | goal | | ours | theirs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            row.what + (f" ({row.note})" if row.note else ""),
            row.against,
            f"{row.ratio:.3g} ({row.unit})",
            f"[{row.low:.3g}, {row.high:.3g}]",
            f"at {row.at} {row.goal:g}",
            "met" if row.met else "**missed**",
            duration(row.ours),
            duration(row.theirs),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    met = sum(row.met for row in rows)
    head = f"{met} of {len(rows)} goals met. Ratio: the median of the rounds; spread: all rounds."
    return "\n".join([head, "", *lines, "", *(f"- {line}" for line in facts)]) + "\n"


if __name__ == "__main__":
    with clear_errors():
        main()
