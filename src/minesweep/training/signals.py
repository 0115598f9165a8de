"""SIGINT and SIGTERM: a run finishes its step, writes a checkpoint and exits with 130 or 143."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class Interrupted(SystemExit):
    """Ends the process with the shell's status for a signal, 128 + its number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


def exit_status(error: BaseException) -> int:
    """The exit status of a process that ends with ``error``."""
    return error.code if isinstance(error, Interrupted) and isinstance(error.code, int) else 1


class Signals:
    """Within, the first SIGINT or SIGTERM is noted, and a second one acts at once."""

    def __init__(self) -> None:
        self.received: int | None = None

    def __enter__(self) -> Self:
        self._old = {}
        # Only the main thread may set handlers. The starter of another thread has its own.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise Interrupted(number)
        self.received = number

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
