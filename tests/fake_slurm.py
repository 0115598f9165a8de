"""Enough of Slurm for submitit: ``sbatch``, ``srun``, ``scontrol``, ``sacct``.

Jobs run at once, each under a process of this file that stands for the controller. It preempts
them as Slurm does, by a signal to all processes of a job: the n-th start of a job gets the n-th
word of ``FAKE_SLURM_SIGNALS`` as soon as its training has logged a row. ``<job>:TERM`` is for one
job alone. A job that is killed so has lost its node.

Three words are no signals, but end the job before its processes get a SIGTERM, as Slurm does:
``SCANCEL`` as the command does, ``PREEMPT`` where Slurm requeues by itself, and ``EVICT`` where
it is set up not to (``PreemptMode=CANCEL``).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from children import descendants

FOLDER = Path(os.environ.get("FAKE_SLURM", "."))
FIRST = int(os.environ.get("FAKE_SLURM_FIRST", 1000 * (1 + os.getpid() % 9000)))
"""The number of the first job. Ports follow from it, so each process of tests has its own."""
COMMANDS = ("sbatch", "srun", "scontrol", "sacct")
ENDS = {"SCANCEL": "CANCELLED by 1000", "PREEMPT": "PENDING", "EVICT": "PREEMPTED"}
"""What the accounting says of a job that Slurm has ended."""


def install(folder: Path, signals: str = "") -> dict[str, str]:
    """Makes the commands in a folder; returns the environment in which they are found."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    for name in COMMANDS:
        words = shlex.join([sys.executable, str(Path(__file__).resolve()), name])
        (programs / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (programs / name).chmod(0o755)
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "FAKE_SLURM": str(folder),
        "FAKE_SLURM_FIRST": str(FIRST),
        "FAKE_SLURM_SIGNALS": signals,
    }


def sbatch(script: str) -> None:
    text = Path(script).read_text()
    flags = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", text, re.MULTILINE))
    assert "requeue" in flags, "a cluster may refuse to requeue other jobs"
    nodes, per_node = int(flags["nodes"]), int(flags.get("ntasks-per-node", 1))
    number = FIRST + len(list(FOLDER.glob("*.state")))
    (FOLDER / f"{number}.flags").write_text(json.dumps(flags))
    first, _, last = flags.get("array", "0-0").partition("%")[0].partition("-")
    for index in range(int(first), int(last) + 1):
        environment = {
            **os.environ,
            "SLURM_JOB_ID": str(number + index),
            "SLURM_NTASKS": str(nodes * per_node),
            "SLURM_NTASKS_PER_NODE": str(per_node),
            "SLURM_JOB_NUM_NODES": str(nodes),
            "SLURM_JOB_NODELIST": "localhost",
        }
        job = str(number)
        if "array" in flags:
            environment |= {"SLURM_ARRAY_JOB_ID": job, "SLURM_ARRAY_TASK_ID": str(index)}
            job = f"{number}_{index}"
        set_state(job, "PENDING")
        command = [sys.executable, __file__, "controller", job, script]
        subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(FOLDER / f"{job}.err").open("a"),
            start_new_session=True,
        )
    print(f"Submitted batch job {number}")


def controller(job: str, script: str) -> None:
    plan = [word.rpartition(":") for word in os.environ["FAKE_SLURM_SIGNALS"].split()]
    signals = [word for number, _, word in plan if number in ("", job)]
    requeue = FOLDER / f"{job}.requeue"
    for attempt in range(len(signals) + 1):
        set_state(job, "RUNNING")
        process = subprocess.Popen(["bash", script], stdin=subprocess.DEVNULL)
        sent = preempt(job, process, signals[attempt]) if attempt < len(signals) else False
        while process.poll() is None and not requeue.exists():
            time.sleep(0.05)
        for pid in descendants(process.pid):  # what Slurm does to a job that it requeues
            kill(pid, signal.SIGKILL)
        status = process.wait()
        ending = FOLDER / f"{job}.ending"
        if ending.exists():
            word = ending.read_text()
            ending.unlink()
            if word == "SCANCEL" and not requeue.exists():
                return
            if word == "PREEMPT":
                requeue.touch()
        if not requeue.exists():
            lost = sent and signals[attempt] == "KILL"
            set_state(job, "NODE_FAIL" if lost else "FAILED" if status else "COMPLETED")
            return
        requeue.unlink()
        set_state(job, "REQUEUED")


