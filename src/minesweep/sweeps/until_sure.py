"""``--until-sure``: seeds are added in rounds, and an arm that is answered gets no more.

Nothing but the study's design is stored, and that before its first trial. What to run next
follows from the file, the design and the finished runs. So a kill loses nothing, and several
processes come to the same trials: a look waits for all runs that it needs.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from minesweep.errors import UserError
from minesweep.files import write_atomically
from minesweep.lease import held
from minesweep.reporting.analyse.declared import FILE, Design, read_design
from minesweep.reporting.analyse.settings import Settings, read_given
from minesweep.statistics.sequential import (
    ALPHA,
    SHAPE,
    Decision,
    decide,
    looks_up_to,
    nominal_levels,
)
from minesweep.sweeps.budget import Budget, seconds_of
from minesweep.sweeps.cells import at_seed, find_cells, seeds_of
from minesweep.sweeps.plan import Planner, Trial
from minesweep.sweeps.runner import Options, Runner
from minesweep.sweeps.spec import Sweep
from minesweep.training.folder import lease_folder, read_json
from minesweep.units import PERCENT, duration, lower_is_better, unit

CARE = 0.5
"""Points of a share, such as an accuracy, that matter if nobody says otherwise."""
MAX_SEEDS = 20


class UntilSure:
    """A race of the arms of one grid.

    Args:
        sweep: The sweep.
        planner: Composes the trials.
        options: ``care``, ``max_seeds``, ``budget`` and ``jobs``.
        console: Where the rounds are told.

    Attributes:
        design: What the study declared.
        planned: The trials that the rounds so far ask for.

    Raises:
        UserError: The sweep has no seeds to add, no arm has a baseline, or the study has declared
            something else.
    """

    def __init__(self, sweep: Sweep, planner: Planner, options: Options, console: Console) -> None:
        _check_sweep(sweep, options)
        self._planner, self._options, self._console = planner, options, console
        self._budget = Budget.parse(options.budget)
        self._cells = find_cells(sweep, planner)
        if any(cfg.seed != seeds_of(sweep, 1)[0] for cfg in self._cells.configs.values()):
            raise UserError("--until-sure chooses the seeds itself: leave seed=... out")
        folder = self._cells.folder
        if not self._cells.baselines:
            raise UserError(
                f"{sweep.path}: no arm has a baseline. Sweep random_k or all beside the miner, or "
                f"name a baseline in {folder / 'report.yaml'}"
            )
        if chosen := self._cells.settings.best_by:
            raise UserError(
                f"{folder}: its report.yaml chooses {chosen} for each arm by its results. Fix "
                f"{chosen}, and drop best_by from report.yaml"
            )
        wish = self._wish(sweep, folder)
        self._check_declared(read_design(folder), wish, folder)
        from minesweep.sweeps.calibrate import calibrate  # here: it brings torch

        # The costs come first: an arm at equal cost takes its number of steps from them.
        calibrate(self._cells, console)
        self._trials: dict[tuple[str, int], Trial] = {}
        self.design = self._declare(wish, folder)
        self._failed: set[Path] = set()
        self.planned: list[Trial] = []
        known = -1
        while len(self.planned) > known:  # the finished runs of a round tell what the next one is
            known = len(self.planned)
            self._plan(self._needs())

    @property
    def total(self) -> int:
        """How many trials are asked for so far; further rounds add some."""
        return len(self.planned)

    # --- what is declared ----------------------------------------------------------------------

    def _wish(self, sweep: Sweep, folder: Path) -> Design:
        """What the command line asks for. What it leaves open is as declared, else the default."""
        declared, options = read_design(folder), self._options
        settings = self._cells.settings
        metric = self._metric(sweep, settings, folder)
        goal = settings.goal or (sweep.metric.goal if sweep.metric else None)
        goal = goal or ("minimize" if lower_is_better(metric) else "maximize")
        care = options.care
        if care is None:
            default = CARE if unit(metric) == PERCENT else None
            care = declared.care if declared else default
        looks = declared.looks if declared else looks_up_to(MAX_SEEDS)
        if options.max_seeds is not None:
            looks = looks_up_to(options.max_seeds)
        comparisons = len(self._cells.baselines)
        if declared and (declared.looks, len(declared.baselines)) == (looks, comparisons):
            levels = declared.levels
        else:
            levels = nominal_levels(looks, ALPHA / comparisons)
        seeds = seeds_of(sweep, looks[-1])
        return Design(
            metric=metric,
            goal=goal,
            care=care,
            seeds=seeds,
            looks=looks,
            levels=levels,
            alpha=ALPHA,
            shape=SHAPE,
            baselines=self._cells.baselines,
            finished_before=_finished_runs(folder),
        )

    def _metric(self, sweep: Sweep, settings: Settings, folder: Path) -> str:
        """The metric that decides: that of ``report.yaml``; else the sweep's, on test data; else
        the one that the objective watches, on validation data, so that a miner can be chosen."""
        if "metric" in read_given(folder):
            return settings.metric
        if sweep.metric is not None:
            return sweep.metric.name.replace("val/", "test/", 1)
        return next(iter(self._planner.objectives)).monitor

    def _check_declared(self, declared: Design | None, wish: Design, folder: Path) -> None:
        if declared is None:
            return
        names = {"looks": "looks at", "care": "--care", "metric": "the metric", "goal": "the goal"}
        for key, word in {**names, "seeds": "seeds", "baselines": "comparisons"}.items():
            was, wished = getattr(declared, key), getattr(wish, key)
            if was != wished:
                raise UserError(
                    f"{folder / FILE}: this study declared {word} {_told(was)} before its first "
                    f"trial, not {_told(wished)}. Give what it declared, or study=NAME for a new "
                    "study"
                )

    def _declare(self, wish: Design, folder: Path) -> Design:
        """Writes the design down, unless another process has: the first one counts."""
        if self._options.check:
            return read_design(folder) or wish
        wish = replace(wish, commands=self._commands(wish.seeds[0]))
        with held(lease_folder(folder / FILE)):
            declared = read_design(folder)
            self._check_declared(declared, wish, folder)
            if declared is None:
                write_atomically(folder / FILE, json.dumps(asdict(wish), indent=1) + "\n")
        return declared or wish

    def _commands(self, seed: int) -> dict[str, str]:
        """How to train each arm; the steps of an arm at equal cost are those that were measured."""
        return {
            label: shlex.join(self._planner.command(self._trial(label, seed)))
            for label in self._cells.configs
        }

    # --- the rounds ----------------------------------------------------------------------------

    def run(self, runner: Runner) -> None:
        """Runs rounds until every arm is answered, its looks are used up, or the budget is."""
        while wanted := self._plan(needs := self._needs()):
            self._say_round(wanted)
            for batch in self._batches(wanted):
                refused = self._budget.refuses(
                    self.planned, len(batch), self._expected(batch), self._options.jobs
                )
                if refused:
                    self._console.print(f"stopped: {refused}")
                    return
                runner.run(batch)
            self._failed = set(runner.reasons)
            if not self._any_finished(needs):
                self._console.print("stopped: every trial of this round failed")
                return

    def decisions(self) -> dict[str, Decision]:
        """What is known of each comparison, by its arm."""
        return {
            arm: decide(self._differences(arm, base), self.design.rule)
            for arm, base in self._cells.baselines.items()
        }

    def _needs(self) -> dict[str, int]:
        """How many seeds each arm needs. One that nothing is compared with gets the first look."""
        needs = dict.fromkeys(self._cells.configs, self.design.looks[0])
        for arm, decision in self.decisions().items():
            if decision.next_look is not None:
                for label in (arm, self._cells.baselines[arm]):
                    needs[label] = max(needs[label], decision.next_look)
        return needs

    def _plan(self, needs: dict[str, int]) -> list[Trial]:
        """The trials of these needs that are not settled, seed by seed."""
        asked = [
            self._trial(label, seed)
            for position, seed in enumerate(self.design.seeds)
            for label, count in needs.items()
            if position < count
        ]
        known = {trial.folder for trial in self.planned}
        self.planned += [trial for trial in asked if trial.folder not in known]
        return [trial for trial in asked if not self._settled(trial)]

    def _any_finished(self, needs: dict[str, int]) -> bool:
        """Whether a trial has finished of the seeds that the latest look adds."""
        latest = max(needs.values())
        before = max((look for look in self.design.looks if look < latest), default=0)
        return any(
            self._trial(label, seed).finished
            for label, count in needs.items()
            for seed in self.design.seeds[before:count]
        )

    def _trial(self, label: str, seed: int) -> Trial:
        if (label, seed) not in self._trials:
            words = at_seed(self._cells.overrides[label], seed)
            (self._trials[label, seed],) = self._planner.plan([words])
        return self._trials[label, seed]

    def _settled(self, trial: Trial) -> bool:
        return trial.finished or trial.folder in self._failed

    def _differences(self, arm: str, baseline: str) -> np.ndarray:
        """Differences seed by seed, more being better, up to the first that is still to come."""
        pair = [
            {
                seed: self._value(trial)
                for seed in self.design.seeds
                if (trial := self._trials.get((label, seed))) and self._settled(trial)
            }
            for label in (arm, baseline)
        ]
        return self.design.differences(*pair)

    def _value(self, trial: Trial) -> float:
        if not trial.finished:
            return math.nan
        value = read_json(trial.folder / "summary.json").get(self.design.metric)
        return float(value) if isinstance(value, int | float) else math.nan

    def _batches(self, wanted: Sequence[Trial]) -> Iterator[Sequence[Trial]]:
        """A round at a time; under a budget of time, a seed of all arms at a time."""
        size = len(wanted)
        if self._budget.seconds is not None:
            asked = {trial.folder for trial in wanted}
            arms = {label for (label, _), trial in self._trials.items() if trial.folder in asked}
            size = max(self._options.jobs, len(arms))
        for start in range(0, len(wanted), size):
            yield wanted[start : start + size]

    def _expected(self, batch: Sequence[Trial]) -> float:
        """Seconds that trials will take, by the mean of the finished ones."""
        finished = [trial for trial in self.planned if trial.finished]
        return len(batch) * seconds_of(finished) / len(finished) if finished else 0.0

    # --- what is told --------------------------------------------------------------------------

    def _say_round(self, wanted: Sequence[Trial]) -> None:
        decisions = self.decisions()
        open_arms = [arm for arm, decision in decisions.items() if decision.next_look]
        seeds = max((decisions[arm].next_look or 0 for arm in open_arms), default=0)
        self._console.print(
            f"round to {seeds or self.design.looks[0]} seeds: {len(wanted)} trials; "
            f"{len(decisions) - len(open_arms)} of {len(decisions)} comparisons are answered"
        )

    def describe(self) -> str:
        """What was declared, in one line."""
        design = self.design
        looks = ", ".join(map(str, design.looks))
        care = "no smallest difference that matters (--care gives one)"
        if design.care is not None:
            care = f"a difference matters from {design.care:g}{unit(design.metric).points}"
        count = len(design.baselines)
        return (
            f"until sure of {design.metric}: looks at {looks} seeds, "
            f"{count} comparison{'s' if count > 1 else ''}, {care}"
        )

    def closing(self) -> list[str]:
        """What is said below the report."""
        return [line for line in (self._saved(),) if line]

    def _saved(self) -> str:
        """What the race spent, against the last look's seeds for every arm."""
        finished = [trial for trial in self.planned if trial.finished]
        if not finished:
            return ""
        by_arm = {
            label: [t for (of, _), t in self._trials.items() if of == label and t.finished]
            for label in self._cells.configs
        }
        most = self.design.looks[-1]
        spent = seconds_of(finished)
        full = sum(most * seconds_of(runs) / len(runs) for runs in by_arm.values() if runs)
        count, seeds = len(finished), ", ".join(f"{k} {len(v)}" for k, v in by_arm.items())
        return (
            f"spent {count} trials and {duration(spent)} of training; {most} seeds for all "
            f"{len(by_arm)} arms are {most * len(by_arm)} trials and {duration(full)}: "
            f"{1 - spent / full:.0%} saved. Seeds by arm: {seeds}."
        )


def _check_sweep(sweep: Sweep, options: Options) -> None:
    """Refuses a sweep that has no seeds to add."""
    if sweep.method != "grid":
        raise UserError(
            f"{sweep.path}: --until-sure adds seeds to the cells of a grid; "
            f"method: {sweep.method} has none"
        )
    if sweep.early_terminate is not None:
        raise UserError(f"{sweep.path}: --until-sure compares whole runs: drop early_terminate")
    if options.count is not None or sweep.run_cap is not None:
        raise UserError("--until-sure takes no --count or run_cap: give --budget 100")


def _finished_runs(folder: Path) -> int:
    paths = folder.glob("*/status.json")
    return sum(read_json(path).get("state") == "finished" for path in paths)


def _told(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{arm} against {base}" for arm, base in value.items())
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)
