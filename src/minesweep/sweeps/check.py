"""The plan of a sweep, told before anything runs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from rich.console import Console

from minesweep.sweeps.plan import Trial, study_folders
from minesweep.sweeps.runner import Options
from minesweep.sweeps.spec import Sweep
from minesweep.training.folder import RunFolder
from minesweep.units import duration


def announce(
    sweep: Sweep, planned: Sequence[Trial], total: int, options: Options, console: Console
) -> None:
    """Says what will be run, how much of it is done, and how long the rest may take.

    Args:
        sweep: The sweep.
        planned: The trials that are known already.
        total: How many there will be; more than are known in a search.
        options: The command line.
        console: Where to say it.
    """
    finished = [trial for trial in planned if trial.finished]
    left = total - len(finished)
    console.print(f"{sweep.path}: {sweep.method}, {total} trials, {len(finished)} finished")
    for note in sweep.notes:
        console.print(f"note: {note}")
    if left:
        console.print(estimate(planned, finished, left, options.jobs))
    if options.check:
        lines = []
        for trial in planned:
            state, who = standing(trial)
            lines.append(f"  {trial.folder.name}  {state:11}  {trial.label}{who}")
        if lines:  # at once: thousands of calls of rich take seconds
            console.print("\n".join(lines))
        console.print("nothing was run")


def standing(trial: Trial) -> tuple[str, str]:
    """The state of a trial, and in words which process is at it or died at it."""
    state = trial.status.get("state", "to do")
    worker = trial.worker if state != "finished" else None
    if worker is not None and worker.alive:
        return "running", f"  ({worker.host}, process {worker.pid})"
    if state != "running":
        return state, ""
    if worker is None:
        return "stopped", ""
    silent = duration(worker.silent)
    return "stopped", f"  ({worker.host}, process {worker.pid} is dead: no sign for {silent})"


def estimate(planned: Sequence[Trial], finished: Sequence[Trial], left: int, jobs: int) -> str:
    """How long the trials that are left will take, from the runs so far."""
    seconds = [float(trial.status.get("seconds") or 0) for trial in finished]
    if seconds:
        source = f"{len(seconds)} finished trials"
        each = statistics.median(seconds)
    else:
        per_step = [
            status["seconds"] / status["step"]
            for folder in study_folders(planned)
            for path in folder.glob("*/status.json")
            if (status := RunFolder(path.parent).status).get("state") == "finished"
            and status.get("seconds")
            and status.get("step")
        ]
        steps = [trial.max_steps for trial in planned if trial.max_steps]
        if not per_step or not steps:
            return f"{left} to run; no finished run here to estimate the time from"
        source = f"the steps of {len(per_step)} other runs in the folder"
        each = statistics.median(per_step) * statistics.median(steps)
    return f"{left} to run, about {duration(left * each / min(jobs, left))} (from {source})"
