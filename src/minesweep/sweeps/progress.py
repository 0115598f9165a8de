"""What a person sees of a running sweep: one line, read from the trials' own files.

So it holds under every launcher, and shows what another process does for the same sweep.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column

from minesweep.sweeps.history import History
from minesweep.sweeps.plan import Trial
from minesweep.sweeps.spec import Metric
from minesweep.training.folder import read_json
from minesweep.units import duration


@dataclass(frozen=True)
class Standing:
    """How far a sweep is.

    Attributes:
        done, total, running, failed: Numbers of trials.
        seconds_left: An estimate; None where nothing is known yet.
        best: The best value of the metric so far and the run that has it.
    """

    done: int
    total: int
    running: int
    failed: int
    seconds_left: float | None = None
    best: tuple[float, str] | None = None


class Watch:
    """Reads the standing of a sweep from its run folders.

    Args:
        trials: The trials so far; a search's list grows.
        total: How many there will be, as far as is known; rounds of a race add some.
        metric: What the best is judged by; None for none.
    """

    def __init__(self, trials: Sequence[Trial], total: int, metric: Metric | None) -> None:
        self._trials, self._total, self._metric = trials, total, metric
        self._started = time.time()
        self._done_before = sum(trial.finished for trial in trials)
        self._share_before: dict[Path, float] = {}
        self._finished: dict[Path, dict[str, Any]] = {}
        self._values: dict[Path, float] = {}
        self._histories: dict[Path, History] = {}

    def standing(self) -> Standing:
        running, failed, done_of_running, gained = 0, 0, 0.0, 0.0
        for trial in list(self._trials):
            if trial.folder in self._finished:
                continue
            status = trial.status
            state = status.get("state")
            if state == "finished":
                self._finished[trial.folder] = status
                if self._metric:
                    summary = read_json(trial.folder / "summary.json")
                    self._values[trial.folder] = self._value(summary)
            elif state == "running" and self._alive(trial.folder):
                running += 1
                share = self._share(trial.folder, status)
                done_of_running += share
                gained += share - self._share_before.setdefault(trial.folder, share)
            elif state == "failed":
                failed += 1
        done = len(self._finished)
        gained += done - self._done_before
        self._total = max(self._total, len(self._trials))
        left = self._total - done - failed - done_of_running
        # What was done since the sweep began, by whichever process, tells what the rest takes.
        pace = (time.time() - self._started) / gained if gained > 0 else None
        seconds = pace and max(left, 0.0) * pace
        return Standing(done, self._total, running, failed, seconds, self._best())

    def newly_finished(self, known: set[Path]) -> list[Path]:
        """Folders of finished runs that are not among ``known``."""
        return [folder for folder in self._finished if folder not in known]

    def _alive(self, folder: Path) -> bool:
        """Whether a run that says it is running has written since this sweep began."""
        for name in ("status.json", "journal.jsonl"):
            with suppress(OSError):
                if (folder / name).stat().st_mtime >= self._started - 1:
                    return True
        return False

    def _share(self, folder: Path, status: dict[str, Any]) -> float:
        """The share of a running trial that is done; notes its present value of the metric."""
        name = self._metric.name if self._metric else "lr"
        history = self._histories.setdefault(folder, History(folder, name))
        values = history.read()
        if self._metric and values:
            self._values[folder] = list(values.values())[-1]
        step = max([*values, int(status.get("step") or 0)])
        return step / max(int(status.get("max_steps") or 1), 1)

    def _value(self, summary: dict[str, Any]) -> float:
        value = summary.get(self._metric.name) if self._metric else None
        return float(value) if isinstance(value, int | float) else math.nan

    def _best(self) -> tuple[float, str] | None:
        values = {f: v for f, v in list(self._values.items()) if not math.isnan(v)}
        if self._metric is None or not values:
            return None
        sign = self._metric.sign
        folder = max(values, key=lambda f: sign * values[f])
        return values[folder], folder.name


class SweepProgress:
    """Shows the standing while entered: a bar on a terminal, a line per finished run elsewhere."""

    def __init__(
        self, trials: Sequence[Trial], total: int, metric: Metric | None, console: Console
    ) -> None:
        self._metric, self._console = metric, console
        self._watch = Watch(trials, total, metric)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._said: set[Path] = set()
        self._bar = Progress(
            BarColumn(bar_width=12),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            # Where the terminal is narrow, the words give way, not the numbers before them.
            TextColumn("{task.fields[words]}", table_column=Column(ratio=1, no_wrap=True)),
            expand=True,
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, words="")

    def __enter__(self) -> Self:
        self._watch.standing()
        self._said = set(self._watch.newly_finished(set()))
        self._bar.start()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._show()
        self._bar.stop()

    def _follow(self) -> None:
        took = 0.0
        while not self._stop.wait(pause(took)):
            began = time.monotonic()
            self._show()
            took = time.monotonic() - began

    def _show(self) -> None:
        standing = self._watch.standing()
        words = describe(standing, self._metric)
        self._bar.update(self._task, completed=standing.done, total=standing.total, words=words)
        for folder in self._watch.newly_finished(self._said):
            self._said.add(folder)
            if not self._console.is_terminal:
                line = f"[{len(self._said)}/{standing.total}] {folder.name} finished; {words}"
                self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def pause(took: float) -> float:
    """Seconds until the next look: looks take a twentieth of the time at most.

    A look at ten thousand trials of which none has begun takes a tenth of a second, and on a
    network file system many.
    """
    return max(1.0, 19 * took)


def describe(standing: Standing, metric: Metric | None) -> str:
    """The standing in words, e.g. ``1 running, 0 failed, 3 min left; best val/loss 0.1 (...)``."""
    parts = [f"{standing.running} running", f"{standing.failed} failed"]
    if standing.seconds_left is not None:
        parts.append(f"{duration(standing.seconds_left)} left")
    words = ", ".join(parts)
    if metric is not None and standing.best is not None:
        words += f"; best {metric.name} {standing.best[0]:.4g} ({standing.best[1]})"
    return words
