"""How costs grow: a sweep's start and the report against finished trials, mining against its input.

    python benchmarks/growth.py       # ten minutes; writes results/growth.json and growth.png

A sweep's start is ``src/sweep.py --check`` on a file whose trials are all finished, the report is
``src/report.py`` on their folder; whole processes. The folders are copies of one run that was
trained, each with its own seed. Mining against the number of points n, and the in-batch miners
against the batch B, are read from what ``benchmarks/mining.py`` and ``benchmarks/in_batch.py``
stored.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from common import RESULTS, facts, in_turns, options, write

from minesweep.config.compose import compose
from minesweep.config.entry import clear_errors
from minesweep.config.identity import identity, run_folder, run_name
from minesweep.training.run import run as train

ROOT = Path(__file__).resolve().parents[1]
SHORT = ["dataset=digits", "trainer.max_steps=50", "trainer.threads=1", "logger=none"]
TRIALS, MOST_REPORTED = (1, 10, 100, 1_000, 10_000), 1_000


def main(argv: list[str] | None = None) -> None:
    parser = options(str(__doc__), "growth", rounds=3)
    parser.add_argument("--trials", type=int, nargs="+", default=TRIALS)
    given = parser.parse_args(argv)
    curves: dict[str, dict[str, dict[int, float]]] = {"finished trials": {}}
    with tempfile.TemporaryDirectory() as folder:
        for count in given.trials:
            place = Path(folder) / str(count)
            grow(place, count)
            for name, seconds in sweep_seconds(place, count, given.rounds).items():
                curves["finished trials"].setdefault(name, {})[count] = min(seconds)
            shutil.rmtree(place)
    curves["points n"], curves["batch B"] = mining_curves(), in_batch_curves()
    write(given.output, [], curves, note=given.note, **facts())
    draw(curves, given.output.with_suffix(".png"))


def grow(place: Path, count: int) -> None:
    """A sweep file of so many seeds, and a finished run for each."""
    cfg = compose([*SHORT, "study=growth", "trainer.progress=false", f"paths.runs_dir={place}"])
    train(cfg)
    first = run_folder(cfg)
    config, status = (
        (first / "config.yaml").read_text(),
        json.loads((first / "status.json").read_text()),
    )
    assert re.search("^seed: 0$", config, re.MULTILINE)
    for seed in range(1, count):
        cfg.seed = seed
        folder = run_folder(cfg)
        shutil.copytree(first, folder, ignore=shutil.ignore_patterns("checkpoints"))
        (folder / "config.yaml").write_text(re.sub("(?m)^seed: 0$", f"seed: {seed}", config))
        own = {**status, "identity": identity(cfg), "name": run_name(cfg)}
        (folder / "status.json").write_text(json.dumps(own))
    content = {
        "program": str(ROOT / "src" / "train.py"),
        "method": "grid",
        "command": ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}", *SHORT],
        "parameters": {"study": {"value": "growth"}, "seed": {"values": list(range(count))}},
    }
    (place / "sweep.yaml").write_text(yaml.safe_dump(content))


def sweep_seconds(place: Path, count: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of a start, and of a report where there are not too many trials for one page."""
    entry = partial(call, place)
    start = ["sweep.py", str(place / "sweep.yaml"), "--check", f"paths.runs_dir={place}"]
    cases: dict[str, Callable[[], Any]] = {"sweep.py --check": partial(entry, *start)}
    if count <= MOST_REPORTED:
        cases["report.py"] = partial(entry, "report.py", str(place / "growth"))
    return in_turns(cases, rounds)


def call(place: Path, script: str, *words: str) -> None:
    command = [sys.executable, str(ROOT / "src" / script), *words]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def mining_curves() -> dict[str, dict[int, float]]:
    """Seconds to mine for all n points as anchors, by index, at 64 clustered dimensions."""
    path = RESULTS / "mining.json"
    curves: dict[str, dict[int, float]] = {}
    for row in json.loads(path.read_text())["details"]["cells"] if path.exists() else []:
        if row["dim"] == 64 and row["data"] == "clustered":
            curves.setdefault(row["index"], {})[row["n"]] = row["all_rows_seconds"]
    return curves


def in_batch_curves() -> dict[str, dict[int, float]]:
    """Seconds a call, by miner."""
    path = RESULTS / "in_batch.json"
    curves: dict[str, dict[int, float]] = {}
    for size, cell in json.loads(path.read_text())["details"].items() if path.exists() else []:
        for name, miner in cell["miners"].items():
            curves.setdefault(name, {})[int(size)] = miner["median_ms"] / 1e3
    return curves


def draw(curves: dict[str, dict[str, dict[int, float]]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = {axis: lines for axis, lines in curves.items() if lines}
    figure, axes = plt.subplots(1, len(shown), figsize=(6 * len(shown), 5), squeeze=False)
    for plot, (axis, lines) in zip(axes[0], shown.items(), strict=True):
        for name, points in lines.items():
            plot.plot(list(points), list(points.values()), marker="o", label=name)
        plot.set(xscale="log", yscale="log", xlabel=axis, ylabel="seconds")
        plot.grid(alpha=0.3)
        plot.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    print(path)


if __name__ == "__main__":
    with clear_errors():
        main()
