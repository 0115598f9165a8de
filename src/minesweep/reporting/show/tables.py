"""The report's tables: as text for people (percent, ±), as CSV for programs (raw, in full)."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from minesweep.pages import clean
from minesweep.reporting.analyse.arms import short_names, show
from minesweep.reporting.units import DASH, probability, unit, words

if TYPE_CHECKING:
    from rich.console import RenderableType

    from minesweep.reporting.analyse.report import Report


FRAGILE = "\N{DAGGER}"
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


def means(report: Report, names: Collection[str] | None = None) -> Table:
    """One row an arm: its settings, the number of seeds, the measures (the main one and, of the
    others, those of ``names``; None: all), the main difference."""
    main = report.measures[0]
    shown = [m for m in report.measures if names is None or m is main or m.name in names]
    keys = list(report.arms[0].values)
    short = short_names(keys)
    compared = bool(report.baselines)
    columns = [*(short[key] for key in keys), "seeds", main.title]
    if compared:
        points = unit(main.name).points and ", points"
        columns += [f"difference to baseline [95 %]{points}", "p (Holm)", "answer"]
    columns += [measure.title for measure in shown[1:]]
    if report.step_seconds:
        columns.append("seconds per step")
    rows = []
    for arm in report.arms:
        row = dict(report.table.loc[arm.label])
        cells = [show(arm.values[key]) for key in keys] + [show(row["seeds"])]
        averages = [mean(m.name, row[f"{m.name} mean"], row[f"{m.name} half"]) for m in shown]
        cells.append(averages[0])
        if compared:
            d, low, high, p, word, without = (
                row[f"{main.name} {c}"]
                for c in ("difference", "low", "high", "p_holm", "answer", "without")
            )
            baseline = "baseline" if arm.label in report.baselines.values() else DASH
            told = _marked(word, without) if isinstance(word, str) else baseline
            cells += [unit(main.name).interval(d, low, high, word=False), probability(p), told]
        cells += averages[1:]
        if report.step_seconds:
            cells.append(f"{row['seconds per step']:.3g}")
        rows.append([clean(cell) for cell in cells])
    return Table(f"{report.study.name}: mean ± 95 % interval over seeds", columns, rows)


def brief(report: Report) -> Table:
    """At most seven columns, for a terminal: the main result of each arm, and its price."""
    main = report.measures[0].name
    whole = means(report, names=())
    start = whole.columns.index("seeds")
    columns = ["arm", *whole.columns[start:]]
    rows = [
        [clean(arm.label), *row[start:]] for arm, row in zip(report.arms, whole.rows, strict=True)
    ]
    scored = {
        arm: price.scored for arm, price in report.prices.items() if not math.isnan(price.scored)
    }
    if scored and not report.step_seconds:
        columns.append("scored")
        for arm, row in zip(report.arms, rows, strict=True):
            row.append(f"{scored[arm.label]:.3g} x" if arm.label in scored else DASH)
    return Table(f"{clean(report.study.name)}: {words(main)}", columns, rows)


def differences(report: Report) -> Table:
    """One row a measure and an arm: the paired difference to the arm's baseline."""
    titles = {measure.name: measure.title for measure in report.measures}
    rows = [
        [
            titles[row["measure"]],
            row["arm"],
            row["baseline"],
            show(row["n"]),
            unit(row["measure"]).interval(row["difference"], row["low"], row["high"]),
            probability(row["p"]),
            probability(row["p_holm"]),
            _marked(row["answer"], row["without"]),
        ]
        for row in report.comparisons.to_dict("records")
    ]
    columns = ["measure", "arm", "baseline", "seeds", "difference [95 %]"]
    columns += ["p", "p (Holm)", "answer"]
    cells = [[clean(cell) for cell in row] for row in rows]
    return Table("Paired differences on the same seeds", columns, cells)


