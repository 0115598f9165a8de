"""What a trial costs beside its training: the sweep in process against ``wandb agent``.

    python benchmarks/sweep_overhead.py

The same file, trials of 50 steps on digits, logger=wandb in both: once by src/sweep.py, once by the
real agent, which talks to the protocol server of the tests on the loopback address. A trial's time
runs from the end of the one before to its own end; its overhead is that less what its run counted
as training.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from common import compare, facts, options, write  # noqa: E402
from wandb_server import WandbServer  # noqa: E402

from minesweep.tracking.journal import read_rows  # noqa: E402

SHORT = ["dataset=digits", "trainer.max_steps=50", "trainer.threads=1", "logger=wandb"]


def main(argv: list[str] | None = None) -> None:
    parser = options(str(__doc__), "sweep_overhead", rounds=3)
    parser.add_argument("--trials", type=int, default=12)
    given = parser.parse_args(argv)
    each: dict[str, list[float]] = {"in process": [], "wandb agent": []}
    overheads: dict[str, list[float]] = {name: [] for name in each}
    for _ in range(given.rounds):
        for name, run in zip(each, (in_process, by_agent), strict=True):
            with tempfile.TemporaryDirectory() as folder:
                beside, seconds = run(Path(folder) / "sweep", given.trials)
            each[name].append(seconds)
            overheads[name] += beside
    known = facts(("wandb",))
    against = f"wandb agent {known['versions']['wandb']} with the protocol server"
    row = compare(
        f"a trial of a sweep of {given.trials} short ones, in process",
        against,
        each["in process"],
        each["wandb agent"],
        least=5,
    )
    details = {"overhead_seconds": overheads, "seconds_a_trial": each}
    write(given.output, [row], details, note=given.note, **known)


def sweep_file(folder: Path, trials: int) -> Path:
    """A grid over so many seeds."""
    folder.mkdir()
    path = folder / "sweep.yaml"
    content = {
        "program": str(ROOT / "src" / "train.py"),
        "method": "grid",
        "project": "minesweep",
        "command": ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}", *SHORT],
        "parameters": {"study": {"value": "overhead"}, "seed": {"values": list(range(trials))}},
    }
    path.write_text(yaml.safe_dump(content))
    return path


def in_process(folder: Path, trials: int) -> tuple[list[float], float]:
    """Each trial's overhead (but the first one's), and the mean seconds a trial took."""
    path = sweep_file(folder, trials)
    with WandbServer(folder) as server:
        environment = server.env() | {"MINESWEEP_RUNS": str(folder / "runs")}
        command = [sys.executable, str(ROOT / "src" / "sweep.py"), str(path)]
        return clock(command, environment, folder, trials)


def by_agent(folder: Path, trials: int) -> tuple[list[float], float]:
    """The same by ``wandb agent``, at its own pace of polling."""
    path = sweep_file(folder, trials)
    with WandbServer(folder) as server:
        environment = server.env() | {"MINESWEEP_RUNS": str(folder / "runs")}
        cli = [sys.executable, "-m", "wandb"]
        told = subprocess.run(
            [*cli, "sweep", str(path)],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
        (name,) = (
            line.split()[-1]
            for line in (told.stdout + told.stderr).splitlines()
            if "wandb agent" in line
        )
        return clock([*cli, "agent", name], environment, folder, trials)


def clock(
    command: list[str], environment: dict[str, str], folder: Path, trials: int
) -> tuple[list[float], float]:
    subprocess.run(command, env=environment, cwd=folder, capture_output=True, check=True)
    ended = []
    for path in (folder / "runs").glob("*/*/status.json"):
        status = json.loads(path.read_text())
        assert status["state"] == "finished"
        ended.append((read_rows(path.with_name("timing.jsonl"))[-1]["time"], status["seconds"]))
    assert len(ended) == trials
    ended.sort()
    spans = [(end - before, training) for (before, _), (end, training) in pairwise(ended)]
    return [span - training for span, training in spans], statistics.mean(s for s, _ in spans)


if __name__ == "__main__":
    main()
