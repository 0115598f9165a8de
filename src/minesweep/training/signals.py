"""Signals: a run finishes its step, writes a checkpoint and exits with 128 + the signal's number.

SIGINT and SIGTERM come from a person or a launcher, SIGUSR1 and SIGUSR2 from a scheduler that is
about to take the machine away.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Self

STOPS = (signal.SIGINT, signal.SIGTERM)
PREEMPTIONS = (signal.SIGUSR1, signal.SIGUSR2)
LAUNCHERS = ("TORCHELASTIC_RUN_ID", "SUBMITIT_EXECUTOR")
"""Variables of launchers that send a signal more than once."""


class Interrupted(SystemExit):
    """Ends the process with the shell's status for a signal, 128 + its number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


def exit_status(error: BaseException) -> int:
    """The exit status of a process that ends with ``error``."""
    return error.code if isinstance(error, Interrupted) and isinstance(error.code, int) else 1


class Signals:
    """Within, the first signal is noted. A second SIGINT or SIGTERM of a person acts at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._launched = any(name in os.environ for name in LAUNCHERS)

    def __enter__(self) -> Self:
        self._old = {}
        # Only the main thread may set handlers. The starter of another thread has its own.
        if threading.current_thread() is threading.main_thread():
            for number in (*STOPS, *PREEMPTIONS):
                self._old[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = number
        elif number in STOPS and self.received in STOPS and not self._launched:
            raise Interrupted(number)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
