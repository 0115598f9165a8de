"""A run's folder: its lock, its status, and the small files beside the journal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from minesweep.errors import UserError
from minesweep.files import NO_ROOM, overwrite, remove_parts, write_atomically
from minesweep.lease import STALE_SECONDS, Holder, Lease, holder
from minesweep.training.signals import Interrupted

DEATHS = 3
"""A run at which so many processes die in a row, with no checkpoint between, has failed."""
_counted_first: ContextVar[bool] = ContextVar("_counted_first", default=False)


class RunBusy(UserError):
    """Another process is working on this run."""


class RunFolder:
    """``runs/<study>/<name>-<hash>/``.

    Args:
        path: The folder.
        stale_after: Seconds after which a silent process on another machine counts as dead.
    """

    def __init__(self, path: Path, stale_after: float = STALE_SECONDS) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self._lease = Lease(lease_folder(path), stale_after)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the run for this process.

        The lease lies beside the folder, so ``resume=never`` can move the folder meanwhile.

        Raises:
            RunBusy: Another process holds it; or, within :func:`deaths_counted_first`, one had it
                when it died.
            UserError: The folder of runs cannot be written.
        """
        try:
            acquired = self._lease.acquire()
        except OSError as error:
            raise UserError(
                f"{error.filename or self.path} cannot be written ({error.strerror}): "
                "paths.runs_dir names another folder"
            ) from error
        if not acquired:
            raise RunBusy(f"{self.path} is being computed by another process")
        try:
            if (dead := self._lease.follows) and self.summary is None:
                with suppress(OSError):  # the run itself will tell
                    self._note_death(dead)
                if _counted_first.get():
                    raise RunBusy(f"{self.path}: its process died")
            yield
        finally:
            self._lease.release()

    def check_held(self) -> None:
        """To be called before each writing: a process that slept may have been taken for dead.

        Raises:
            RunBusy: Another process has taken the run over.
        """
        if self._lease.lost():
            raise RunBusy(
                f"{self.path} is being computed by another process, which took this one for dead: "
                "it gave no sign for too long (trainer.stale_after)"
            )

    def prepare(self, cfg: DictConfig) -> None:
        """Makes the folder and writes the configuration into it."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        for folder in (self.path, self.checkpoints):
            remove_parts(folder)
        write_atomically(self.path / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))

    def move_aside(self) -> Path | None:
        """Renames an existing folder to ``<name>.old<i>``; returns where it went."""
        if not self.path.exists():
            return None
        place = next(
            candidate
            for number in range(1, 10_000)
            if not (candidate := self.path.with_name(f"{self.path.name}.old{number}")).exists()
        )
        return self.path.rename(place)

    @property
    def status(self) -> dict[str, Any]:
        """The entries of ``status.json``; empty if it cannot be read."""
        return read_json(self.path / "status.json")

    def set_status(self, **changes: Any) -> None:
        """Changes some entries of ``status.json``."""
        status = {**self.status, **changes, "updated": now()}
        path, text = self.path / "status.json", json.dumps(status, indent=1) + "\n"
        try:
            write_atomically(path, text)
        except OSError as error:
            if error.errno not in NO_ROOM or not path.exists():
                raise
            overwrite(path, text)

    def _note_death(self, dead: Holder) -> None:
        """Counts in ``status.json`` the processes that died since the last checkpoint."""
        self.path.mkdir(parents=True, exist_ok=True)
        status = self.status
        last = max((path.stem for path in self.checkpoints.glob("step-*.pt")), default="")
        same = status.get("died_after") == last
        deaths = same * int(status.get("deaths") or 0) + 1
        reason = f"its process died ({dead.host}, process {dead.pid})"
        if deaths > 1:
            reason = (
                f"{deaths} processes in a row died at it, the last on {dead.host} "
                f"(process {dead.pid}); one that needs too much memory is killed"
            )
        state = "failed" if deaths >= DEATHS else "interrupted"
        self.set_status(state=state, reason=reason, deaths=deaths, died_after=last)

    @contextmanager
    def failures_recorded(self) -> Iterator[None]:
        """Writes into ``status.json`` that the run failed or was interrupted, and why.

        A run without a folder has not begun. A finished run stays finished.

        Raises:
            UserError: The disk has no room for a file, or something else lies in a file's place.
        """
        try:
            yield
        except Interrupted as signal:
            self._end(state="interrupted", reason=f"signal {signal.number}")
            raise
        except RunBusy:
            raise  # the folder is another process'
        except (SystemExit, KeyboardInterrupt) as stop:
            self._end(state="interrupted", reason=type(stop).__name__)
            raise
        except BaseException as error:
            told = error
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                told = UserError(
                    f"{error.filename or self.path} cannot be written ({error.strerror}): free "
                    "some space; the same command then goes on from the last checkpoint"
                )
            elif isinstance(error, OSError) and self._holds(error.filename):
                told = UserError(
                    f"{error.filename} cannot be read or written ({error.strerror}): move it away, "
                    "or take resume=never to begin again"
                )
            failures = int(self.status.get("failures") or 0) + 1
            self._end(state="failed", reason=f"{type(told).__name__}: {told}", failures=failures)
            if told is error:
                raise
            raise told from error

    def _holds(self, name: Any) -> bool:
        """Whether a file is this folder, or lies in it."""
        return isinstance(name, str | Path) and Path(name).is_relative_to(self.path)

    def _end(self, **changes: Any) -> None:
        if self.path.exists() and self.summary is None:
            with suppress(OSError):  # the first error is the one to tell
                self.set_status(**changes)

    @property
    def summary(self) -> dict[str, Any] | None:
        """The summary of a finished run, else None."""
        summary = read_json(self.path / "summary.json")
        return summary if self.status.get("state") == "finished" and summary else None


@contextmanager
def deaths_counted_first() -> Iterator[None]:
    """While entered, a run whose process died is given back once, with its death counted.

    So who starts runs, one after another, can look at the count before each one.
    """
    token = _counted_first.set(True)
    try:
        yield
    finally:
        _counted_first.reset(token)


def lease_folder(run: Path) -> Path:
    """Where the claims of the processes that work on ``run`` lie."""
    return run.parent / ".locks" / run.name


def worker(run: Path, stale_after: float = STALE_SECONDS) -> Holder | None:
    """The process that works on the run in this folder, or died at it; None for neither."""
    return holder(lease_folder(run), stale_after)


def is_locked(run: Path, stale_after: float = STALE_SECONDS) -> bool:
    """Whether a process is working on the run in this folder. Disturbs no process."""
    found = worker(run, stale_after)
    return found is not None and found.alive


def now() -> str:
    """The present time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if the file cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:  # thousands are read at once
            value = json.loads(file.read())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
