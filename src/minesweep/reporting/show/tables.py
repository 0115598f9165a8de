"""The report's tables as text for people (percent, ±), on the console and as Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from minesweep.pages import clean, thin
from minesweep.reporting.analyse.arms import short_names, show
from minesweep.reporting.analyse.report import Report
from minesweep.units import DASH, probability, unit, words

FRAGILE = "\N{DAGGER}"
MOST_ROWS = 1_000
"""Of a table on the page. The files beside it hold all."""
MOST_PROBLEMS = 10
"""On the console."""


@dataclass(frozen=True)
class Table:
    """Text cells, ready to be shown.

    Attributes:
        title: A heading.
        columns: Headings of the columns.
        rows: Cells.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]


def _table(title: str, columns: Iterable[tuple[str, Iterable[Any]]]) -> Table:
    heads, cells = zip(*columns, strict=True)
    return Table(title, list(heads), [list(map(clean, row)) for row in zip(*cells, strict=True)])


def means(report: Report, names: Collection[str] | None = None) -> Table:
    """One row an arm: its settings, the number of seeds, the measures (the main one and, of the
    others, those of ``names``; None: all), the main difference."""
    keys = short_names(report.arms)
    settings = [(name, map(show, report.table[key])) for key, name in keys.items()]
    title = f"{report.study.name}: mean ± 95 % interval over seeds"
    return _table(title, [*settings, *_results(report, names)])


def brief(report: Report) -> Table:
    """At most seven columns, for a terminal: the main result of each arm, and its price."""
    labels = report.table.index
    columns = [("arm", labels), *_results(report, names=())]
    scored = report.prices["scored"].dropna().map("{:.3g} x".format)
    if len(scored) and not report.step_seconds:
        columns.append(("scored", scored.reindex(labels).fillna(DASH)))
    return _table(f"{report.study.name}: {words(report.settings.metric)}", columns)


def _results(report: Report, names: Collection[str] | None) -> list[tuple[str, Iterable[Any]]]:
    """The columns of :func:`means` without the settings."""
    main, *others = report.measures
    table, u = report.table, unit(main)

    def mean(name: str) -> tuple[str, Iterable[str]]:
        ends = table[f"{name} mean"], table[f"{name} half"]
        return report.measures[name], map(unit(name).mean, *ends)

    columns = [("seeds", map(show, table["seeds"])), mean(main)]
    if report.baselines:
        names_of = ("difference", "low", "high", "p_holm", "answer", "without")
        *ends, p, answer, without = (table[f"{main} {name}"] for name in names_of)
        points = f"difference to baseline [95 %]{u.points and ', points'}"
        columns.append((points, map(partial(u.interval, word=False), *ends)))
        if not looked(report):
            columns.append(("p (Holm)", map(probability, p)))
        own = dict.fromkeys(report.baselines.values(), "baseline")
        told = answer.fillna(table.index.to_series().map(own)).fillna(DASH)
        columns.append(("answer", map(_marked, told, without.fillna(""))))
    columns += [mean(name) for name in others if names is None or name in names]
    if report.step_seconds:
        columns.append(("seconds per step", map("{:.3g}".format, table["seconds per step"])))
    return columns


def looked(report: Report) -> bool:
    """Whether the answers are those of declared looks: there is no p value then."""
    return "level" in report.comparisons


def differences(report: Report) -> Table:
    """One row a measure and an arm: the paired difference to the arm's baseline."""
    rows = report.comparisons
    ends = zip(rows["measure"], rows["difference"], rows["low"], rows["high"], strict=True)
    columns = [
        ("measure", rows["measure"].map(report.measures)),
        ("arm", rows["arm"]),
        ("baseline", rows["baseline"]),
        ("seeds", map(show, rows["n"])),
        ("difference [95 %]", (unit(name).interval(*numbers) for name, *numbers in ends)),
        ("p", map(probability, rows["p"])),
        ("p (Holm)", map(probability, rows["p_holm"])),
        ("answer", map(_marked, rows["answer"], rows["without"])),
    ]
    return _table("Paired differences on the same seeds", columns)


