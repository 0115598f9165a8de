"""The files of a report, each written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from minesweep.errors import UserError
from minesweep.reporting.show import tables
from minesweep.reporting.show.figures import all_figures, paper, png
from minesweep.reporting.show.page import render

if TYPE_CHECKING:
    from minesweep.reporting.analyse.report import Report


def write(report: Report, output: Path | None = None) -> list[Path]:
    """Writes ``report.html``, ``report.md``, ``table.csv``, ``differences.csv``, ``runs.csv``
    and the figures.

    Args:
        report: The study's report.
        output: Where to write; ``report`` in the study's folder if None.

    Returns:
        The files' paths; the page comes first.

    Raises:
        UserError: The folder cannot be written.
    """
    output = output or report.study.folder / "report"
    figures = all_figures(report)
    pictures = {f"{name}.png": png(chart) for name, chart in paper(report, figures).items()}
    texts = {
        "report.html": render(report, figures),
        "report.md": markdown(report, list(pictures)),
        "table.csv": tables.to_csv(["arm", *report.table.columns], list(report.table.itertuples())),
        "differences.csv": tables.to_csv(
            list(report.comparisons.columns),
            list(report.comparisons.itertuples(index=False)),
        ),
        "runs.csv": tables.to_csv(
            list(report.runs.columns), list(report.runs.itertuples(index=False))
        ),
    }
    try:
        output.mkdir(parents=True, exist_ok=True)
        written = [_replace(output / name, text.encode()) for name, text in texts.items()]
        written += [_replace(output / name, image) for name, image in pictures.items()]
    except OSError as error:
        raise UserError(f"{output}: the report cannot be written ({error.strerror})") from None
    return written


def markdown(report: Report, pictures: list[str]) -> str:
    """The report as Markdown: the answer, the tables, the notes, the figures, what is amiss."""
    escape = tables.escape_markdown
    parts = [
        f"# {escape(report.study.name)}",
        f"**{escape(report.headline)}**",
        _section(tables.means(report)),
        escape(tables.legend(report)),
        escape(report.overview),
    ]
    if not report.comparisons.empty:
        parts.append(_section(tables.differences(report)))
    parts.append("\n".join(f"- {escape(note)}" for note in report.notes))
    parts += [f"![{name.removesuffix('.png')}]({name})" for name in pictures]
    if report.study.problems:
        parts.append(_section(tables.problems(report)))
    parts.append(_section(tables.provenance(report)))
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(table: tables.Table) -> str:
    return f"## {tables.escape_markdown(table.title)}\n\n{tables.to_markdown(table)}"


def _replace(path: Path, content: bytes) -> Path:
    """Two sweep processes may end at once: a reader sees one report or the other, never half."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(content)
    draft.replace(path)
    return path
