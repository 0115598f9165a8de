"""Trials -> composed, checked and named configurations, before anything runs."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from minesweep.config.build import build, build_fitting, check_arguments
from minesweep.config.checks import DoesNotFit, check, check_fit
from minesweep.config.compose import explain
from minesweep.config.equal_cost import CostUnknown, wants_equal_cost, with_equal_cost
from minesweep.config.identity import run_folder
from minesweep.config.overrides import names_as_text
from minesweep.config.places import own_folders
from minesweep.errors import UserError
from minesweep.sweeps.spec import Sweep
from minesweep.tracking.wandb_rules import check_wandb
from minesweep.training.folder import RunBusy, RunFolder

if TYPE_CHECKING:
    from minesweep.objectives.base import Objective

Compose = Callable[[Sequence[str]], DictConfig]


@dataclass(frozen=True)
class Trial:
    """One run that a sweep asks for.

    Attributes:
        overrides: What the launcher gets.
        folder: Where the run lies. Its name holds a hash of what it computes.
        label: The swept keys and their values, for a person.
        max_steps: How long it will be, where the configuration alone says so.
    """

    overrides: tuple[str, ...]
    folder: Path
    label: str
    max_steps: int | None = None

    @property
    def status(self) -> dict[str, Any]:
        """The run's ``status.json``; empty where it has not begun."""
        return RunFolder(self.folder).status

    @property
    def finished(self) -> bool:
        return self.status.get("state") == "finished"

    @property
    def busy(self) -> bool:
        """Whether a process is at work on it: the kernel knows, also after a kill."""
        try:
            with RunFolder(self.folder).lock():
                return False
        except RunBusy:
            return True


