"""All runs under a folder, as the index page lists them.

Of each run only small files and the tails of the journals are read, and again only when a file
has changed; no link is followed, and a damaged file becomes a line on the page.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from minesweep.errors import UserError
from minesweep.files import write_atomically
from minesweep.tracking.reading import UnreadableError, number, read_json, read_tail
from minesweep.training.folder import is_locked

CACHE = ".dashboard.json"
FORMAT = 2
"""Version of the cache; a cache of another version is read anew."""
FILES = ("status.json", "summary.json", "journal.jsonl", "timing.jsonl", "wandb.json")
STATES = ("running", "failed", "stopped", "interrupted", "unreadable", "finished")
"""In the page's order. ``stopped``: the status says running, but no process holds the run."""
MOVED = re.compile(r"\.old\d+$")
"""The ending that ``resume=never`` adds to a folder's name."""
PACE = 20
"""The speed is that of so many rows at the end of ``timing.jsonl``."""

Stamp = list[list[int] | None]
"""Time of change (ns) and size of each of ``FILES``; None for a file that is missing."""


@dataclass(frozen=True)
class RunLine:
    """One run on the index page.

    Attributes:
        study: The study's folder.
        name: The run's folder.
        state: One of ``STATES``.
        reason: Why it failed or cannot be read; empty where all is well.
        step: Updates done, as far as the files say; None where they do not.
        steps: Updates planned.
        metric: What ``best`` is of, e.g. ``val/accuracy``; empty where nothing is known yet.
        best: The best on validation data so far.
        test: ``metric`` on the test split, of a finished run.
        updated: When a file of it last changed, in seconds since 1970.
        seconds: How long it has trained.
        left: Seconds that a running one will need; None where that is not known.
        skipped: Lines of its journals' tails that could not be read.
        wandb: Its page at W&B; empty where there is none.
        tensorboard: Whether it has event files.
        mined: Whether it has a page of what was mined.
        embeddings: Whether it has a page of its embeddings.
    """

    study: str
    name: str
    state: str
    reason: str = ""
    step: int | None = None
    steps: int | None = None
    metric: str = ""
    best: float | None = None
    test: float | None = None
    updated: float = 0.0
    seconds: float | None = None
    left: float | None = None
    skipped: int = 0
    wandb: str = ""
    tensorboard: bool = False
    mined: bool = False
    embeddings: bool = False


@dataclass(frozen=True)
class Scan:
    """The runs and reports in a folder.

    Attributes:
        folder: The folder.
        runs: By state, the newest first.
        reports: Studies that have a page, and whether a run has changed since it was written.
        left_out: How many things were passed over, by what they are.
    """

    folder: Path
    runs: list[RunLine]
    reports: dict[str, bool]
    left_out: dict[str, int]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long
        return False


def scan(folder: Path) -> Scan:
    """Lists all runs ``folder/<study>/<run>`` and keeps what it read in ``folder/.dashboard.json``.

    Raises:
        UserError: There is no such folder.
    """
    if not _is_folder(folder):
        raise UserError(
            f"{str(folder)[:300]}: no such folder; paths.runs_dir or MINESWEEP_RUNS names it"
        )
    known = _known(folder / CACHE)
    kept: dict[str, dict[str, Any]] = {}
    lines: list[RunLine] = []
    left_out = {"links": 0, "moved aside": 0, "other folders": 0}
    reports: dict[str, float] = {}
    for study in _folders(folder, left_out):
        for run in _folders(Path(study.path), left_out):
            if run.name == "report":
                if (page := _stat(f"{run.path}/report.html")) is not None:
                    reports[study.name] = page[0] / 1e9
                continue
            stamp: Stamp = [_stat(f"{run.path}/{name}") for name in FILES]
            if not any(stamp):
                left_out["other folders"] += 1
                continue
            if MOVED.search(run.name):
                left_out["moved aside"] += 1
                continue
            place = f"{study.name}/{run.name}"
            entry = known.get(place)
            if entry is None or entry["stamp"] != stamp:
                line = _read(study.name, Path(run.path), stamp)
                entry = {"stamp": stamp, "line": dict(vars(line))}
            kept[place] = entry
            lines.append(_now(entry["line"], run.path))
    if not lines and any(map(_is_run, folder.iterdir())):
        raise UserError(f"{folder} is one study; give the folder of all, {folder.parent}")
    if kept != known:
        content = json.dumps({"format": FORMAT, "runs": kept})
        write_atomically(folder / CACHE, content.encode(errors="replace"))
    newest: dict[str, float] = {}
    for line in lines:
        newest[line.study] = max(newest.get(line.study, 0.0), line.updated)
    return Scan(
        folder=folder,
        runs=sorted(lines, key=lambda r: (STATES.index(r.state), -r.updated, r.study, r.name)),
        reports={study: newest.get(study, 0.0) > made for study, made in reports.items()},
        left_out={what: count for what, count in left_out.items() if count},
    )


