"""A workspace and a report per study at W&B, from the definitions of the local pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minesweep.errors import UserError
from minesweep.reporting.analyse.arms import short_names
from minesweep.reporting.analyse.report import Report, analyse
from minesweep.reporting.analyse.views import Surface, Tradeoff
from minesweep.reporting.show.figures import curve_metrics
from minesweep.reporting.show.tables import escape_markdown, means, to_markdown
from minesweep.tracking.sections import HISTOGRAMS, SECTIONS
from minesweep.tracking.wandb_run import mode
from minesweep.units import words

if TYPE_CHECKING:
    import wandb_workspaces.reports.v2 as reports
    import wandb_workspaces.workspaces as workspaces

ALIASES = {"miner": "miner_name", "n": "n", "k": "k", "seed": "seed"}
"""Columns of a study under the names that ``wandb.config`` has for them beside the tree."""
CHOICES = ("dataset", "model", "objective", "optimizer", "scheduler")
WIDE, HIGH = 12, 8
"""Width and height of a panel in the grid of a report, which is 24 wide."""


def save(target: str, folder: Path) -> list[str]:
    """Saves the workspace, and a report for each study in ``folder`` that has finished runs.

    Each call makes new ones: earlier ones may have been edited by hand, and stay.

    Args:
        target: ``ENTITY/PROJECT``.
        folder: Where the runs lie.

    Returns:
        Their addresses.

    Raises:
        UserError: The target is none, the package is missing, or W&B refuses.
    """
    match = re.fullmatch(r"([\w.-]+)/([\w.-]+)", target)
    if match is None:
        raise UserError(f"--wandb={target} must be ENTITY/PROJECT")
    entity, project = match.groups()
    if mode() != "online":
        raise UserError("no key is configured for W&B, or its host does not answer: wandb login")
    import wandb

    try:
        made: list[Any] = [workspace(entity, project)]
        made += [study_report(entity, project, report) for report in studies(folder)]
        return [item.save().url for item in made]
    except ImportError:
        raise UserError(
            "wandb-workspaces is not installed: pip install 'minesweep[dashboards]'"
        ) from None
    except (wandb.errors.Error, ValueError, OSError) as error:
        raise UserError(f"W&B does not take it: {error}") from None


def studies(folder: Path) -> list[Report]:
    """The local reports of all studies that have one; those without finished runs are left out."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    found = []
    for path in sorted(folder.iterdir()):
        # W&B's filters cannot quote, so that only plain names are asked for.
        if path.is_symlink() or not path.is_dir() or not re.fullmatch(r"\w[\w.-]*", path.name):
            continue
        try:
            found.append(analyse(path))
        except UserError as error:
            print(f"{path.name} is left out: {error}")
    return found


def workspace(entity: str, project: str) -> workspaces.Workspace:
    """Sections as on TensorBoard, with the histograms and what was mined."""
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    sections = {
        name: [_lines(t, p) for t, p in charts.items()] for name, charts in SECTIONS.items()
    }
    diagnostics = sections["selection diagnostics"]
    diagnostics.append(wr.WeavePanelSummaryTable(table_name="mined"))
    ordered = {}
    for name, panels in sections.items():
        ordered[name] = panels
        if name == "losses":
            ordered["histograms"] = [wr.LinePlot(title=words(m), y=[m]) for m in HISTOGRAMS]
    ordered["cost"].append(_parallel(["miner", "n", "k", "seed"], "val/accuracy_best"))
    return ws.Workspace(
        entity=entity,
        project=project,
        name="Minesweep",
        sections=[
            ws.Section(name=name, panels=panels, is_open=True) for name, panels in ordered.items()
        ],
        settings=ws.WorkspaceSettings(x_axis="Step", smoothing_weight=0),
        # A run's group is its study and its settings without the seed.
        runset_settings=ws.RunsetSettings(groupby=[ws.Metric("Group")]),
    )


def study_report(entity: str, project: str, report: Report) -> reports.Report:
    """The local report's answer and table, and panels over the study's runs."""
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    study = report.study.name
    # Without a project it is the report's own; with one, W&B would be asked for it here.
    runset = wr.Runset(
        name=study,
        filters=[ws.Config("study") == study],
        groupby=["Group"],
    )
    keys = [*report.arms, "seed"]
    panels = [_parallel(keys, report.settings.metric)]
    panels += [_lines(words(metric), re.escape(metric)) for metric in curve_metrics(report)]
    for view in report.views:
        if isinstance(view, Tradeoff):
            panels.append(
                wr.ScatterPlot(title=view.title, x=wr.SummaryMetric(view.x), y=_summary(view.y))
            )
        elif isinstance(view, Surface):
            panels.append(wr.ParameterImportancePlot(with_respect_to=view.metric))
    for place, panel in enumerate(panels):
        panel.layout = wr.Layout(x=place % 2 * WIDE, y=place // 2 * HIGH, w=WIDE, h=HIGH)
    notes = "\n".join(f"- {escape_markdown(note)}" for note in report.notes)
    return wr.Report(
        entity=entity,
        project=project,
        title=f"Minesweep: {study}",
        description=report.headline,
        width="fluid",
        blocks=[
            wr.MarkdownBlock(f"**{escape_markdown(report.headline)}**"),
            *([wr.MarkdownBlock(escape_markdown(report.advice))] if report.advice else []),
            wr.MarkdownBlock(to_markdown(means(report))),
            wr.MarkdownBlock(notes),
            wr.PanelGrid(runsets=[runset], panels=panels),
        ],
    )


def _lines(title: str, pattern: str) -> Any:
    import wandb_workspaces.reports.v2 as wr

    return wr.LinePlot(title=title, metric_regex=f"^{pattern}$", groupby_rangefunc="stderr")


def _parallel(keys: list[str], metric: str) -> Any:
    import wandb_workspaces.reports.v2 as wr

    short = short_names(keys)
    columns = [
        wr.ParallelCoordinatesPlotColumn(metric=_config(key), display_name=short[key])
        for key in keys
    ]
    columns.append(
        wr.ParallelCoordinatesPlotColumn(metric=_summary(metric), display_name=words(metric))
    )
    return wr.ParallelCoordinatesPlot(title="All trials", columns=columns)


def _config(key: str) -> Any:
    """A column of a study in ``wandb.config``, which has the tree under ``cfg``."""
    import wandb_workspaces.reports.v2 as wr

    if key in ALIASES:
        return wr.Config(ALIASES[key])
    return wr.Config(f"cfg.{key}._target_" if key in CHOICES else f"cfg.{key}")


def _summary(metric: str) -> Any:
    import wandb_workspaces.reports.v2 as wr

    return wr.SummaryMetric(metric)