def trials(report: Report) -> Table:
    """One row a run that counts."""
    keys = list(report.arms[0].values)
    short = short_names(keys)
    names = [measure.name for measure in report.measures]
    rows = [
        [
            *(show(row[key]) for key in ("run", *keys, "seed")),
            *(unit(name).value(row[name]) for name in names),
        ]
        for row in report.runs.to_dict("records")
    ]
    columns = [
        "run",
        *(short[key] for key in keys),
        "seed",
        *(m.title for m in report.measures),
    ]
    return Table("Runs", columns, [[clean(cell) for cell in row] for row in rows])


def problems(report: Report) -> Table:
    """One row a run that is amiss."""
    rows = [[clean(p.run), p.kind, clean(p.detail)[:300]] for p in report.study.problems]
    return Table("Runs that are amiss", ["run", "what", "detail"], rows)


def provenance(report: Report) -> Table:
    """What the runs were made with."""
    rows = [
        [clean(name), clean(", ".join(f"{v} ({n})" for v, n in held.most_common(5)))]
        for name, held in report.study.provenance.items()
        if name != "data" or len(held) <= 5
    ]
    return Table("Made with", ["what", "value (number of runs)"], rows)


def mean(metric: str, value: float, half: float) -> str:
    """``93.21 ± 0.12 %``; without an interval, the value alone."""
    u = unit(metric)
    if math.isnan(half):
        return u.value(value)
    return f"{u.value(value, sign=False)} ± {u.value(half)}"


def _marked(answer: str, without: str) -> str:
    return f"{answer} {FRAGILE}" if without else answer


def legend(report: Report) -> str:
    """What the signs in the tables mean."""
    told = "± and [ ]: 95 % t-intervals over seeds."
    if report.baselines:
        count = len(report.answers)
        told += " Differences are paired: an arm minus its baseline on the same seeds."
        if (report.comparisons["without"] != "").any():
            told += f" {FRAGILE}: the answer changes if one seed is left out."
        told += f" p: paired t-test, after Holm over {count} comparison{'s' if count > 1 else ''}."
    return told


def to_markdown(table: Table) -> str:
    """A Markdown table; names cannot break out of their cell."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(escape_markdown(cell) for cell in cells) + " |"

    rule = "|" + "---|" * len(table.columns)
    return "\n".join([line(table.columns), rule, *map(line, table.rows)])


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it stands: no HTML, no link, no column."""
    text = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def to_csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """CSV; numbers in full, in the metric's own unit (an accuracy is a share of 1), NaN empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if is_missing(cell) else cell for cell in row])
    return out.getvalue()


def is_missing(cell: Any) -> bool:
    """None or NaN."""
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def to_console(table: Table) -> RenderableType:
    """A rich table; markup in names is shown, not obeyed."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(title=Text(clean(table.title)), title_justify="left", box=SIMPLE_HEAD)
    for position, column in enumerate(table.columns):
        texts = [row[position] for row in table.rows]
        numeric = all(text[:1] in DASH + "+\N{MINUS SIGN}<0123456789" for text in texts)
        # A number is never broken; a phrase may be, between its words.
        parts = texts if numeric else [word for text in texts for word in text.split()]
        least = max(map(len, parts), default=0)
        justify: Literal["left", "right"] = "right" if numeric else "left"
        shown.add_column(Text(column), justify=justify, min_width=least)
    for row in table.rows:
        shown.add_row(*(Text(cell) for cell in row))
    return shown


def print_report(report: Report, files: Sequence[Path] = ()) -> None:
    """Prints the table, what is amiss, the headline and the files written."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 160
    console.print(to_console(brief(report)))
    console.print(legend(report), markup=False, style="dim")
    console.print(report.overview, markup=False)
    for note in report.notes:
        console.print(clean(note), markup=False)
    for problem in report.study.problems[:MOST_PROBLEMS]:
        told = f"{problem.kind}: {problem.run}: {problem.detail}"
        console.print(clean(told)[:300], markup=False)
    if (more := len(report.study.problems) - MOST_PROBLEMS) > 0:
        console.print(f"... and {more} more runs that are amiss, all in the report.")
    console.print()
    console.print(clean(report.headline), markup=False, style="bold")
    for path in files:
        console.print(str(path), markup=False)
