"""The options of ``src/sweep.py`` -> the Hydra command that runs the sweep."""

from __future__ import annotations

import argparse
import importlib.util
import math

from minesweep.errors import UserError
from minesweep.sweeps.budget import Budget
from minesweep.sweeps.spec import read

# launcher: (its package, the extra that brings it, its overrides for so many jobs)
LAUNCHERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "basic": ("", "", ()),
    "joblib": (
        "hydra_plugins.hydra_joblib_launcher",
        "joblib",
        # A trial is handed to a worker when that is free, so that a stop leaves none half begun.
        ("hydra.launcher.n_jobs={jobs}", "hydra.launcher.pre_dispatch=n_jobs"),
    ),
    "submitit_local": (
        "hydra_plugins.hydra_submitit_launcher",
        "slurm",
        (
            "hydra.launcher._target_=hydra_plugins.minesweep_launcher.LocalLauncher",
            "hydra.launcher.submitit_folder=${{paths.runs_dir}}/.submitit/%j",
        ),
    ),
    "submitit_slurm": (
        "hydra_plugins.hydra_submitit_launcher",
        "slurm",
        (
            "hydra.launcher._target_=hydra_plugins.minesweep_launcher.SlurmLauncher",
            "hydra.launcher.submitit_folder=${{paths.runs_dir}}/.submitit/%j",
            # A trial may be preempted, and reach its time limit, as often as it takes.
            "hydra.launcher.max_num_timeout=1000",
            "+hydra.launcher.additional_parameters.requeue=true",
            "hydra.launcher.array_parallelism={jobs}",
        ),
    ),
}


def command(options: argparse.Namespace) -> list[str]:
    """The arguments for Python: the sweep's program in multirun with our sweeper.

    Raises:
        UserError: The file, or an option, is wrong.
    """
    sweep = read(options.file)
    for name, least in (("jobs", 1), ("count", 1), ("retries", 0), ("seed", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise UserError(f"--{name} {value} must be at least {least}")
    _check_until_sure(options)
    if options.worker and options.launcher != "basic":
        raise UserError(
            f"--worker computes its trials itself: start several, or drop it and take "
            f"--launcher {options.launcher}"
        )
    if options.jobs > 1 and options.launcher == "basic":
        raise UserError("--jobs needs a launcher of several processes: add --launcher joblib")
    for word in options.overrides:
        if "=" not in word:
            raise UserError(f"'{word}' is no override: after the file comes KEY=VALUE")
    package, extra, overrides = LAUNCHERS.get(options.launcher, ("", "", ()))
    if package and importlib.util.find_spec(package) is None:
        raise UserError(
            f"--launcher {options.launcher} is not installed: pip install 'minesweep[{extra}]'"
        )
    arguments = [str(sweep.program), "--multirun"]
    if options.config_dir is not None:
        arguments += ["--config-dir", options.config_dir]
    # Quoted: Hydra would read 100 as a number.
    budget = None if options.budget is None else f"'{options.budget.strip()}'"
    return [
        *arguments,
        "hydra/sweeper=minesweep",
        f"hydra.sweeper.file='{str(sweep.path).replace(chr(39), chr(92) + chr(39))}'",
        f"hydra.sweeper.check={options.check}",
        f"hydra.sweeper.count={_or_null(options.count)}",
        f"hydra.sweeper.retries={options.retries}",
        f"hydra.sweeper.seed={options.seed}",
        f"hydra.sweeper.jobs={options.jobs}",
        f"hydra.sweeper.worker={options.worker}",
        f"hydra.sweeper.until_sure={options.until_sure}",
        f"hydra.sweeper.care={_or_null(options.care)}",
        f"hydra.sweeper.max_seeds={_or_null(options.max_seeds)}",
        f"hydra.sweeper.budget={_or_null(budget)}",
        f"hydra/launcher={options.launcher}",
        *(word.format(jobs=options.jobs) for word in overrides),
        "hydra/hydra_logging=none",
        "hydra/job_logging=none",
        *options.overrides,
    ]


def _or_null(value: object) -> object:
    return "null" if value is None else value


def _check_until_sure(options: argparse.Namespace) -> None:
    """Refuses options that say nothing, and values that cannot be meant."""
    for name in ("care", "max_seeds", "budget"):
        if getattr(options, name) is not None and not options.until_sure:
            raise UserError(f"--{name.replace('_', '-')} says nothing without --until-sure")
    if options.care is not None and not 0 < options.care < math.inf:
        raise UserError(f"--care {options.care:g} must be more than 0")
    if options.max_seeds is not None and options.max_seeds < 3:
        raise UserError(f"--max-seeds {options.max_seeds} must be at least 3")
    if options.budget is not None:
        Budget.parse(options.budget)
