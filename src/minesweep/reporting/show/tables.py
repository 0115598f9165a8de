"""The report's tables as text for people (percent, ±), on the console and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from minesweep.pages import clean
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


def _table(title: str, columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> Table:
    return Table(title, list(columns), [[clean(cell) for cell in row] for row in rows])


def means(report: Report, names: Collection[str] | None = None) -> Table:
    """One row an arm: its settings, the number of seeds, the measures (the main one and, of the
    others, those of ``names``; None: all), the main difference."""
    main, *others = report.measures
    further = [name for name in others if names is None or name in names]
    keys = short_names(list(report.arms[0].values))
    u, baselines = unit(main), set(report.baselines.values())
    told = [f"difference to baseline [95 %]{u.points and ', points'}", "p (Holm)", "answer"]
    told = [name for name in told if baselines and not (looked(report) and name == "p (Holm)")]
    seconds = ["seconds per step"] if report.step_seconds else []

    def cells(label: str) -> Iterable[str]:
        row = dict(report.table.loc[label])
        mean = {m: unit(m).mean(row[f"{m} mean"], row[f"{m} half"]) for m in (main, *further)}
        yield from (show(row[key]) for key in (*keys, "seeds"))
        yield mean.pop(main)
        if baselines:
            d, low, high = (row[f"{main} {name}"] for name in ("difference", "low", "high"))
            yield u.interval(d, low, high, word=False)
            if not looked(report):
                yield probability(row[f"{main} p_holm"])
            answer = row[f"{main} answer"]
            none = "baseline" if label in baselines else DASH
            yield _marked(answer, row[f"{main} without"]) if isinstance(answer, str) else none
        yield from mean.values()
        yield from (f"{row[name]:.3g}" for name in seconds)

    columns = [*keys.values(), "seeds", report.measures[main], *told]
    columns += [*(report.measures[name] for name in further), *seconds]
    rows = (cells(arm.label) for arm in report.arms)
    return _table(f"{report.study.name}: mean ± 95 % interval over seeds", columns, rows)


def looked(report: Report) -> bool:
    """Whether the answers are those of declared looks: there is no p value then."""
    return "level" in report.comparisons


def brief(report: Report) -> Table:
    """At most seven columns, for a terminal: the main result of each arm, and its price."""
    whole = means(report, names=())
    start = whole.columns.index("seeds")
    columns = ["arm", *whole.columns[start:]]
    labels = [arm.label for arm in report.arms]
    rows = [[arm, *row[start:]] for arm, row in zip(labels, whole.rows, strict=True)]
    scored = {arm: x for arm, p in report.prices.items() if (x := p["scored"]) == x}
    if scored and not report.step_seconds:
        columns.append("scored")
        for row in rows:
            row.append(f"{scored[row[0]]:.3g} x" if row[0] in scored else DASH)
    return _table(f"{report.study.name}: {words(report.settings.metric)}", columns, rows)


def differences(report: Report) -> Table:
    """One row a measure and an arm: the paired difference to the arm's baseline."""
    columns = ["measure", "arm", "baseline", "seeds"]
    columns += ["difference [95 %]", "p", "p (Holm)", "answer"]
    rows = (
        (
            report.measures[row["measure"]],
            row["arm"],
            row["baseline"],
            show(row["n"]),
            unit(row["measure"]).interval(row["difference"], row["low"], row["high"]),
            probability(row["p"]),
            probability(row["p_holm"]),
            _marked(row["answer"], row["without"]),
        )
        for row in report.comparisons.to_dict("records")
    )
    return _table("Paired differences on the same seeds", columns, rows)


def thin(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` positions, evenly, both ends kept."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))})


def some_runs(report: Report) -> pd.DataFrame:
    """The runs that count; of very many so many, evenly among them."""
    return report.runs.iloc[thin(len(report.runs), MOST_ROWS)]


def trials(report: Report) -> Table:
    """One row a run of :func:`some_runs`."""
    keys = short_names(list(report.arms[0].values))
    rows = (
        (
            *(show(row[key]) for key in ("run", *keys, "seed")),
            *(unit(name).value(row[name]) for name in report.measures),
        )
        for row in some_runs(report).to_dict("records")
    )
    return _table("Runs", ["run", *keys.values(), "seed", *report.measures.values()], rows)


def problems(report: Report) -> Table:
    """One row a run that is amiss."""
    rows = ((p.run, p.kind, clean(p.detail)[:300]) for p in report.study.problems)
    return _table("Runs that are amiss", ["run", "what", "detail"], rows)


def provenance(report: Report) -> Table:
    """Versions, devices and data of the runs."""
    rows = (
        (name, ", ".join(f"{v} ({n})" for v, n in held.most_common(5)))
        for name, held in report.study.provenance.items()
        if name != "data" or len(held) <= 5
    )
    return _table("Made with", ["what", "value (number of runs)"], rows)


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
    text = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def to_console(table: Table) -> RichTable:
    """A rich table; markup in names is shown, not obeyed."""
    shown = RichTable(title=Text(table.title), title_justify="left", box=box.SIMPLE_HEAD)
    for column, *texts in zip(table.columns, *table.rows, strict=True):
        numeric = all(text[:1] in DASH + "+\N{MINUS SIGN}<0123456789" for text in texts)
        # A number is never broken; a phrase may be, between its words.
        parts = texts if numeric else [word for text in texts for word in text.split()]
        justify: Literal["left", "right"] = "right" if numeric else "left"
        least = max(map(len, parts), default=0)
        shown.add_column(Text(column), justify=justify, min_width=least)
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
    told = [f"{p.kind}: {p.run}: {p.detail}"[:300] for p in amiss[:MOST_PROBLEMS]]
    if (more := len(amiss) - MOST_PROBLEMS) > 0:
        told.append(f"... and {more} more runs that are amiss, all in the report.")
    for line in (report.overview, *report.notes, *told, ""):
        console.print(clean(line))
    console.print(clean(report.headline), style="bold")
    if report.advice:
        console.print(clean(report.advice))
    for path in files:
        console.print(str(path))
