"""One trial as a job of submitit: preempted, it writes a checkpoint and is requeued."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import submitit
from hydra.core.utils import JobReturn
from omegaconf import DictConfig

from minesweep.config.identity import run_folder
from minesweep.training.folder import RunFolder
from minesweep.training.signals import PREEMPTIONS, Interrupted

LOG = "job.log"
"""What the job prints, in the run's folder. Each process of a job but the first has its own."""
FIRST_PORT, PORTS = 20_000, 12_000
"""Below the ports that Linux gives to connections."""
ACCOUNTING_SECONDS = 15
"""How long Slurm's accounting may take to tell how a job ended. It kills the job after 30."""


class Job:
    """The trial that this process, or one like it on each node, is to train.

    Args:
        cfg: The trial.
        nodes: Machines of the job.
        processes: Training processes on each of them, where ``trainer=ddp``; torchrun starts them.

    Attributes:
        id: The scheduler's name for it.
    """

    def __init__(self, cfg: DictConfig, nodes: int, processes: int) -> None:
        self._environment = submitit.JobEnvironment()
        self.id = self._environment.job_id
        self._folder = run_folder(cfg)
        self._parallel = cfg.trainer.parallel == "ddp"
        self._nodes, self._processes = nodes, processes
        # submitit's own answer to a preemption: put the job back into the queue, and exit.
        number = getattr(signal, f"SIG{self._environment.USR_SIG}")
        self._requeue: Any = signal.getsignal(number)
        self._preemptions = {number, *PREEMPTIONS}
        if self._environment.cluster == "slurm":
            # On one machine, SIGTERM comes from the sweep that stops its trials.
            self._preemptions.add(signal.SIGTERM)

    def work(self, compute: Callable[[], JobReturn], command: Sequence[str]) -> JobReturn | None:
        """Trains, in this process or with torchrun; a preempted job ends the process.

        Args:
            compute: Trains in this process.
            command: A program and its arguments that train the same.
        """
        with _printing_to(self._folder / self._log()):
            for number in self._preemptions:
                signal.signal(number, self._preempted)
            if self._parallel:
                self._torchrun(command)
                return None
            try:
                return compute()
            except Interrupted as stop:
                if stop.number in self._preemptions:
                    self._preempted(stop.number)
                raise

    def _log(self) -> str:
        rank = self._environment.global_rank
        return f"{rank}.".join(LOG.split(".")) if rank else LOG

    def _preempted(self, number: int, frame: FrameType | None = None) -> None:
        for other in self._preemptions:  # a scheduler may send several
            signal.signal(other, signal.SIG_IGN)
        if self._environment.cluster == "slurm" and _cancelled(self.id):
            raise Interrupted(number)
        try:
            self._requeue(number, frame)
        except subprocess.CalledProcessError as error:  # Slurm has requeued it, or never does
            raise Interrupted(number) from error

    def _torchrun(self, command: Sequence[str]) -> None:
        words = [sys.executable, "-m", "torch.distributed.run", *self._meeting(), *command]
        received: list[int] = []
        # torchrun knows SIGTERM alone, and would die of these; the training sets its own answers.
        for number in self._preemptions - {signal.SIGTERM}:
            signal.signal(number, signal.SIG_IGN)
        child = subprocess.Popen(words)

        def tell(number: int, frame: FrameType | None) -> None:
            # Slurm sends its SIGTERM to all processes of a job: torchrun has it already.
            if not received and (number, self._environment.cluster) != (signal.SIGTERM, "slurm"):
                child.send_signal(signal.SIGTERM)
            received.append(number)

        for number in {*self._preemptions, signal.SIGTERM}:
            signal.signal(number, tell)
        status = child.wait()
        finished = RunFolder(self._folder).summary is not None
        if received and not finished:
            if received[0] in self._preemptions:
                self._preempted(received[0])  # returns in all processes but the job's first
            raise Interrupted(received[0])
        if status:
            print(f"torchrun ended with status {status}", file=sys.stderr)

    def _meeting(self) -> list[str]:
        """How many processes there are, and where they meet."""
        counts = [f"--nnodes={self._nodes}", f"--nproc-per-node={self._processes}"]
        if self._nodes == 1:
            return [*counts, "--standalone"]
        digits = "".join(filter(str.isdigit, self.id))
        port = FIRST_PORT + int(digits) % PORTS
        endpoint = f"{self._environment.hostnames[0]}:{port}"
        return [
            *counts,
            "--rdzv-backend=c10d",
            f"--rdzv-endpoint={endpoint}",
            f"--rdzv-id={self.id}",
        ]


def _cancelled(job: str) -> bool:
    """Whether Slurm has ended a job that nobody wants back; it sends SIGTERM for any reason.

    A job that is preempted with a grace time still runs when the signal comes. Of one that is
    completing, ``scontrol show`` does not tell why, but the accounting does.
    """
    if "JobState=RUNNING" in _answer("scontrol", "show", "job", job):
        return False
    end = time.monotonic() + ACCOUNTING_SECONDS
    while True:
        state = _answer("sacct", "-X", "-n", "-P", "-o", "State", "-j", job).strip()
        if state not in ("", "RUNNING"):
            return state.startswith("CANCELLED")
        if time.monotonic() > end:
            return True  # Slurm itself brings back what it preempts
        time.sleep(1)


def _answer(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@contextmanager
def _printing_to(path: Path) -> Iterator[None]:
    """Appends to a file what this process and its children print."""
    path.parent.mkdir(parents=True, exist_ok=True)
    streams = (sys.stdout, sys.stderr)
    kept = [os.dup(stream.fileno()) for stream in streams]
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        for stream in streams:
            stream.flush()
            os.dup2(log, stream.fileno())
        yield
    finally:
        for stream, descriptor in zip(streams, kept, strict=True):
            stream.flush()
            os.dup2(descriptor, stream.fileno())
            os.close(descriptor)
        os.close(log)
