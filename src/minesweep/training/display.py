"""What a run shows at the terminal while it trains and at its end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table


class Display:
    """A progress bar on a terminal; elsewhere one line at each validation."""

    def __init__(self, name: str, steps: int, step: int, shown: bool) -> None:
        self.console = Console(quiet=not shown, soft_wrap=True)
        self.name, self.steps = name, steps
        self._bar = Progress(
            TextColumn(name),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[values]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not shown or not self.console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("", total=steps, completed=step, values="")
        self._last = (time.perf_counter(), step)

    @contextmanager
    def running(self) -> Iterator[None]:
        with self._bar:
            yield

    def update(self, row: dict[str, Any]) -> None:
        """Shows a logged row."""
        now, (then, before) = time.perf_counter(), self._last
        self._last = (now, row["step"])
        values = [f"loss {row['train/loss_batch']:.4f}"] if "train/loss_batch" in row else []
        if "train/accuracy" in row:
            values.append(f"accuracy {row['train/accuracy']:.3f}")
        values.append(f"{(row['step'] - before) / max(now - then, 1e-9):.0f} steps/s")
        self._bar.update(self._task, completed=row["step"], values="  ".join(values))
        validation = {name: value for name, value in row.items() if name.startswith("val/")}
        if validation and not self.console.is_terminal:
            shown = "  ".join(
                [*values, *(f"{name} {number:.4f}" for name, number in validation.items())]
            )
            self.console.print(f"{self.name}  step {row['step']}/{self.steps}  {shown}")

    def show(self, table: Any) -> None:
        """Prints what rich can render; nothing for None."""
        if table is not None:
            self.console.print(table)

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False)


def summary_table(name: str, summary: dict[str, Any], folder: Path, shown: bool) -> None:
    """Prints the metrics of a finished run, and its folder."""
    console = Console(quiet=not shown, soft_wrap=True)
    table = Table(title=name, title_justify="left", show_header=False)
    for key, value in summary.items():
        if key.startswith("mining/class_share/"):
            continue  # the journal has them; here they would hide the rest
        table.add_row(key, f"{value:.4f}" if isinstance(value, float) else str(value))
    console.print(table)
    console.print(f"{folder}", highlight=False, markup=False)