def _is_run(path: Path) -> bool:
    return (path / "status.json").exists()


def _known(path: Path) -> dict[str, Any]:
    """The cache of the scan before; empty if it cannot be used."""
    try:
        content = read_json(path, limit=64 << 20)
        runs = content["runs"] if content.get("format") == FORMAT else {}
        for entry in runs.values():
            RunLine(**entry["line"])
            entry["stamp"]
    except (UnreadableError, KeyError, TypeError, AttributeError):
        return {}
    return runs


def _folders(parent: Path, left_out: dict[str, int]) -> Iterator[os.DirEntry[str]]:
    with os.scandir(parent) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.name.startswith("."):
                continue
            if entry.is_symlink():
                left_out["links"] += 1
            elif entry.is_dir(follow_symlinks=False):
                yield entry


def _stat(path: str) -> list[int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return [found.st_mtime_ns, found.st_size]


def _now(known: dict[str, Any], path: str) -> RunLine:
    """Adds what no file's date tells: whether a process is at work, and which pages exist."""
    pages = {
        "tensorboard": _is(f"{path}/tensorboard", stat.S_ISDIR),
        "mined": _is(f"{path}/mined.html", stat.S_ISREG),
        "embeddings": _is(f"{path}/embeddings.html", stat.S_ISREG),
    }
    line = RunLine(**{**known, **pages})
    if line.state != "running" or is_locked(Path(path)):
        return line
    reason = "its process is gone; the same command goes on from the last checkpoint"
    return replace(line, state="stopped", reason=reason, left=None)


def _is(path: str, kind: Callable[[int], bool]) -> bool:
    """Whether something of a kind is there; a link is none."""
    try:
        return kind(os.lstat(path).st_mode)
    except OSError:
        return False


def _read(study: str, path: Path, stamp: Stamp) -> RunLine:
    updated = max(entry[0] for entry in stamp if entry) / 1e9
    wandb = _wandb(path) if stamp[FILES.index("wandb.json")] else ""
    line = RunLine(study, path.name, "unreadable", updated=updated, wandb=wandb)
    try:
        status = read_json(path / "status.json")
    except UnreadableError as error:
        return replace(line, reason=str(error))
    state = status.get("state")
    rows, skipped = _tail(path / "journal.jsonl")
    steps = [step for row in [status, *rows] if (step := _whole(row.get("step"))) is not None]
    line = replace(
        line,
        state=state if state in STATES else "unreadable",
        reason=str(status.get("reason") or "")[:500],
        step=max(steps, default=None),
        steps=_whole(status.get("max_steps")),
        seconds=number(status.get("seconds")),
        skipped=skipped,
    )
    if state == "finished":
        return _finished(line, path)
    if state not in STATES:
        return replace(line, reason=f"status.json: state {str(state)[:80]!r} is not known")
    metric = status.get("monitor")
    metric = metric if isinstance(metric, str) else "val/accuracy"
    values = [x for row in rows if (x := number(row.get(metric))) is not None]
    if (kept := number(status.get("best"))) is not None:
        values.append(kept)
    if values:
        line = replace(line, metric=metric, best=max(values))
    return _pace(line, path) if state == "running" else line


def _finished(line: RunLine, path: Path) -> RunLine:
    try:
        summary = read_json(path / "summary.json")
    except UnreadableError as error:
        return replace(line, state="unreadable", reason=str(error))
    best = next((k for k in sorted(summary) if k.startswith("val/") and k.endswith("_best")), None)
    if best is None:
        return line
    metric = best.removesuffix("_best")
    return replace(
        line,
        metric=metric,
        best=number(summary[best]),
        test=number(summary.get(metric.replace("val/", "test/", 1))),
    )


def _pace(line: RunLine, path: Path) -> RunLine:
    """How long a running one has trained, and how long it will need at its latest speed."""
    rows, skipped = _tail(path / "timing.jsonl")
    line = replace(line, skipped=line.skipped + skipped)
    marks = [
        (step, elapsed)
        for row in rows
        if (step := _whole(row.get("step"))) is not None
        and (elapsed := number(row.get("elapsed"))) is not None
    ][-PACE:]
    if not marks:
        return line
    (step, elapsed), (last, now) = marks[0], marks[-1]
    line = replace(line, seconds=now)
    if last <= step or now <= elapsed or line.steps is None:
        return line
    return replace(line, left=max(0, line.steps - last) * (now - elapsed) / (last - step))


def _tail(path: Path) -> tuple[list[dict[str, Any]], int]:
    try:
        return read_tail(path)
    except UnreadableError:
        return [], 0  # a run that has only begun has none


def _whole(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 1 << 53 else None


def _wandb(path: Path) -> str:
    try:
        url = read_json(path / "wandb.json").get("url")
    except UnreadableError:
        return ""
    return url if isinstance(url, str) and len(url) < 500 else ""


def moment(seconds: float) -> datetime:
    """A time of a file, in the local zone."""
    return datetime.fromtimestamp(seconds).astimezone()
