"""Runs trials through any of Hydra's launchers until each is finished or has failed for good."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from hydra.core.utils import JobReturn, JobStatus

from minesweep.errors import UserError
from minesweep.sweeps.plan import Trial
from minesweep.training.folder import DEATHS, RunBusy, deaths_counted_first

Launch = Callable[..., Sequence[JobReturn]]
POLL_SECONDS, LONGEST_POLL_SECONDS = 0.5, 8.0
"""Between two looks whether other processes are done: at first, and in the long run."""
GRACE_SECONDS, STOP_SECONDS = 2.0, 30.0
"""How long trials in other processes may take to stop: of themselves, and when they are told."""


class Cancelled(UserError):
    """A person ended the job of a trial, so it is not tried again."""


@dataclass(frozen=True)
class Options:
    """What ``src/sweep.py`` was asked for; it explains them."""

    file: str
    check: bool = False
    count: int | None = None
    retries: int = 1
    seed: int = 0
    jobs: int = 1
    worker: bool = False
    until_sure: bool = False
    care: float | None = None
    max_seeds: int | None = None
    budget: str | None = None
    fixed: tuple[str, ...] = ()


class Runner:
    """Runs trials until each is finished or has failed for good.

    Args:
        launch: A Hydra launcher's ``launch``.
        launcher: Its name.
        options: ``jobs`` and ``retries`` are heeded.
    """

    def __init__(self, launch: Launch, launcher: str, options: Options) -> None:
        self._launch, self._launcher, self._options = launch, launcher, options
        self._tries: Counter[Path] = Counter()
        self._before: dict[Path, tuple[int, int]] = {}
        self._jobs_launched = 0
        self._current: Sequence[Trial] = ()
        self.reasons: dict[Path, str] = {}
        """Why a trial failed for good, by its folder."""

    def run(self, trials: Sequence[Trial], wait: bool = True) -> None:
        """Runs what is not finished; trials that another process runs are left for the end.

        Args:
            trials: What to run.
            wait: Whether to wait for those others; else they are left to them.
        """
        while pending := [trial for trial in trials if self._is_pending(trial)]:
            busy = []
            for chunk in self._chunks(pending):
                # Another process may have finished some, or be at them, since the round began.
                waiting = [trial for trial in chunk if self._is_pending(trial)]
                taken = [trial for trial in waiting if trial.busy]
                busy += taken
                if free := [trial for trial in waiting if trial not in taken]:
                    busy += self._run_chunk(free)
            if busy and not wait:
                return
            if len(busy) == len(pending):
                _wait_for_one(busy)

    def _is_pending(self, trial: Trial) -> bool:
        """Whether a trial is neither finished nor failed for good, here or in another process."""
        status = trial.status
        if status.get("state") == "finished" or trial.folder in self.reasons:
            return False
        failures, deaths = (int(status.get(name) or 0) for name in ("failures", "deaths"))
        before = self._before.setdefault(trial.folder, (failures, deaths))
        often = failures - before[0] > self._options.retries or deaths - before[1] >= DEATHS
        if status.get("state") == "failed" and often:
            self.reasons[trial.folder] = " ".join(str(status.get("reason")).split())
            return False
        return True

    def _chunks(self, trials: Sequence[Trial]) -> Iterator[Sequence[Trial]]:
        """What is launched at a time. In process one by one, so that little is asked for twice;
        a launcher with a queue of its own gets all, submitit's local one starts all it gets."""
        size = {"basic": 1, "submitit_local": self._options.jobs}.get(self._launcher, len(trials))
        for start in range(0, len(trials), size):
            yield trials[start : start + size]

    def _run_chunk(self, chunk: Sequence[Trial]) -> list[Trial]:
        """Runs some trials; returns those that another process is at."""
        self._current = chunk
        try:
            with deaths_counted_first():  # here, not in the processes of a launcher
                results: Sequence[JobReturn | None] = self._launch(
                    [list(trial.overrides) for trial in chunk], initial_job_idx=self._jobs_launched
                )
        except BrokenProcessPool:
            # A worker was killed, perhaps for want of memory; its siblings died with it.
            results = [None] * len(chunk)
        except _submitit_errors():
            results = [None] * len(chunk)
        self._current = ()
        self._jobs_launched += len(chunk)
        if all(
            result is None and not trial.status
            for trial, result in zip(chunk, results, strict=True)
        ):
            raise UserError(
                f"--launcher {self._launcher}: its processes ended before a trial began"
            )
        outcomes = zip(chunk, results, strict=True)
        return [trial for trial, result in outcomes if self._is_busy(trial, result)]

    def _is_busy(self, trial: Trial, result: JobReturn | None) -> bool:
        """Notes how a trial ended; True where another process runs it."""
        error = result._return_value if result and result.status == JobStatus.FAILED else None
        if trial.finished:
            return False
        if isinstance(error, Cancelled):
            self.reasons[trial.folder] = str(error)
            return False
        if isinstance(error, RunBusy) or (result is None and trial.busy):
            return True
        status = trial.status
        if result is None and status.get("state") not in ("running", "failed"):
            return False  # it never began
        self._tries[trial.folder] += 1
        if self._tries[trial.folder] > self._options.retries:
            if error is not None:
                reason = f"{type(error).__name__}: {error}"
            elif result is not None:
                reason = "the program ended, but the run is not finished"
            else:
                reason = status.get("reason") or "its process was killed"
            self.reasons[trial.folder] = " ".join(reason.split())
        return False

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """While entered, SIGINT and SIGTERM end the sweep with the shell's status for them.

        A trial in this process answers them itself. Trials in processes of their own are told,
        and given time for a checkpoint, because a launcher that is interrupted kills them.
        """

        def stop(number: int, frame: FrameType | None) -> None:
            for other in (signal.SIGINT, signal.SIGTERM):
                signal.signal(other, signal.SIG_IGN)
            if self._launcher != "basic":
                running = [trial for trial in self._current if trial.busy]
                # A terminal told them as well; a second signal would cost the checkpoint.
                running = _wait_for(running, GRACE_SECONDS)
                if running:
                    _tell_children(signal.SIGTERM)
                    _wait_for(running, STOP_SECONDS)
            raise SystemExit(128 + number)

        old = {n: signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


def _submitit_errors() -> tuple[type[Exception], ...]:
    """What submitit raises for a job that ended without a result; nothing if it is not there."""
    try:
        from submitit.core.utils import FailedJobError, UncompletedJobError
    except ImportError:
        return ()
    return FailedJobError, UncompletedJobError


def _wait_for_one(trials: Sequence[Trial]) -> None:
    """Waits until one of these, at which other processes are, is finished or free."""
    pause = POLL_SECONDS
    while all(trial.busy and not trial.finished for trial in trials):
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_POLL_SECONDS)


def _wait_for(trials: Sequence[Trial], seconds: float) -> list[Trial]:
    """Waits until the trials' processes have let go of them; returns those that have not."""
    deadline = time.monotonic() + seconds
    running = [trial for trial in trials if trial.busy]
    while running and time.monotonic() < deadline:
        time.sleep(0.1)
        running = [trial for trial in running if trial.busy]
    return running


def _tell_children(number: int) -> None:
    """Sends a signal to the processes that this one started (Linux; elsewhere to none)."""
    for listing in Path("/proc/self/task").glob("*/children"):
        for child in listing.read_text().split():
            os.kill(int(child), number)
