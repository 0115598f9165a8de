"""Calls that may block or fail, made beside the training."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class Background:
    """Makes calls one after the other on a thread of its own.

    The thread is a daemon: Python does not wait for a call that never returns.

    Attributes:
        error: What the first call that failed raised. The calls after it are made all the same.
    """

    def __init__(self, name: str) -> None:
        self.error: Exception | None = None
        self._calls: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def put(self, call: Callable[[], object]) -> None:
        """Has ``call`` made after those put before it. Returns at once."""
        self._calls.put(call)

    def close(self, seconds: float) -> bool:
        """Whether every call has returned within ``seconds``; puts an end to the thread."""
        self._calls.put(None)
        self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except Exception as error:
                self.error = self.error or error
