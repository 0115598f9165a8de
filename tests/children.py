"""No child process outlives its test: what a test leaves behind is ended, and fails it.

A test that fails, or is stopped by its time limit, is followed by the same cleaning up.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PROC = Path("/proc")
PR_SET_CHILD_SUBREAPER = 36
GRACE = 60
"""Seconds in which a process may end that is about to. A healthy test waits for none."""
# Helpers of Python's and joblib's, which end with the process that they help.
HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver", "loky.backend")


def pytest_configure(config: pytest.Config) -> None:
    # A process whose parent has died becomes a child of this one, and so stays known.
    if PROC.is_dir():
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(root: int | None = None) -> dict[int, str]:
    """The processes below this one that run, with their command lines; none without /proc."""
    parents, commands = {}, {}
    for folder in PROC.glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except (OSError, ValueError):
            continue  # it has just ended
        parents[int(folder.name)] = int(parent)
        if state not in "ZX" and not any(helper in command for helper in HELPERS):
            commands[int(folder.name)] = command
    below = {root or os.getpid()}
    while more := {child for child, parent in parents.items() if parent in below} - below:
        below |= more
    return {pid: command for pid, command in commands.items() if pid in below - {os.getpid()}}


def end(pids: set[int]) -> None:
    """Kills processes, and waits until they are gone."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    while pids & descendants().keys():
        time.sleep(0.01)


def check(before: set[int]) -> None:
    """Ends what runs now and did not ``before``, and fails if there is any."""
    limit = time.monotonic() + GRACE
    while (left := descendants()) and left.keys() - before and time.monotonic() < limit:
        time.sleep(0.05)
    left = {pid: command for pid, command in left.items() if pid not in before}
    if left:
        end(set(left))
        pytest.fail(f"child processes outlived the test: {list(left.values())}", pytrace=False)


def end_wandb() -> None:
    """Ends the service of this process, if it used wandb: it would serve the tests that follow."""
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()


@pytest.fixture(autouse=True)
def _no_child_outlives_its_test() -> Iterator[None]:
    before = set(descendants())
    yield
    end_wandb()
    check(before)


@pytest.fixture(autouse=True, scope="session")
def _no_child_outlives_the_tests() -> Iterator[None]:
    yield
    check(set())
