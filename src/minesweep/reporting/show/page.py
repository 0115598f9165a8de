"""One self-contained HTML page: the answer, the table, the figures, what is amiss."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from markupsafe import Markup

from minesweep import __version__
from minesweep.pages import clean, data, environment
from minesweep.reporting.analyse.report import Report
from minesweep.reporting.show import tables
from minesweep.reporting.show.figures import Figure


def render(report: Report, figures: list[Figure]) -> str:
    """The page as HTML.

    It loads nothing (its content security policy forbids the network). The template escapes every
    text; inside a script :func:`~minesweep.pages.data` does.
    """
    sections = [list(same) for _, same in groupby(figures, key=attrgetter("title"))]
    specs = {
        f.id: {
            "chart": f.chart.properties(width="container", height=f.height).to_dict(),
            "axes": f.axes,
        }
        for f in figures
    }
    return (
        environment(Path(__file__).parent)
        .get_template("page.html.j2")
        .render(
            name=clean(report.study.name),
            headline=clean(report.headline),
            advice=clean(report.advice),
            overview=report.overview,
            means=tables.means(report),
            legend=tables.legend(report),
            differences=None if report.comparisons.empty else tables.differences(report),
            trials=tables.trials(report),
            runs=len(report.runs),
            most=tables.MOST_ROWS,
            problems=tables.problems(report),
            provenance=tables.provenance(report),
            notes=[clean(note) for note in report.notes],
            sections=sections,
            figures=data(specs),
            vega=vega() if figures else "",
            made=f"minesweep {__version__}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        )
    )


@cache
def vega() -> Markup:
    """The scripts that draw the figures: Vega, Vega-Lite and Vega-Embed."""
    import vl_convert

    # A script element ends at the first "</script", also within a string of its code.
    bundle: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]
    return Markup(bundle.replace("</script", "<\\/script"))
