"""How costs grow: a study's tools against finished trials, mining against its input.

    python benchmarks/growth.py       # ten minutes; writes results/growth.json, .md and .png

A study of N trials is a grid of two miners, learning rates and ten seeds. A run of each miner is
trained; the other folders are copies of it with a setting, an identity and values of their own.
Measured are whole processes: their seconds, those of the processor, and the peak of their resident
memory:

- ``check``: ``src/sweep.py FILE --check``, every trial finished;
- ``resume``: ``src/sweep.py FILE`` until its only missing trial has a model and is to take its
  first step;
- ``report``: ``src/report.py`` on the study;
- ``index``, ``index again``: ``src/dashboard.py --no-tensorboard`` on the folder of runs.

``results/growth_before.json`` holds what the same measured of an earlier version; where it lies
there, the table compares the two.

Mining against the number of points n, and the in-batch miners against the batch B, are read from
what ``benchmarks/mining.py`` and ``benchmarks/in_batch.py`` stored.
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from common import RESULTS, facts, options, write

ROOT = Path(__file__).resolve().parents[1]
SHORT = ["dataset=digits", "trainer.max_steps=50", "trainer.threads=1", "logger=none"]
TRIALS, SEEDS, MINERS = (10, 100, 1_000, 10_000), 10, ("random_k", "ohem")
TICKS = os.sysconf("SC_CLK_TCK")
PAGES = {"report": "growth/report/report.html", "index": "index.html"}
BEFORE = "growth_before.json"


class Cost(NamedTuple):
    """What a process takes."""

    processor: float
    """Seconds of the processor."""
    seconds: float
    """From its begin to its end; other processes of the machine may be in it."""
    mib: float
    """Its resident memory at the peak."""
    page: float | None = None
    """MiB of the page that it writes."""


Curves = dict[str, dict[int, float]]
"""By name, then size."""
Costs = dict[str, dict[int, Cost]]
"""By name, then number of trials."""


def main(argv: list[str] | None = None) -> None:
    parser = options(str(__doc__), "growth", rounds=3)
    parser.add_argument("--trials", type=int, nargs="+", default=TRIALS)
    given = parser.parse_args(argv)
    found: Costs = {}
    for count in given.trials:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            last = apart(grow, place, count)
            for name, cost in costs(place, last, given.rounds).items():
                found.setdefault(name, {})[count] = cost
                print(f"{count:6} {name:12} {told(cost)}", flush=True)
        store(given.output, given.note, found)  # so that what takes too long can be stopped


def apart(make: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns that is called in a process of its own.

    A process begins with the peak of memory of the one that starts it. So this one stays small.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(make, *arguments).result()


def store(path: Path, note: str, found: Costs) -> None:
    """Numbers, a table of them, and the plot."""
    others = {"points n": mining_curves(), "batch B": in_batch_curves()}
    trials = {name: {n: c._asdict() for n, c in row.items()} for name, row in found.items()}
    write(path, [], {"finished trials": trials, **others}, note=note, **apart(facts))
    before = path.with_name(BEFORE)
    if path != before:
        path.with_suffix(".md").write_text(table(read(path), read(before)))
        apart(draw, found, others, path.with_suffix(".png"))


def read(path: Path) -> Costs:
    """The stored costs of a version; nothing where there are none."""
    trials = json.loads(path.read_text())["details"]["finished trials"] if path.exists() else {}
    return {
        name: {int(count): Cost(**cost) for count, cost in row.items()}
        for name, row in trials.items()
    }


def told(cost: Cost) -> str:
    """``5.6 s (6.1), 368 MiB, page 1.6 MiB``: the processor's seconds, then those of the clock."""
    page = "" if cost.page is None else f", page {cost.page:.1f} MiB"
    return f"{cost.processor:.1f} s ({cost.seconds:.1f}), {cost.mib:.0f} MiB{page}"


def table(found: Costs, before: Costs) -> str:
    """A row a tool and a column a number of trials; then the same of the version before."""
    counts = sorted({count for row in found.values() for count in row})
    lines = [["", *(f"{count:,} trials" for count in counts)], ["---"] * (len(counts) + 1)]
    for version, rows in (("", found), (", before", before)):
        for name, row in rows.items():
            cells = [told(row[count]) if count in row else "" for count in counts]
            lines.append([f"{name}{version}", *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def grow(place: Path, count: int) -> Path:
    """A sweep file of so many trials, and a finished run for each; returns the last one."""
    from minesweep.config.compose import compose
    from minesweep.config.identity import identity, plain, run_folder, run_name
    from minesweep.training.run import run as train

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
                write_run(last, files, tree, {"identity": identity(tree), "name": run_name(tree)})
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


def write_run(
    folder: Path, files: dict[str, str], cfg: dict[str, Any], own_status: dict[str, str]
) -> None:
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
            text = json.dumps(json.loads(text) | own_status)
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
        if name in PAGES:
            found[name] = found[name]._replace(page=(place / PAGES[name]).stat().st_size / 2**20)
    return found


def anew(place: Path, index: Callable[[], Cost]) -> Cost:
    """The index page without what the scan before kept."""
    (place / ".dashboard.json").unlink(missing_ok=True)
    return index()


def call(place: Path, words: Sequence[str]) -> Cost:
    """A process from its begin to its end."""
    began = time.monotonic()
    with begin(place, words) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (place / "log").read_text()
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert own < used.ru_maxrss, "the peak is this process's own"
    seconds = time.monotonic() - began
    return Cost(used.ru_utime + used.ru_stime, seconds, used.ru_maxrss / 1024)


def first_trial(place: Path, words: Sequence[str], trial: Path) -> Cost:
    """A sweep until its only missing trial has made its folder; then it is stopped."""
    kept = trial.rename(place / "kept")
    began = time.monotonic()
    with begin(place, words) as process:
        while not (trial / "config.yaml").exists():
            assert process.poll() is None, (place / "log").read_text()
            time.sleep(0.02)
        seconds = time.monotonic() - began
        used = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.send_signal(signal.SIGKILL)
    shutil.rmtree(trial)
    kept.rename(trial)
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert peak is not None
    return Cost((int(used[11]) + int(used[12])) / TICKS, seconds, int(peak[1]) / 1024)


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


def draw(found: Costs, others: dict[str, Curves], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    def of(part: str) -> Curves:
        return {name: {n: getattr(c, part) for n, c in row.items()} for name, row in found.items()}

    plots = [
        ("finished trials", "seconds of the processor", of("processor")),
        ("finished trials", "MiB at the peak", of("mib")),
        *((axis, "seconds", lines) for axis, lines in others.items() if lines),
    ]
    figure, axes = plt.subplots(1, len(plots), figsize=(6 * len(plots), 5), squeeze=False)
    for plot, (axis, unit, lines) in zip(axes[0], plots, strict=True):
        for name, points in lines.items():
            plot.plot(list(points), list(points.values()), marker="o", label=name)
        plot.set(xscale="log", yscale="log", xlabel=axis, ylabel=unit)
        plot.grid(alpha=0.3)
        plot.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    print(path)


if __name__ == "__main__":
    main()
