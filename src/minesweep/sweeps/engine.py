"""Runs what a sweep file asks for and has not been done yet, through any of Hydra's launchers.

Nothing is stored: which trials there are follows from the file, and how far each is from its
run folder. So a kill loses no finished trial, the same command goes on, and several processes
can work on one file, on one machine or many: the lease of a run says who computes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track

from minesweep.config.checks import DoesNotFit
from minesweep.config.entry import collect_garbage_again
from minesweep.config.equal_cost import CostUnknown
from minesweep.errors import UserError
from minesweep.sweeps.check import announce
from minesweep.sweeps.metrics import check_metric
from minesweep.sweeps.plan import Compose, Planner, Trial, cores, study_folders
from minesweep.sweeps.progress import SweepProgress
from minesweep.sweeps.runner import Launch, Options, Runner
from minesweep.sweeps.spec import Sweep, keep_report_settings, read
from minesweep.sweeps.trials import trials

if TYPE_CHECKING:
    from minesweep.sweeps.bayes import Search
    from minesweep.sweeps.until_sure import UntilSure

MANY = 200
"""Trials whose check takes seconds, and shows a bar."""


def run_sweep(
    options: Options, compose: Compose, launch: Launch, launcher: str = "basic"
) -> list[Trial]:
    """Checks the sweep, runs it, prints the report.

    Args:
        options: The command line.
        compose: Hydra's composition of a list of overrides.
        launch: ``launch(list of lists of overrides, initial_job_idx=)`` of a Hydra launcher.
        launcher: Its name.

    Returns:
        The trials that are finished.

    Raises:
        UserError: The sweep is wrong, or trials failed.
        SystemExit: It was stopped by a signal.
    """
    console = Console(soft_wrap=True, highlight=False, markup=False)
    sweep = read(options.file)
    threads = max(1, cores() // options.jobs) if options.jobs > 1 else None
    planner = Planner(sweep, compose, options.fixed, None if "slurm" in launcher else threads)
    runner = Runner(launch, launcher, options)
    # What a sweep may never need is imported where it does: pandas and SciPy take most of a second.
    search: Search | UntilSure | None = None
    until_sure: UntilSure | None = None
    if options.until_sure:
        from minesweep.sweeps.until_sure import UntilSure

        search = until_sure = UntilSure(sweep, planner, options, console)
        planned, total = search.planned, search.total
    elif sweep.method == "bayes":
        from minesweep.sweeps.bayes import Search

        search = Search(sweep, planner, options)
        planned, total = search.planned, search.total
    else:
        planned = _plan(sweep, planner, trials(sweep, options.count, options.seed), console)
        total = len(planned)
    check_metric(sweep, planner.objectives)
    if until_sure is not None:
        console.print(until_sure.describe())
    announce(sweep, planned, total, options, console)
    collect_garbage_again()
    if options.check:
        return [trial for trial in planned if trial.finished]
    for folder in study_folders(planned):
        keep_report_settings(sweep, folder)
    progress = SweepProgress(planned, total, sweep.metric, console)
    with _say_how_to_go_on(sweep, planned, total, console), runner.stoppable(), progress:
        if search is not None:
            search.run(runner)
        else:
            runner.run(planned)
    closing = until_sure.closing() if until_sure is not None else []
    if not options.worker:
        _report(planned, console)
    return _conclude(sweep, planned, runner, console, closing)


def _plan(
    sweep: Sweep,
    planner: Planner,
    wanted: Sequence[Sequence[str]],
    console: Console,
    measured: bool = False,
) -> list[Trial]:
    """The trials; without those whose miner does not fit, and after measuring where that is due."""
    bar: Iterable[Sequence[str]] = wanted
    # A bar that is merely disabled ends in an empty line with older versions of Rich.
    if len(wanted) >= MANY and console.is_terminal:
        bar = track(wanted, "checking trials", console=console, transient=True)
    try:
        return planner.plan(bar)
    except DoesNotFit:
        fitting, _ = planner.fitting(wanted)
        left_out = len(wanted) - len(fitting)
        console.print(f"left out: {left_out} trials whose miner does not fit the objective")
        return _plan(sweep, planner, fitting, console, measured)
    except CostUnknown:
        if measured:
            raise
        from minesweep.sweeps.calibrate import calibrate
        from minesweep.sweeps.cells import find_cells

        calibrate(find_cells(sweep, planner), console)
        return _plan(sweep, planner, wanted, console, measured=True)


@contextmanager
def _say_how_to_go_on(
    sweep: Sweep, planned: Sequence[Trial], total: int, console: Console
) -> Iterator[None]:
    try:
        yield
    except SystemExit:
        done = sum(trial.finished for trial in planned)
        console.print(
            f"{sweep.path}: stopped with {done} of {total} trials finished; "
            "the same command goes on from here"
        )
        raise


def _report(planned: Sequence[Trial], console: Console) -> None:
    """Prints and writes the reports of the studies that have a finished trial."""
    from minesweep.dashboard.headline import send_headline
    from minesweep.reporting.analyse.report import analyse
    from minesweep.reporting.show.tables import print_report
    from minesweep.reporting.show.write import write

    for folder in study_folders([trial for trial in planned if trial.finished]):
        try:
            report = analyse(folder)
            print_report(report, write(report))
            if line := send_headline(report):
                console.print(line)
        except UserError as error:
            console.print(f"no report of {folder}: {error}")


def _conclude(
    sweep: Sweep,
    planned: Sequence[Trial],
    runner: Runner,
    console: Console,
    closing: Sequence[str],
) -> list[Trial]:
    """Prints the closing lines, then fails where trials did."""
    for line in closing:
        console.print(line)
    failed = [trial for trial in planned if trial.folder in runner.reasons]
    for trial in failed:
        console.print(f"failed: {trial.folder} ({trial.label}): {runner.reasons[trial.folder]}")
    if failed:
        raise UserError(
            f"{sweep.path}: {len(failed)} of {len(planned)} trials failed; "
            "the same command tries them again"
        )
    return [trial for trial in planned if trial.finished]
