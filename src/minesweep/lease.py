"""Who works on something that several machines share: atomic creation, and a heartbeat.

No lock of the kernel is needed, so this holds on network file systems, too. Each claim is a file
``<folder>/<number>``, and the highest number has the lease. Who finds that claim given back, or its
holder dead, creates the next number: only one process can, and numbers do not come again.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEARTBEAT_SECONDS = 10.0
"""Between two signs that a holder gives."""
STALE_SECONDS = 120
"""A holder on another machine that gives no sign for so long counts as dead."""
POLL_SECONDS = 0.2
GIVEN_BACK = 0
"""The date of a claim that its holder has given back."""


@dataclass(frozen=True)
class Holder:
    """Who has a lease.

    Attributes:
        host, pid: The process; 0 where the claim does not tell.
        alive: Whether it counts as alive.
        silent: Seconds since its last sign, by the clock of the file system.
    """

    host: str
    pid: int
    alive: bool
    silent: float


class Lease:
    """The right to work on something, which one process has at a time.

    On its own machine a holder counts as dead when its process has ended. On another machine it
    counts as dead when it has given no sign for ``stale_after`` seconds.

    Args:
        folder: Where the claims lie, one folder for each thing.
        stale_after: Seconds.

    Attributes:
        follows: The dead holder that this one took the lease from; None where it was given back.
    """

    def __init__(self, folder: Path, stale_after: float = STALE_SECONDS) -> None:
        self.folder, self._stale_after = folder, stale_after
        self.follows: Holder | None = None
        self._claim: Path | None = None
        self._pid = 0
        self._end = threading.Event()

    def acquire(self) -> bool:
        """Takes the lease if nobody has it; returns whether it did.

        Raises:
            OSError: The folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        before = _newest(self.folder)
        try:
            found = _read(self.folder / str(before), self._stale_after) if before else None
        except FileNotFoundError:
            return False  # another process was quicker
        if found is not None and found.alive:
            return False
        claim = self.folder / str(before + 1)
        try:
            descriptor = os.open(claim, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "w") as file:
            json.dump(_this_process(), file)
        # Who judged an old claim, and was slow, may have created a number that was in use before.
        if _newest(self.folder) != before + 1:
            claim.unlink(missing_ok=True)
            return False
        for number in _numbers(self.folder):
            if number <= before:
                (self.folder / str(number)).unlink(missing_ok=True)
        self._claim, self._pid, self._end = claim, os.getpid(), threading.Event()
        self.follows = found
        threading.Thread(target=_beat, args=(claim, self._end), daemon=True).start()
        return True

    def lost(self) -> bool:
        """Whether another process has taken this one for dead, and the lease with it."""
        return self._claim is not None and not _is_newest(self._claim)

    def release(self) -> None:
        """Gives the lease back; nothing where this process does not have it."""
        claim, self._claim = self._claim, None
        self._end.set()
        # A process that was forked off has the object, but not the lease.
        if claim is not None and self._pid == os.getpid():
            with suppress(OSError):
                os.utime(claim, (GIVEN_BACK, GIVEN_BACK))


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Waits for a lease and has it while entered: for short work that each process may do."""
    lease = Lease(folder)
    while not lease.acquire():
        time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        lease.release()


def holder(folder: Path, stale_after: float = STALE_SECONDS) -> Holder | None:
    """Who has the lease of this folder, dead or alive; None for nobody. Changes no claim."""
    while newest := _newest(folder):
        with suppress(FileNotFoundError):  # another process was quicker
            return _read(folder / str(newest), stale_after)
    return None


def _beat(claim: Path, end: threading.Event) -> None:
    """Gives signs until the lease is given back or lost."""
    while not end.wait(HEARTBEAT_SECONDS):
        # A file server that does not answer for a while is no loss.
        with suppress(OSError):
            if not _is_newest(claim):
                return
            os.utime(claim)
            if end.is_set():  # it was given back meanwhile
                os.utime(claim, (GIVEN_BACK, GIVEN_BACK))


def _is_newest(claim: Path) -> bool:
    return claim.exists() and not claim.with_name(str(int(claim.name) + 1)).exists()


def _numbers(folder: Path) -> list[int]:
    try:
        return [int(name) for name in os.listdir(folder) if name.isdecimal()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _newest(folder: Path) -> int:
    """The highest number; 0 for none."""
    return max(_numbers(folder), default=0)


def _read(claim: Path, stale_after: float) -> Holder | None:
    """Who holds a claim; None where it was given back.

    Raises:
        FileNotFoundError: It is not there any more.
    """
    try:
        # Opened, not only asked for its date: a network file system then looks at the server.
        descriptor = os.open(claim, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            changed, content = os.fstat(descriptor).st_mtime, file.read(4096)
    except FileNotFoundError:
        raise
    except OSError:
        return None  # something else lies there, which is nobody's claim
    if changed == GIVEN_BACK:
        return None
    record = _parsed(content)
    silent = max(_clock(claim.parent) - changed, 0.0)
    alive = silent <= stale_after
    if record.get("machine") == _machine():
        alive = _runs(record["pid"], record["start"])
    return Holder(record.get("host", "unknown"), record.get("pid", 0), alive, silent)


def _parsed(content: bytes) -> dict[str, Any]:
    """The record in a claim; empty where its process has not written it (yet)."""
    try:
        record = json.loads(content)
        return {
            "host": str(record["host"]),
            "machine": str(record["machine"]),
            "pid": int(record["pid"]),
            "start": int(record["start"]),
        }
    except (ValueError, TypeError, KeyError):
        return {}


def _clock(folder: Path) -> float:
    """The present time of the file system, which dates the signs of all machines."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b".")
            file.flush()
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()  # somebody else's folder, to be looked at only


def _this_process() -> dict[str, Any]:
    pid = os.getpid()
    host, machine = socket.gethostname(), _machine()
    return {"host": host, "machine": machine, "pid": pid, "start": _start(pid) or 0}


def _machine() -> str:
    """Within what a number means one process: a machine since its start, or a container on it."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _runs(pid: int, start: int) -> bool:
    """Whether the process that began then still runs."""
    if Path("/proc/self/stat").exists():
        return _start(pid) == start
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _start(pid: int) -> int | None:
    """When a process began, in the kernel's ticks; None where it has ended, or without /proc."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if words[0] in "ZX" else int(words[19])
