"""The arms of a sweep before it runs: which of them is compared with which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from minesweep.config.identity import plain, study_folder
from minesweep.errors import UserError
from minesweep.reporting.analyse.arms import (
    find_baselines,
    make_arms,
    resolve_key,
    wanted_baseline,
)
from minesweep.reporting.analyse.settings import Settings, read_settings
from minesweep.reporting.read.study import tabulate
from minesweep.sweeps.parameters import write
from minesweep.sweeps.plan import Planner
from minesweep.sweeps.spec import Sweep, keep_report_settings
from minesweep.sweeps.trials import choices, grid

SEED = "seed"


@dataclass(frozen=True)
class Cells:
    """A grid without its seeds.

    Attributes:
        overrides: Those of each cell, by the label of its arm in the report.
        configs: The configuration of each cell at the first seed, by label.
        baselines: The baseline's label by the arm's label.
        settings: What the study's report asks for.
        folder: The study's folder.
    """

    overrides: dict[str, list[str]]
    configs: dict[str, DictConfig]
    baselines: dict[str, str]
    settings: Settings
    folder: Path


def without_seeds(sweep: Sweep) -> list[list[str]]:
    """The cells of a grid; its seeds are left out."""
    parameters = tuple(p for p in sweep.parameters if p.name != SEED)
    return list(grid(parameters)) if parameters else [[]]


def seeds_of(sweep: Sweep, count: int) -> tuple[int, ...]:
    """So many seeds: those of the file in its order, then the smallest that it does not name.

    Raises:
        UserError: The file's seeds are no whole numbers.
    """
    named: list[Any] = []
    for parameter in sweep.parameters:
        if parameter.name == SEED:
            named = list(dict.fromkeys(choices(parameter)))
    if any(not isinstance(seed, int) or isinstance(seed, bool) for seed in named):
        raise UserError(f"{sweep.path}: --until-sure needs whole numbers as seeds, not {named}")
    # The named ones are at most all of the first `count + len(named)` numbers.
    further = (seed for seed in range(count + len(named)) if seed not in named)
    return tuple([*named, *further][:count])


def find_cells(sweep: Sweep, planner: Planner) -> Cells:
    """Names the cells of a grid as the report will name their arms, and finds their baselines.

    A cell whose miner does not fit its objective is left out.

    Raises:
        UserError: A cell does not compose, or the cells lie in several studies.
    """
    first = seeds_of(sweep, 1)[0]
    trials, configs = planner.fitting([at_seed(cell, first) for cell in without_seeds(sweep)])
    if len({study_folder(cfg) for cfg in configs}) > 1:
        raise UserError(f"{sweep.path}: the arms lie in several studies; do not sweep `study`")
    folder = study_folder(configs[0])
    keep_report_settings(sweep, folder)
    settings = read_settings(folder)
    table, keys = tabulate([plain(cfg) for cfg in configs])
    within = [resolve_key(key, keys) for key in settings.group_by]
    arms, labels = make_arms(table, within + [key for key in keys if key not in within])
    wanted = wanted_baseline(arms, settings.baseline)
    baselines = {} if wanted is None else find_baselines(arms, wanted, within)
    rows = list(zip(labels, trials, configs, strict=True))
    return Cells(
        {label: list(words)[:-1] for label, words, _ in rows},
        {label: cfg for label, _, cfg in rows},
        baselines,
        settings,
        folder,
    )


def at_seed(words: Sequence[str], seed: int) -> list[str]:
    """The overrides of a cell's trial."""
    return [*words, write(SEED, seed)]
