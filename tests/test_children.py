"""The guard against processes that outlive their test."""

from __future__ import annotations

import subprocess
import sys

import pytest
from children import check, descendants, started_since

SLEEPS = [sys.executable, "-c", "import time; time.sleep(100)"]
PARENT = f"""
import subprocess
input()
child = subprocess.Popen({SLEEPS!r})
print("started", flush=True)
child.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_what_an_older_process_starts_is_its_own_and_the_rest_is_ended() -> None:
    outer = set(descendants())
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", PARENT]
    older = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    assert older.stdin is not None
    assert older.stdout is not None
    try:
        before = set(descendants())
        assert older.pid in before
        older.stdin.write("\n")
        older.stdin.flush()
        assert older.stdout.readline() == "started\n"
        assert len(set(descendants()) - before) == 1
        assert started_since(before) == {}
        left = subprocess.Popen(SLEEPS)
        assert set(started_since(before)) == {left.pid}
        left.kill()
        left.wait()
        check(before)
    finally:
        for pid in set(descendants()) - outer:
            subprocess.run(["kill", "-9", str(pid)], check=False)
        older.communicate()