class Planner:
    """Composes trials. Hydra composes each distinct choice of groups once; values are set on that.

    Args:
        sweep: The sweep.
        compose: Hydra's own composition of a list of overrides.
        fixed: Overrides of the command line, which win over the file's.
        threads: CPU threads of a trial; None leaves it to the configuration.
    """

    def __init__(
        self, sweep: Sweep, compose: Compose, fixed: Sequence[str] = (), threads: int | None = None
    ) -> None:
        self._sweep = sweep
        self._compose = compose
        self._folders = own_folders()
        self._fixed = names_as_text([*sweep.fixed, *fixed], self._folders)
        for word in self._fixed:
            if _parse(word).is_sweep_override():
                raise UserError(f"'{word}' names several values: sweep them in the file")
            if _parse(word).key_or_group == "resume":
                raise UserError(
                    f"'{word}': a sweep goes on where it stopped; move its runs away to begin anew"
                )
        self._fixed_keys = {_parse(word).key_or_group for word in self._fixed}
        self._constant = {p.name for p in sweep.parameters if p.distribution == "constant"}
        self._neutral = ["trainer.progress=false"]
        if threads is not None and "trainer.threads" not in self._fixed_keys:
            self._neutral.append(f"trainer.threads={threads}")
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        self._fitting: dict[tuple[str, str], Objective] = {}
        self._groups: dict[str, bool] = {}

    @property
    def objectives(self) -> Collection[Objective]:
        """The objectives of the trials so far, one for each class and miner."""
        return self._fitting.values()

    def plan(self, trials: Iterable[Sequence[str]]) -> list[Trial]:
        """The trials in order, each computation once.

        Raises:
            UserError: A trial does not compose, or its values cannot be meant.
        """
        planned: dict[Path, Trial] = {}
        for trial in trials:
            found = self._plan(trial)
            planned.setdefault(found.folder, found)
        return list(planned.values())

    def fitting(
        self, trials: Iterable[Sequence[str]]
    ) -> tuple[list[Sequence[str]], list[DictConfig]]:
        """Those trials whose miner fits their objective, and their configurations.

        ``trainer.equal_cost=auto`` is left as it stands.

        Raises:
            UserError: None fits, or a trial is wrong in another way.
        """
        kept, configs, reason = [], [], UserError(f"{self._sweep.path}: the sweep has no trial")
        for trial in trials:
            swept, overrides = self._overrides(trial)
            try:
                with self._explained(swept, overrides):
                    configs.append(self._fitting_config(overrides))
            except DoesNotFit as error:
                reason = error
            else:
                kept.append(trial)
        if not kept:
            raise reason
        return kept, configs

    def _fitting_config(self, overrides: Sequence[str]) -> DictConfig:
        try:
            cfg = self._config(overrides)
        except (UserError, HydraException, OmegaConfBaseException):
            # A value that is given may be unknown where the miner does not fit anyway.
            chosen = self._composition(self._chosen(overrides))
            mines = build(chosen, "miner").mines()
            check_fit(chosen, mines, get_object(chosen.objective._target_).candidate)
            raise
        self._check_fit(cfg)
        return cfg

    def command(self, trial: Trial) -> list[str]:
        """The words that train a trial by itself: a program and overrides, but for the seed."""
        own = {"study", "seed", "trainer.progress", "trainer.threads"}
        words = [word for word in trial.overrides if _parse(word).key_or_group not in own]
        own_folder = ["--config-dir", self._folders[0]] if self._folders else []
        return [*self._sweep.started(), *own_folder, *words]

    def _plan(self, trial: Sequence[str]) -> Trial:
        swept, overrides = self._overrides(trial)
        with self._explained(swept, overrides):
            cfg = self._config(overrides)
            if wants_equal_cost(cfg):
                cfg = with_equal_cost(cfg)
                overrides.append(f"trainer.equal_cost={cfg.trainer.equal_cost}")
            check(cfg, self._folders)
            check_wandb(cfg)
            self._check_fit(cfg)
            check_arguments(cfg)
            folder = run_folder(cfg)
        return Trial(tuple(overrides), folder, self._label(swept), cfg.trainer.max_steps)

    def _overrides(self, trial: Sequence[str]) -> tuple[list[str], list[str]]:
        """What of a trial is swept, and all overrides. What the command line names is fixed."""
        swept = [word for word in trial if word.partition("=")[0] not in self._fixed_keys]
        as_text = names_as_text(swept, self._folders)
        return swept, [*as_text, *self._fixed, *self._early_terminate(), *self._neutral]

    def _label(self, swept: Sequence[str]) -> str:
        return " ".join(word for word in swept if word.partition("=")[0] not in self._constant)

    @contextmanager
    def _explained(self, swept: Sequence[str], overrides: Sequence[str]) -> Iterator[None]:
        """Says of an error in which trial of which file it is."""
        try:
            yield
        except CostUnknown:
            raise
        except (UserError, HydraException, OmegaConfBaseException) as error:
            known = isinstance(error, UserError)
            message = " ".join((str(error) if known else explain(error, overrides)).split())
            where = f"{self._sweep.path}: trial {self._label(swept)}"
            kind = DoesNotFit if isinstance(error, DoesNotFit) else UserError
            raise kind(f"{where}: {message}") from error

    def _check_fit(self, cfg: DictConfig) -> None:
        """What only the classes can tell: each pair of miner and objective is asked once."""
        pair = (cfg.miner._target_, cfg.objective._target_)
        if pair not in self._fitting:
            self._fitting[pair] = build_fitting(cfg)

    def _early_terminate(self) -> list[str]:
        rule, metric = self._sweep.early_terminate, self._sweep.metric
        if rule is None or metric is None:
            return []
        options = {key: value for key, value in asdict(rule).items() if value is not None}
        options = {"metric": f"'{metric.name}'", "goal": metric.goal, **options}
        pairs = ",".join(f"{key}:{value}" for key, value in options.items())
        target = "_target_:minesweep.sweeps.hyperband.Hyperband"
        return [f"trainer.early_terminate={{{target},{pairs}}}"]

    def _config(self, overrides: Sequence[str]) -> DictConfig:
        cfg = copy.deepcopy(self._composition(self._chosen(overrides)))
        # As Hydra does itself: first the groups, then the values in their order.
        parsed = [_parse(word) for word in overrides]
        ConfigLoaderImpl._apply_overrides_to_config(
            [o for o in parsed if not self._chooses(o)], cfg
        )
        return cfg

    def _chosen(self, overrides: Sequence[str]) -> tuple[str, ...]:
        """The overrides that choose of a group."""
        parsed = [_parse(word) for word in overrides]
        return tuple(o.input_line or "" for o in parsed if self._chooses(o))

    def _composition(self, groups: tuple[str, ...]) -> DictConfig:
        """The composition of these choices; not to be changed."""
        if groups not in self._composed:
            cfg = self._compose(groups)
            with open_dict(cfg):
                del cfg["hydra"]
            self._composed[groups] = cfg
        return self._composed[groups]

    def _chooses(self, override: Override) -> bool:
        """Whether an override chooses of a group, rather than sets a value."""
        name = override.key_or_group
        if name not in self._groups:
            options = GlobalHydra.instance().config_loader().get_group_options(name)
            self._groups[name] = bool(options)
        return self._groups[name] and not isinstance(override.value(), dict)


@lru_cache(maxsize=10_000)
def _parse(word: str) -> Override:
    return OverridesParser.create().parse_override(word)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def study_folders(trials: Sequence[Trial]) -> list[Path]:
    """The folders in which the trials lie; one, unless the sweep sweeps over ``study``."""
    return list(dict.fromkeys(trial.folder.parent for trial in trials))
