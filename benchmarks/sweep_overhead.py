"""What a trial costs beside its training: the sweep in process against ``wandb agent``.

    python benchmarks/sweep_overhead.py

The same file, trials of 50 steps on digits, `logger=wandb` in both: once by ``src/sweep.py``, once by
the real agent, which talks to the protocol server of the tests on the loopback address. A trial's
overhead is its share of the clock less the seconds that its own run counted as training; a sweep
of two trials is taken off, so that start-up does not count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from wandb_server import WandbServer  # noqa: E402

SHORT = ["dataset=digits", "trainer.max_steps=50", "trainer.threads=1", "logger=wandb"]
FEW = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=12)
    many = parser.parse_args().trials
    for name, run in (("src/sweep.py, in process", in_process), ("wandb agent", by_agent)):
        with tempfile.TemporaryDirectory() as folder:
            (few_seconds, _), (seconds, training) = (
                run(Path(folder) / str(trials), trials) for trials in (FEW, many)
            )
        each = (seconds - few_seconds) / (many - FEW)
        print(
            f"{name:26} {each:6.2f} s a trial, {training:5.2f} s of it training: "
            f"overhead {each - training:5.2f} s; {60 / each:6.1f} trials a minute"
        )


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


def in_process(folder: Path, trials: int) -> tuple[float, float]:
    """Seconds of the whole sweep, and mean seconds of training of its trials."""
    path = sweep_file(folder, trials)
    with WandbServer(folder) as server:
        environment = server.env() | {"MINESWEEP_RUNS": str(folder / "runs")}
        command = [sys.executable, str(ROOT / "src" / "sweep.py"), str(path)]
        return clock(command, environment, folder, trials)


def by_agent(folder: Path, trials: int) -> tuple[float, float]:
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
) -> tuple[float, float]:
    began = time.perf_counter()
    subprocess.run(command, env=environment, cwd=folder, capture_output=True, check=True)
    seconds = time.perf_counter() - began
    found = [json.loads(p.read_text()) for p in (folder / "runs").glob("*/*/status.json")]
    assert [status["state"] for status in found] == ["finished"] * trials
    return seconds, sum(status["seconds"] for status in found) / trials


if __name__ == "__main__":
    main()