def some_runs(report: Report) -> pd.DataFrame:
    """The runs that count; of very many so many, evenly among them."""
    return report.runs.iloc[thin(len(report.runs), MOST_ROWS)]


def trials(report: Report) -> Table:
    """One row a run of :func:`some_runs`."""
    runs = some_runs(report)
    keys = {"run": "run", **short_names(report.arms), "seed": "seed"}
    settings = [(name, map(show, runs[key])) for key, name in keys.items()]
    results = [(title, map(unit(m).value, runs[m])) for m, title in report.measures.items()]
    return _table("Runs", [*settings, *results])


def problems(report: Report) -> Table:
    """One row a run that is amiss."""
    amiss = report.study.problems
    columns = {"run": amiss["run"], "what": amiss["kind"], "detail": amiss["detail"].str[:300]}
    return _table("Runs that are amiss", columns.items())


def provenance(report: Report) -> Table:
    """Versions, devices and data of the runs."""
    facts = report.study.provenance.items()
    held = {name: counts for name, counts in facts if name != "data" or len(counts) <= 5}
    values = [", ".join(f"{v} ({n})" for v, n in c.most_common(5)) for c in held.values()]
    return _table("Made with", [("what", held), ("value (number of runs)", values)])


def _marked(answer: str, without: str) -> str:
    return f"{answer} {FRAGILE}" if without else answer


def legend(report: Report) -> str:
    """The meaning of the signs in the tables."""
    told = "± and [ ]: 95 % t-intervals over seeds."
    if report.baselines:
        count = len(report.answers)
        told += " Differences are paired: an arm minus its baseline on the same seeds."
        if (report.comparisons["without"] != "").any():
            told += f" {FRAGILE}: the answer changes if one seed is left out."
        if looked(report):
            return f"{told} Their intervals hold at 95 % over all looks and comparisons together."
        told += f" p: paired t-test, after Holm over {count} comparison{'s' if count > 1 else ''}."
    return told


def to_markdown(table: Table) -> str:
    """A Markdown table; names cannot break out of their cell."""
    lines = [[escape_markdown(cell) for cell in row] for row in (table.columns, *table.rows)]
    head, *body = ("| " + " | ".join(line) + " |" for line in lines)
    return "\n".join([head, "|" + "---|" * len(table.columns), *body])


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it stands: no HTML, no link, no column."""
    text = html.escape(clean(text), quote=False)
    return re.sub(r"([\\`*\[\]|]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def to_console(table: Table) -> RichTable:
    """A rich table; markup in names is shown, not obeyed."""
    shown = RichTable(title=Text(table.title), title_justify="left", box=box.SIMPLE_HEAD)
    for column, *texts in zip(table.columns, *table.rows, strict=True):
        numeric = all(text[:1] in DASH + "+\N{MINUS SIGN}<0123456789" for text in texts)
        # A number is never broken; a phrase may be, between its words.
        parts = texts if numeric else [word for text in texts for word in text.split()]
        least = max(map(len, parts), default=0)
        side: Literal["left", "right"] = "right" if numeric else "left"
        shown.add_column(Text(column), justify=side, min_width=least)
    for row in table.rows:
        shown.add_row(*map(Text, row))
    return shown


def print_report(report: Report, files: Sequence[Path] = ()) -> None:
    """Prints the table, what is amiss, the headline and the files written."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    if not console.is_terminal:
        console.width = 160
    console.print(to_console(brief(report)))
    console.print(legend(report), style="dim")
    amiss = report.study.problems
    told = [f"{p.kind}: {p.run}: {p.detail}"[:300] for p in amiss[:MOST_PROBLEMS].itertuples()]
    if (more := len(amiss) - MOST_PROBLEMS) > 0:
        told.append(f"... and {more} more runs that are amiss, all in the report.")
    for line in (report.overview, *report.notes, *told, ""):
        console.print(clean(line))
    console.print(clean(report.headline), style="bold")
    if report.advice:
        console.print(clean(report.advice))
    for path in files:
        console.print(str(path))
