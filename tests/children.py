"""No child process outlives its test: what a test leaves behind is ended, and fails it.

A test that fails, or is stopped by its time limit, is followed by the same cleaning up.
"""

from __future__ import annotations

import ctypes
import gc
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


def descendants(*roots: int) -> dict[int, str]:
    """The processes below these, or this one, that run, with their command lines.

    None without /proc.
    """
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
    below = set(roots or [os.getpid()])
    while more := {child for child, parent in parents.items() if parent in below} - below:
        below |= more
    return {pid: commands[pid] for pid in below - {os.getpid()} if pid in commands}


def end(pids: set[int]) -> None:
    """Kills processes, and waits until they are gone."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    while pids & descendants().keys():
        time.sleep(0.01)


def started_since(before: set[int]) -> dict[int, str]:
    """The processes below this one that are neither of ``before`` nor below one of them."""
    theirs = before | descendants(*before).keys() if before else before
    return {pid: command for pid, command in descendants().items() if pid not in theirs}


def check(before: set[int]) -> None:
    """Ends what runs now and did not ``before``, and fails if there is any.

    A browser that serves several tests starts and ends processes of its own: what is below a
    process of before belongs to that one, and is looked at when the session ends.
    """
    limit = time.monotonic() + GRACE
    while (left := started_since(before)) and time.monotonic() < limit:
        gc.collect()  # what nobody holds any more may own a process: GitPython's objects do
        time.sleep(0.05)
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
