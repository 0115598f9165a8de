"""Measures where the time of a step goes (``trainer.profile=true``, or ``debug=profiler``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minesweep.training.display import Display

WARMUP, STEPS = 5, 20


class _Off:
    def step(self) -> None:
        pass


@contextmanager
def profiler(on: bool, folder: Path, display: Display) -> Iterator[Any]:
    """Profiles 20 steps after 5 of warm-up. Prints the costliest, writes ``trace.json``."""
    if not on:
        yield _Off()
        return
    from torch.profiler import profile, schedule

    def done(result: Any) -> None:
        result.export_chrome_trace(str(folder / "trace.json"))
        display.say(result.key_averages().table(sort_by="self_cpu_time_total", row_limit=15))
        display.say(f"trace: {folder / 'trace.json'}")

    plan = schedule(wait=0, warmup=WARMUP, active=STEPS, repeat=1)
    with profile(schedule=plan, on_trace_ready=done) as result:
        yield result
