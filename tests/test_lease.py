"""A lease without any lock of the kernel: one holder at a time, also after a death."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Train
from test_training import only_run

from minesweep.lease import STALE_SECONDS, Lease, held, holder
from minesweep.training.folder import RunBusy, RunFolder, deaths_counted_first, lease_folder
from minesweep.training.loop import Trainer


def silence(folder: Path, seconds: float = STALE_SECONDS + 60) -> None:
    """Makes the last sign of a lease's holder that old."""
    (claim,) = folder.iterdir()
    past = claim.stat().st_mtime - seconds
    os.utime(claim, (past, past))


@pytest.fixture
def on_machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, float], None]:
    """``on_machine("b", 600)``: from here on, as a machine of that name whose clock is ahead."""
    now = time.time

    def move(name: str, ahead: float = 0.0) -> None:
        monkeypatch.setattr(socket, "gethostname", lambda: name)
        monkeypatch.setattr(time, "time", lambda: now() + ahead)

    return move


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    first, second = Lease(tmp_path / "a"), Lease(tmp_path / "a")
    assert holder(tmp_path / "a") is None
    assert first.acquire()
    assert not second.acquire()
    assert not first.acquire()
    found = holder(tmp_path / "a")
    assert found is not None
    assert (found.host, found.pid, found.alive) == (socket.gethostname(), os.getpid(), True)
    assert Lease(tmp_path / "b").acquire()
    first.release()
    assert holder(tmp_path / "a") is None
    assert second.acquire()
    first.release()  # it has nothing to give back
    assert not first.acquire()


@pytest.mark.parametrize("ahead", [-3600.0, 0.0, 3600.0])
def test_another_machine_takes_over_after_the_stated_time(
    tmp_path: Path, on_machine: Callable[[str, float], None], ahead: float
) -> None:
    on_machine("one", 0.0)
    first = Lease(tmp_path)
    assert first.acquire()
    on_machine("two", ahead)
    second, third = Lease(tmp_path), Lease(tmp_path)
    silence(tmp_path, STALE_SECONDS - 60)
    assert not second.acquire()
    assert not first.lost()
    silence(tmp_path)
    found = holder(tmp_path)
    assert found is not None
    assert not found.alive
    assert second.acquire()
    assert first.lost()
    assert not third.acquire()
    first.release()
    assert not third.acquire()
    assert not second.lost()


def test_a_silent_process_of_this_machine_is_not_dead(tmp_path: Path) -> None:
    """It may be stopped, or its machine was asleep: the kernel knows that it is there."""
    assert Lease(tmp_path).acquire()
    silence(tmp_path)
    assert not Lease(tmp_path).acquire()


def started(work: Callable[..., None], *arguments: Any) -> multiprocessing.Process:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads
        process = multiprocessing.get_context("fork").Process(target=work, args=arguments)
        process.start()
    return process  # type: ignore[return-value]


def test_a_killed_process_of_this_machine_is_dead_at_once(tmp_path: Path) -> None:
    def work() -> None:
        assert Lease(tmp_path / "lease").acquire()
        (tmp_path / "has it").touch()
        signal.pause()

    process = started(work)
    while not (tmp_path / "has it").exists():
        time.sleep(0.01)
    assert not Lease(tmp_path / "lease").acquire()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert Lease(tmp_path / "lease").acquire()


def test_a_process_that_is_forked_off_gives_nothing_back(tmp_path: Path) -> None:
    lease = Lease(tmp_path)
    assert lease.acquire()
    process = started(lease.release)
    process.join()
    assert not Lease(tmp_path).acquire()


def test_processes_that_want_it_at_once_have_it_one_by_one(tmp_path: Path) -> None:
    """Each adds one to a number that it reads and writes back, which only works alone."""
    number = tmp_path / "number"
    number.write_text("0")

    def count() -> None:
        for _ in range(25):
            with held(tmp_path / "lease"):
                number.write_text(str(int(number.read_text()) + 1))

    processes = [started(count) for _ in range(4)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert number.read_text() == "100"
    assert len(list((tmp_path / "lease").iterdir())) == 1


def test_of_many_that_find_a_dead_holder_one_follows(
    tmp_path: Path, on_machine: Callable[[str, float], None]
) -> None:
    on_machine("one", 0.0)
    assert Lease(tmp_path).acquire()
    on_machine("two", 0.0)
    silence(tmp_path)
    leases, together = [Lease(tmp_path) for _ in range(8)], threading.Barrier(8)
    got: list[bool] = []

    def take(lease: Lease) -> None:
        together.wait()
        got.append(lease.acquire())

    threads = [threading.Thread(target=take, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False] * 7 + [True]
    assert sum(not lease.lost() for lease, has in zip(leases, got, strict=True) if has) == 1


@pytest.mark.parametrize("content", ["", "{", '{"pid": 1}', '{"pid": "x", "host": 1}'])
def test_a_claim_that_cannot_be_read_is_another_machine(tmp_path: Path, content: str) -> None:
    """Its process may be about to write it; if it died before, its time runs out."""
    (tmp_path / "1").write_text(content)
    assert not Lease(tmp_path).acquire()
    silence(tmp_path)
    assert Lease(tmp_path).acquire()


def test_deaths_without_a_checkpoint_between_them_are_counted(tmp_path: Path) -> None:
    def die() -> None:
        with RunFolder(tmp_path / "study" / "run").lock():
            os.kill(os.getpid(), signal.SIGKILL)

    def after(deaths: int) -> list[Any]:
        for _ in range(deaths):
            started(die).join()
        with folder.lock():
            return [folder.status[name] for name in ("state", "deaths")]

    folder = RunFolder(tmp_path / "study" / "run")
    assert after(2) == ["interrupted", 2]
    assert after(0) == ["interrupted", 2]
    folder.checkpoints.mkdir()
    (folder.checkpoints / "step-00000010.pt").touch()
    assert after(1) == ["interrupted", 1]
    started(die).join()
    with deaths_counted_first(), pytest.raises(RunBusy, match="its process died"), folder.lock():
        raise AssertionError("the run was taken over")
    assert after(1) == ["failed", 3]
    assert "3 processes in a row died at it" in folder.status["reason"]


def test_a_run_that_is_taken_over_stops_before_it_writes(
    train: Train,
    runs_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    on_machine: Callable[[str, float], None],
) -> None:
    """As a machine that slept: another one took it for dead, and has the run now."""
    update, other = Trainer.update, []

    def sleeping(self: Trainer) -> Any:
        if self.step == 12:
            silence(lease_folder(self.folder.path))
            on_machine("other", 0.0)
            other.append(Lease(lease_folder(self.folder.path)))
            assert other[0].acquire()
            other.append({p.name: p.read_bytes() for p in self.folder.path.glob("*.json*")})
        return update(self)

    monkeypatch.setattr(Trainer, "update", sleeping)
    with pytest.raises(RunBusy, match="took this one for dead"):
        train("logger.every=1")
    folder = only_run(runs_dir)
    assert {p.name: p.read_bytes() for p in folder.glob("*.json*")} == other[1]
    assert RunFolder(folder).status["state"] == "running"
