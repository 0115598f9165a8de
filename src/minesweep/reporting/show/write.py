"""The files of a report, each written whole or not at all; and what ``--keep`` stores of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from markupsafe import Markup

from minesweep import __version__
from minesweep.errors import UserError
from minesweep.files import write_atomically
from minesweep.pages import data, environment
from minesweep.reporting.analyse.report import Report
from minesweep.reporting.show import tables
from minesweep.reporting.show.charts import png
from minesweep.reporting.show.figures import Figure, all_figures, paper

CSV: Any = {"index": False, "lineterminator": "\n"}


def write(report: Report, output: Path | None = None) -> list[Path]:
    """Writes ``report.html``, ``report.md``, ``table.csv``, ``differences.csv``, ``runs.csv``
    and the figures to ``output``, by default ``report`` in the study's folder.

    Returns:
        The files' paths; the page comes first.

    Raises:
        UserError: The folder cannot be written.
    """
    output = output or report.study.folder / "report"
    figures = all_figures(report)
    pictures = {f"{name}.png": png(chart) for name, chart in paper(report, figures).items()}
    numbers = {f"{name}.csv": text for name, text in csv_texts(report).items()}
    page, text = render(report, figures), markdown(report, list(pictures))
    return _write_all(output, {"report.html": page, "report.md": text, **numbers, **pictures})


def keep(report: Report, folder: Path) -> list[Path]:
    """Writes what a study showed: ``<study>.md`` to read, CSV files to compute with.

    Where ``best_by`` chose a value for each arm, ``<study>_tried.csv`` holds every run of the
    choice, so that the choice can be computed again without the runs.
    """
    name, texts = report.study.name, csv_texts(report)
    curves = report.curve(report.settings.validation)
    files = {f"{name}.md": summary(report), f"{name}.csv": texts.pop("table")}
    files |= {f"{name}_{kind}.csv": text for kind, text in texts.items()}
    if len(report.choices):
        files[f"{name}_tried.csv"] = report.study.runs.to_csv(**CSV)
    if len(curves):
        files[f"{name}_curves.csv"] = curves.to_csv(**CSV)
    return _write_all(folder, files)


def _write_all(folder: Path, files: Mapping[str, str | bytes]) -> list[Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_atomically(folder / name, content)
    except OSError as error:
        raise UserError(f"{folder}: the report cannot be written ({error.strerror})") from None
    return [folder / name for name in files]


def csv_texts(report: Report) -> dict[str, str]:
    """The tables as CSV: numbers in full, in the metric's own unit."""
    arms = report.table.reset_index(names="arm")
    named = {"table": arms, "differences": report.comparisons, "runs": report.runs}
    return {name: table.to_csv(**CSV) for name, table in named.items()}


def markdown(report: Report, pictures: list[str]) -> str:
    """The report as Markdown: the answer, the tables, the notes, the figures, what is amiss."""
    escape = tables.escape_markdown
    parts = [
        f"# {escape(report.study.name)}",
        f"**{escape(report.headline)}**",
        escape(report.advice),
        _section(tables.means(report)),
        escape(tables.legend(report)),
        escape(report.overview),
        "" if report.comparisons.empty else _section(tables.differences(report)),
        "\n".join(f"- {escape(note)}" for note in report.notes),
        *(f"![{name.removesuffix('.png')}]({name})" for name in pictures),
        _section(tables.problems(report)) if len(report.study.problems) else "",
        _section(tables.provenance(report)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(table: tables.Table) -> str:
    return f"## {tables.escape_markdown(table.title)}\n\n{tables.to_markdown(table)}"


def summary(report: Report) -> str:
    """The answer, the table of the main and the further measures, notes, the provenance."""
    facts = {key: held.most_common(1)[0][0] for key, held in report.study.provenance.items()}
    versions = [f"{key[9:]} {facts[key]}" for key in ("versions.python", "versions.torch")]
    made = (
        f"{len(report.runs)} runs, {facts.get('device')}, {facts.get('threads')} thread(s) each, "
        f"{', '.join(versions)}, commit {str(facts.get('commit'))[:12]}."
    )
    table = tables.to_markdown(tables.means(report, report.settings.further))
    notes = "\n".join(f"- {tables.escape_markdown(note)}" for note in [*report.notes, made])
    told = [tables.escape_markdown(line) for line in (report.headline, report.advice) if line]
    return "\n\n".join([*told, table, notes]) + "\n"


def render(report: Report, figures: list[Figure]) -> str:
    """The page as HTML. Its template escapes every text, and :func:`data` those in scripts."""
    sections = [list(same) for _, same in groupby(figures, key=attrgetter("title"))]
    sized = {f.id: f.chart.properties(width="container", height=f.height) for f in figures}
    specs = {f.id: {"chart": sized[f.id].to_dict(), "axes": f.axes} for f in figures}
    template = environment(Path(__file__).parent).get_template("page.html.j2")
    return template.render(
        report=report,
        tables=tables,
        sections=sections,
        figures=data(specs),
        vega=vega() if figures else "",
        made=f"minesweep {__version__}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )


@cache
def vega() -> Markup:
    """The scripts that draw the figures: Vega, Vega-Lite and Vega-Embed."""
    import vl_convert

    # A script element ends at the first "</script", also within a string of its code.
    bundle: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]
    return Markup(bundle.replace("</script", "<\\/script"))
