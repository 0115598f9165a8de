"""How costs grow: a study's tools against finished trials, mining against its input.

    python benchmarks/growth.py       # ten minutes; writes results/growth.json, .md and .png

A study of N trials is a grid of two miners, learning rates and ten seeds. A run of each miner is
trained; the other folders are copies of it with a setting, an identity and values of their own.
Measured are whole processes, by the processor's seconds and the peak of resident memory:

- ``check``: ``src/sweep.py FILE --check``, every trial finished;
- ``resume``: ``src/sweep.py FILE`` until its only missing trial begins to train;
- ``report``: ``src/report.py`` on the study;
- ``index``, ``index again``: ``src/dashboard.py --no-tensorboard`` on the folder of runs.

Mining against the number of points n, and the in-batch miners against the batch B, are read from
what ``benchmarks/mining.py`` and ``benchmarks/in_batch.py`` stored.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import yaml
from common import RESULTS, facts, options, write

from minesweep.config.compose import compose
from minesweep.config.entry import clear_errors
from minesweep.config.identity import Config, identity, plain, run_folder, run_name
from minesweep.training.run import run as train

ROOT = Path(__file__).resolve().parents[1]
SHORT = ["dataset=digits", "trainer.max_steps=50", "trainer.threads=1", "logger=none"]
TRIALS, SEEDS, MINERS = (1, 10, 100, 1_000, 10_000), 10, ("random_k", "ohem")
TICKS = os.sysconf("SC_CLK_TCK")
Curves = dict[str, dict[int, float]]
"""By name, then number of trials."""
Cost = tuple[float, float]
"""Processor seconds, and MiB of resident memory at its peak."""


def main(argv: list[str] | None = None) -> None:
    parser = options(str(__doc__), "growth", rounds=3)
    parser.add_argument("--trials", type=int, nargs="+", default=TRIALS)
    given = parser.parse_args(argv)
    seconds: Curves = {}
    memory: Curves = {}
    pages: Curves = {}
    for count in given.trials:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            last = grow(place, count)
            for name, (taken, peak) in costs(place, last, given.rounds).items():
                seconds.setdefault(name, {})[count] = taken
                memory.setdefault(name, {})[count] = peak
            for name, page in {
                "report": "growth/report/report.html",
                "index": "index.html",
            }.items():
                pages.setdefault(name, {})[count] = (place / page).stat().st_size / 2**20
            print(count, {name: (v[count], memory[name][count]) for name, v in seconds.items()})
    store(given.output, given.note, seconds, memory, pages)


def store(path: Path, note: str, seconds: Curves, memory: Curves, pages: Curves) -> None:
    """Numbers, a table of them, and the plot."""
    curves = {
        "finished trials": seconds,
        "points n": mining_curves(),
        "batch B": in_batch_curves(),
    }
    details = {**curves, "MiB at the peak": memory, "MiB of a page": pages}
    write(path, [], details, note=note, **facts())
    path.with_suffix(".md").write_text(table(seconds, memory, pages))
    draw(curves, memory, path.with_suffix(".png"))


def table(seconds: Curves, memory: Curves, pages: Curves) -> str:
    """Processor seconds, MiB at the peak and MiB of the page, a row a tool."""
    counts = list(next(iter(seconds.values())))
    head = ["", *(f"{count:,} trials" for count in counts)]
    lines = [head, ["---"] * len(head)]
    for name, points in seconds.items():
        cells = [f"{points[c]:.1f} s, {memory[name][c]:.0f} MiB" for c in counts]
        if name in pages:
            cells = [
                f"{cell}, page {pages[name][c]:.1f} MiB"
                for cell, c in zip(cells, counts, strict=True)
            ]
        lines.append([name, *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def grow(place: Path, count: int) -> Path:
    """A sweep file of so many trials, and a finished run for each; returns the last one."""
    seeds = min(count, SEEDS)
    miners = MINERS if count >= 2 * seeds else MINERS[:1]
    rates = [round(0.1 + 0.0001 * i, 4) for i in range(count // seeds // len(miners))]
    for miner in miners:
        cfg = compose(
            [
                *SHORT,
                f"miner={miner}",
                "study=growth",
                "trainer.progress=false",
                f"paths.runs_dir={place}",
            ]
        )
        train(cfg)
        first = run_folder(cfg)
        files = {path.name: path.read_text() for path in first.iterdir() if path.is_file()}
        shutil.rmtree(first)
        tree = plain(cfg)
        for tree["optimizer"]["lr"] in rates:
            for tree["seed"] in range(seeds):
                last = run_folder(tree)
                write_run(last, files, tree)
    content = {
        "program": str(ROOT / "src" / "train.py"),
        "method": "grid",
        "command": ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}", *SHORT],
        "parameters": {
            "study": {"value": "growth"},
            "miner": {"values": list(miners)},
            "optimizer.lr": {"values": rates},
            "seed": {"values": list(range(seeds))},
        },
    }
    (place / "sweep.yaml").write_text(yaml.safe_dump(content))
    return last


def write_run(folder: Path, files: dict[str, str], cfg: Config) -> None:
    """A finished run of this configuration, its values a little off those of ``files``."""
    folder.mkdir()
    config = re.sub("(?m)^seed: 0$", f"seed: {cfg['seed']}", files["config.yaml"])
    config = re.sub("(?m)^  lr: .*$", f"  lr: {cfg['optimizer']['lr']}", config)
    off = 1 - 0.05 * random.Random(folder.name).random()

    def own(found: re.Match[str]) -> str:
        return f'"{found[1]}": {float(found[2]) * off!r}'

    for name, text in files.items():
        if name in ("journal.jsonl", "summary.json"):
            text = re.sub(r'"((?:val|test|train)/\w+)": ([\d.e-]+)', own, text)
        elif name == "status.json":
            text = json.dumps(json.loads(text) | {"identity": identity(cfg), "name": run_name(cfg)})
        (folder / name).write_text(config if name == "config.yaml" else text)


def costs(place: Path, last: Path, rounds: int) -> dict[str, Cost]:
    """The cheapest of some rounds of each case."""
    file, study = str(place / "sweep.yaml"), str(place / "growth")
    sweep = ["sweep.py", file, f"paths.runs_dir={place}"]
    index = partial(call, place, ["dashboard.py", str(place), "--no-tensorboard"])
    cases: dict[str, Callable[[], Cost]] = {
        "check": partial(call, place, [*sweep, "--check"]),
        "resume": partial(first_trial, place, sweep, last),
        "report": partial(call, place, ["report.py", study]),
        "index": partial(anew, place, index),
        "index again": index,
    }
    found: dict[str, Cost] = {}
    for name, case in cases.items():
        found[name] = min(case() for _ in range(rounds))
    return found


def anew(place: Path, index: Callable[[], Cost]) -> Cost:
    """The index page without what the scan before kept."""
    (place / ".dashboard.json").unlink(missing_ok=True)
    return index()


def call(place: Path, words: Sequence[str]) -> Cost:
    """A process from its begin to its end."""
    with begin(place, words) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (place / "log").read_text()
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def first_trial(place: Path, words: Sequence[str], trial: Path) -> Cost:
    """A sweep until its only missing trial has made its folder; then it is stopped."""
    kept = trial.rename(place / "kept")
    with begin(place, words) as process:
        while not (trial / "config.yaml").exists():
            assert process.poll() is None, (place / "log").read_text()
            time.sleep(0.02)
        used = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.send_signal(signal.SIGKILL)
    shutil.rmtree(trial)
    kept.rename(trial)
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert peak is not None
    return (int(used[11]) + int(used[12])) / TICKS, int(peak[1]) / 1024


def begin(place: Path, words: Sequence[str]) -> subprocess.Popen[bytes]:
    script, *rest = words
    with (place / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "src" / script), *rest],
            cwd=place,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def mining_curves() -> Curves:
    """Seconds to mine for all n points as anchors, by index, at 64 clustered dimensions."""
    path = RESULTS / "mining.json"
    curves: Curves = {}
    for row in json.loads(path.read_text())["details"]["cells"] if path.exists() else []:
        if row["dim"] == 64 and row["data"] == "clustered":
            curves.setdefault(row["index"], {})[row["n"]] = row["all_rows_seconds"]
    return curves


def in_batch_curves() -> Curves:
    """Seconds a call, by miner."""
    path = RESULTS / "in_batch.json"
    curves: Curves = {}
    for size, cell in json.loads(path.read_text())["details"].items() if path.exists() else []:
        for name, miner in cell["miners"].items():
            curves.setdefault(name, {})[int(size)] = miner["median_ms"] / 1e3
    return curves


def draw(curves: dict[str, Curves], memory: Curves, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    first, *others = [(axis, "seconds", lines) for axis, lines in curves.items() if lines]
    shown = [first, (first[0], "MiB at the peak", memory), *others]
    figure, axes = plt.subplots(1, len(shown), figsize=(6 * len(shown), 5), squeeze=False)
    for plot, (axis, unit, lines) in zip(axes[0], shown, strict=True):
        for name, points in lines.items():
            plot.plot(list(points), list(points.values()), marker="o", label=name)
        plot.set(xscale="log", yscale="log", xlabel=axis, ylabel=unit)
        plot.grid(alpha=0.3)
        plot.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    print(path)


if __name__ == "__main__":
    with clear_errors():
        main()
