"""Small result tables under ``results/``, and the README that shows them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from minesweep.files import write_atomically
from minesweep.reporting.analyse.statistics import band
from minesweep.reporting.show import tables

if TYPE_CHECKING:
    from minesweep.reporting.analyse.report import Report

_BLOCK = re.compile(r"(<!-- begin (results/[\w.-]+\.md) -->\n).*?(<!-- end -->)", re.DOTALL)


def keep(report: Report, folder: Path) -> list[Path]:
    """Writes what a study showed: ``<study>.md`` to read, CSV files to compute with.

    Args:
        report: The study's report.
        folder: Where to, e.g. ``results``; a ``README.md`` beside it that has a block
            ``<!-- begin results/<study>.md --> ... <!-- end -->`` gets the new text.

    Returns:
        What was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = report.study.name
    texts = {
        f"{name}.md": text(report),
        f"{name}.csv": tables.to_csv(
            ["arm", *report.table.columns], list(report.table.itertuples())
        ),
        f"{name}_differences.csv": tables.to_csv(
            list(report.comparisons.columns), list(report.comparisons.itertuples(index=False))
        ),
        f"{name}_runs.csv": tables.to_csv(
            list(report.runs.columns), list(report.runs.itertuples(index=False))
        ),
    }
    curve = curves(report)
    if len(curve):
        columns, rows = list(curve.columns), list(curve.itertuples(index=False))
        texts[f"{name}_curves.csv"] = tables.to_csv(columns, rows)
    for file, content in texts.items():
        write_atomically(folder / file, content)
    written = [folder / file for file in texts]
    readme = folder.parent / "README.md"
    if readme.exists():
        filled = fill(readme.read_text(), folder.parent)
        if filled != readme.read_text():
            write_atomically(readme, filled)
            written.append(readme)
    return written


def curves(report: Report) -> pd.DataFrame:
    """The study's validation metric over the steps: mean and interval of each arm."""
    arm_of = dict(zip(report.runs["run"], report.runs["arm"], strict=True))
    return band(report.study.curves, arm_of, report.settings.validation)


def text(report: Report) -> str:
    """The answer, the table of the main and the further measures, notes, the provenance."""
    facts = {key: held.most_common(1)[0][0] for key, held in report.study.provenance.items()}
    versions = [f"{key[9:]} {facts[key]}" for key in ("versions.python", "versions.torch")]
    made = (
        f"{len(report.runs)} runs, {facts.get('device')}, {facts.get('threads')} thread(s) each, "
        f"{', '.join(versions)}, commit {str(facts.get('commit'))[:12]}."
    )
    return (
        "\n\n".join(
            [
                tables.escape_markdown(report.headline),
                tables.to_markdown(tables.means(report, report.settings.further)),
                "\n".join(f"- {tables.escape_markdown(note)}" for note in [*report.notes, made]),
            ]
        )
        + "\n"
    )


def fill(readme: str, root: Path) -> str:
    """A README whose blocks hold the texts of the result files that they name."""

    def block(match: re.Match[str]) -> str:
        path = root / match[2]
        return match[1] + (path.read_text() if path.exists() else "") + match[3]

    return _BLOCK.sub(block, readme)
