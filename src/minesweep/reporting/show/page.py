"""One self-contained HTML page: the answer, the table, the figures, what is amiss."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from minesweep import __version__
from minesweep.pages import clean, environment, in_script
from minesweep.reporting.show import tables
from minesweep.reporting.show.figures import Figure, all_figures

if TYPE_CHECKING:
    from minesweep.reporting.analyse.report import Report


def render(report: Report) -> str:
    """The page as HTML.

    It loads nothing (its content security policy forbids the network), every text in it is
    escaped by the template or, inside a script, by :func:`~minesweep.pages.in_script`.
    """
    figures = all_figures(report)
    return (
        environment(Path(__file__).parent)
        .get_template("page.html.j2")
        .render(
            name=clean(report.study.name),
            headline=report.headline,
            overview=f"{len(report.arms)} arms, {len(report.runs)} runs, "
            f"{report.runs['seed'].nunique()} seeds",
            means=tables.means(report),
            differences=None if report.comparisons.empty else tables.differences(report),
            trials=tables.trials(report),
            problems=tables.problems(report),
            provenance=tables.provenance(report),
            notes=[clean(note) for note in report.notes],
            sections=_sections(figures),
            figures={f.id: in_script(str(f.plot.to_json())) for f in figures},
            plotly=Markup(get_plotlyjs()),
            made=f"minesweep {__version__}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        )
    )


def _sections(figures: list[Figure]) -> list[list[Figure]]:
    """Figures of one group (a histogram for each arm, tiles) share a section."""
    sections: dict[str, list[Figure]] = {}
    for figure in figures:
        sections.setdefault(figure.group or figure.id, []).append(figure)
    return list(sections.values())