def preempt(job: str, process: subprocess.Popen[bytes], name: str) -> bool:
    """Sends a signal to a job whose training logs; False if it ends before."""
    sizes: dict[Path, int] = {}
    while process.poll() is None:
        # Those of the steps; neither the batch script nor srun itself is told.
        found = descendants(process.pid)
        pids = {p for p, words in found.items() if p != process.pid and __file__ not in words}
        for claim in Path(os.environ["MINESWEEP_RUNS"]).glob("*/.locks/*/*"):
            if holder(claim) not in pids:
                continue
            journal = claim.parents[2] / claim.parent.name / "journal.jsonl"
            size = journal.stat().st_size if journal.exists() else 0
            if size > sizes.setdefault(journal, size):
                if name in ENDS:
                    (FOLDER / f"{job}.ending").write_text(name)
                    set_state(job, ENDS[name])
                for pid in pids:
                    kill(pid, signal.SIGTERM if name in ENDS else getattr(signal, f"SIG{name}"))
                return True
        time.sleep(0.01)
    return False


def holder(claim: Path) -> int:
    try:
        return int(json.loads(claim.read_text())["pid"])
    except (OSError, ValueError):
        return 0


def kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def srun(*words: str) -> None:
    options = {}
    rest = list(words)
    while rest[0].startswith("--"):
        name = rest.pop(0)
        if name in ("--output", "--error"):
            options[name] = rest.pop(0)
    per_node = int(os.environ["SLURM_NTASKS_PER_NODE"])
    processes = []
    for rank in range(int(os.environ["SLURM_NTASKS"])):
        streams = [
            os.open(filled(options[name], rank), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for name in ("--output", "--error")
        ]
        numbers = {"PROCID": rank, "NODEID": rank // per_node, "LOCALID": rank % per_node}
        environment = {**os.environ, **{f"SLURM_{k}": str(v) for k, v in numbers.items()}}
        processes.append(
            subprocess.Popen(rest, env=environment, stdout=streams[0], stderr=streams[1])
        )
    sys.exit(max(abs(process.wait()) for process in processes))


def filled(path: str, rank: int) -> str:
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    names = {"%j": os.environ["SLURM_JOB_ID"], "%t": str(rank), "%A": array, "%a": index}
    for name, value in names.items():
        path = path.replace(name, value or name)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return path


def scontrol(*words: str) -> None:
    job = words[-1]
    ending = FOLDER / f"{job}.ending"
    if words[:-1] == ("show", "job"):
        # It does not tell why a job is completing.
        state = "COMPLETING" if ending.exists() else (FOLDER / f"{job}.state").read_text()
        print(f"JobId={job} JobName=fake\n   JobState={state} Reason=None")
        return
    assert words[:-1] == ("requeue",)
    if ending.exists() and ending.read_text() == "PREEMPT":
        sys.exit("Job is pending execution")
    (FOLDER / f"{job}.requeue").touch()


def sacct(*words: str) -> None:
    if "-n" in words:
        print((FOLDER / f"{words[-1]}.state").read_text())
        return
    print("JobID|State|NodeList")
    for path in sorted(FOLDER.glob("*.state")):
        print(f"{path.stem}|{path.read_text()}|localhost")


def set_state(job: str, state: str) -> None:
    path = FOLDER / f"{job}.state"
    part = path.with_suffix(".part")
    part.write_text(state)
    part.replace(path)


if __name__ == "__main__":
    role, *words = sys.argv[1:]
    {f.__name__: f for f in (sbatch, srun, scontrol, sacct, controller)}[role](*words)
