"""The index page: what it says of each run, what it refuses, what it reads again."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from conftest import ROOT, Train
from reporting_fixtures import config, write_run

from minesweep.dashboard import scan as scanning
from minesweep.dashboard.index import duration, render, write_index
from minesweep.dashboard.scan import RunLine, scan
from minesweep.errors import UserError
from minesweep.training.folder import RunFolder, is_locked


def line(runs: Path, name: str) -> RunLine:
    (found,) = (run for run in scan(runs).runs if run.name == name)
    return found


def test_a_run_of_each_kind(tmp_path: Path) -> None:
    study = tmp_path / "nk"
    write_run(study, config(), 0.91, name="done", metrics={"val/accuracy_best": 0.93})
    write_run(study, config(), name="broke", state="failed", reason="NotFinite: the loss is nan")
    live = write_run(study, config(), 0.8, name="live", state="running", steps=40)
    timing = [{"step": s, "elapsed": s * 0.5} for s in range(1, 41)]
    (live / "timing.jsonl").write_text("".join(json.dumps(row) + "\n" for row in timing))
    write_run(study, config(), name="killed", state="running", steps=20)
    with RunFolder(live).lock():
        states = {run.name: run.state for run in scan(tmp_path).runs}
        page = write_index(tmp_path).read_text()
        found = line(tmp_path, "live")
    assert states == {"live": "running", "broke": "failed", "killed": "stopped", "done": "finished"}
    assert (found.step, found.steps, found.seconds, found.left) == (40, 100, 20, 30)
    assert (found.metric, found.best) == ("val/accuracy", 0.8)
    done = line(tmp_path, "done")
    assert (done.best, done.test) == (0.93, 0.91)
    for text in ("NotFinite: the loss is nan", "its process is gone", "30 s", "93.00 %", "91.00 %"):
        assert text in page
    assert "4 runs in 1 study: 1 running, 1 failed, 1 stopped, 1 finished." in page
    assert line(tmp_path, "live").state == "stopped", "its lease is given back"


def test_asking_for_a_lock_disturbs_nobody(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "nk" / "run")
    assert not is_locked(run.path), "there is no claim yet"
    with run.lock():
        assert is_locked(run.path)
        assert is_locked(run.path)
    assert not is_locked(run.path)
    with run.lock():
        pass


def test_a_real_run(train: Train, runs_dir: Path) -> None:
    summary = train()
    (run,) = scan(runs_dir).runs
    assert (run.state, run.step, run.steps) == ("finished", 30, 30)
    assert run.best == summary["val/accuracy_best"]
    assert run.test == summary["test/accuracy"]
    status = RunFolder(runs_dir / run.study / run.name).status
    assert (status["monitor"], status["best"]) == ("val/accuracy", run.best)


def test_only_what_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(3):
        write_run(tmp_path / "nk", config(seed=seed), name=f"s{seed}")
    first = scan(tmp_path)
    read: list[str] = []
    really = scanning._read
    monkeypatch.setattr(
        scanning,
        "_read",
        lambda study, path, stamp: read.append(path.name) or really(study, path, stamp),
    )
    assert scan(tmp_path).runs == first.runs
    assert read == []
    (tmp_path / "nk" / "s1" / "summary.json").write_text(json.dumps({"val/accuracy_best": 0.5}))
    assert line(tmp_path, "s1").best == 0.5
    assert read == ["s1"]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"format": 2, "runs": {"nk/s0": 3}}', "\0"])
def test_a_broken_cache_is_not_believed(tmp_path: Path, content: str) -> None:
    write_run(tmp_path / "nk", config(), name="s0")
    (tmp_path / scanning.CACHE).write_text(content)
    assert [run.name for run in scan(tmp_path).runs] == ["s0"]


def test_pages_are_linked(tmp_path: Path) -> None:
    run = write_run(tmp_path / "nk", config(), name="s0")
    (run / "mined.html").write_text("")
    (run / "tensorboard").mkdir()
    (run / "wandb.json").write_text('{"id": "x", "url": "https://wandb.ai/e/p/runs/x"}')
    report = tmp_path / "nk" / "report"
    report.mkdir()
    (report / "report.html").write_text("")
    page = render(scan(tmp_path), "http://127.0.0.1:6006/")
    links = set(re.findall(r'href="([^"]*)"', page))
    assert {
        "./nk/report/report.html",
        "./nk/s0/",
        "./nk/s0/mined.html",
        "https://wandb.ai/e/p/runs/x",
        "http://127.0.0.1:6006/?runFilter=nk%2Fs0#timeseries",
    } <= links
    assert scan(tmp_path).reports == {"nk": False}
    os.utime(report / "report.html", (0, 0))
    assert scan(tmp_path).reports == {"nk": True}, "its runs are newer"


HOSTILE = "<script>alert(1)</script>"


def test_hostile_runs_are_shown_or_skipped(tmp_path: Path) -> None:
    runs, outside = tmp_path / "runs", tmp_path / "outside"
    study = runs / '"><img src=x onerror=alert(2)>'
    write_run(study, config(), name=HOSTILE.replace("/", "\N{FRACTION SLASH}"))
    write_run(study, config(), name="said", state="failed", reason=HOSTILE + "\x1b[2J\ud800")
    write_run(study, config(), name="..%2f..%2fetc")
    write_run(study, config(), name="javascript:alert(3)")
    (study / "javascript:alert(3)" / "wandb.json").write_text('{"url": "javascript:alert(4)"}')
    (study / os.fsdecode(b"bytes-\xff")).mkdir()
    (study / os.fsdecode(b"bytes-\xff") / "status.json").write_text("{}")
    (study / "nothing").mkdir()
    write_run(study, config(), name="s0.old1")
    secret = write_run(outside, config(), name="secret", state="failed", reason="top secret")
    (study / "link").symlink_to(secret)
    (runs / "linked").symlink_to(outside)
    partly = write_run(study, config(), name="partly", state="failed")
    (partly / "status.json").unlink()
    (partly / "status.json").symlink_to(secret / "status.json")
    (partly / "mined.html").symlink_to(secret / "config.yaml")

    found = scan(runs)
    page = render(found)
    assert found.left_out == {"links": 2, "moved aside": 1, "other folders": 1}
    assert "2 links, 1 moved aside, 1 other folders" in page
    assert "secret" not in page
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "\x1b" not in page
    page.encode()
    for link in re.findall(r'href="([^"]*)"', page):
        assert link.startswith(("./", "#")), link
        assert ".." not in link.split("/"), link
    refused = {run.name: run.reason for run in found.runs if run.state == "unreadable"}
    assert refused[os.fsdecode(b"bytes-\xff")].startswith("status.json: state 'None'")
    assert "cannot be opened" in refused["partly"]


def test_hostile_journals_are_skipped_with_a_count(tmp_path: Path) -> None:
    broken = write_run(tmp_path / "nk", config(), 0.8, name="broken", state="interrupted")
    lines = ['{"step": 101, "val/accuracy": NaN}', '{"step": "many"}', "\0\0", "[]", '{"step": 10']
    with (broken / "journal.jsonl").open("a") as file:
        file.write("\n".join(lines))
    huge = write_run(tmp_path / "nk", config(), 0.8, name="huge", state="interrupted", steps=50)
    with (huge / "journal.jsonl").open("ab") as file:
        file.truncate(100 << 20)  # 100 MB of zeros in one line, which take no room
        file.seek(0, os.SEEK_END)
        file.write(b'\n{"step": 60, "val/accuracy": 0.7}\n')
    found = line(tmp_path, "broken")
    assert (found.step, found.best, found.skipped) == (101, 0.8, 4)
    assert (line(tmp_path, "huge").step, line(tmp_path, "huge").best) == (60, 0.7)
    assert "4 damaged lines of journals" in render(scan(tmp_path))


def test_numbers_that_are_none(tmp_path: Path) -> None:
    run = write_run(tmp_path / "nk", config(), name="s0", state="running")
    status = {"state": "running", "step": "x", "max_steps": -1, "seconds": 1e999, "monitor": [1]}
    (run / "status.json").write_text(json.dumps(status))
    with RunFolder(run).lock():
        found = line(tmp_path, "s0")
        assert (found.step, found.steps, found.seconds, found.left) == (100, None, None, None)
        render(scan(tmp_path))


def test_errors_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        scan(tmp_path / "runs")
    write_run(tmp_path / "nk", config(), name="s0")
    with pytest.raises(UserError, match="is one study; give"):
        scan(tmp_path / "nk")
    (tmp_path / "empty").mkdir()
    assert "No run yet" in render(scan(tmp_path / "empty"))


def test_durations() -> None:
    told = [duration(seconds) for seconds in (0.4, 59, 90, 5400, 200_000)]
    assert told == ["0 s", "59 s", "2 min", "1.5 h", "2.3 days"]


def test_the_command(tmp_path: Path) -> None:
    write_run(tmp_path / "nk", config(), name="s0")
    (tmp_path / "nk" / "s0" / "tensorboard").mkdir()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "src" / "dashboard.py"), str(tmp_path), "--every", "0.1"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        page = process.stdout.readline().strip()
        assert page == (tmp_path / "index.html").as_uri()
        address = process.stdout.readline().split()[2]
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(address + "data/runs", timeout=30) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.stdout.close()
    assert address not in (tmp_path / "index.html").read_text()
