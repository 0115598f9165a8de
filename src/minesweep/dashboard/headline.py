"""The headline of a study in the summary of a W&B run, beside the runs of the study."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minesweep.config import places
from minesweep.lease import held
from minesweep.tracking.reading import UnreadableError, read_json
from minesweep.tracking.wandb_rules import LONGEST
from minesweep.tracking.wandb_run import FILE, WandbRun, has_key, keep, kept, mode
from minesweep.units import unit

if TYPE_CHECKING:
    from minesweep.reporting.analyse.report import Report

FOLDER = "report"
"""In the folder of the study: keeps the id of its W&B run, so that each report has the same one."""
LIMIT = 30
"""Seconds that a report waits for W&B at most."""


def send_headline(report: Report) -> str:
    """Sends the headline to W&B, where the runs of the study are.

    The run has the job type ``report``, and the project and entity of the study's runs. Each report
    of the study goes to the same run. One that says nothing new is not sent.

    Returns:
        What a reader has to know, in one line. Empty where no run of the study is at W&B, or
        nothing is new.
    """
    runs = [_kept(report.study.folder / name) for name in report.study.runs["run"]]
    known = [run for run in runs if run.get("project")]
    way = mode() if known else "disabled"
    if way == "disabled":
        return ""
    command = f"{places.command('report')} {report.study.folder}"
    if way != "online":
        # Who has no account hears nothing of W&B.
        told = "WANDB_MODE" in os.environ or has_key() or any("url" in run for run in known)
        return f"W&B is offline. To send it the headline later: {command}" if told else ""
    (project, entity), _ = Counter(
        (str(run["project"]), str(run.get("entity") or "")) for run in known
    ).most_common(1)[0]
    folder, said = report.study.folder / FOLDER, summary(report)
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder / ".locks" / "headline"):
        if kept(folder).get("sent") == said:
            return ""
        name = report.study.name
        arguments = {
            "project": project,
            "entity": entity or None,
            "name": f"report of {name}"[:LONGEST],
            "group": name[:LONGEST],
            "job_type": "report",
            "config": {"report_of": name},
        }
        to = WandbRun(folder, LIMIT, arguments)
        to.close(said)
        if to.unsent:
            return f"W&B did not take the headline ({to.unsent}). To send it later: {command}"
        keep(folder, {**kept(folder), "sent": said})
    # A client may forget the address of a run that has ended.
    return f"The headline is at W&B: {to.run.url or kept(folder).get('url', project)}"


def _kept(run: Path) -> dict[str, Any]:
    try:
        return read_json(run / FILE)
    except UnreadableError:
        return {}


def summary(report: Report) -> dict[str, Any]:
    """What the run's summary gets: the headline, the advice, each answer with its interval."""
    u = unit(report.settings.metric)
    rows: list[Any] = list(report.answers.itertuples())
    answers = {
        f"answer/{a.arm}": f"{a.answer}: {u.interval(a.difference, a.low, a.high)} over "
        f"{a.baseline}, {a.n} seed{'s' if a.n != 1 else ''}"
        for a in rows
    }
    said = {"headline": report.headline, "metric": report.settings.metric, **answers}
    return said | ({"advice": report.advice} if report.advice else {})
