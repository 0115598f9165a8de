"""Trials -> composed, checked and named configurations, before anything runs."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from minesweep.config.build import build, build_fitting, check_arguments
from minesweep.config.checks import (
    DoesNotFit,
    check_fit,
    check_rules,
    check_values,
    check_writable,
)
from minesweep.config.compose import explain
from minesweep.config.equal_cost import CostUnknown, wants_equal_cost, with_equal_cost
from minesweep.config.identity import Config, plain, run_folder
from minesweep.config.overrides import is_group, kinds_of_text, names_as_text, number_key, parse
from minesweep.config.places import from_here, own_folders
from minesweep.config.schema import schema
from minesweep.errors import UserError
from minesweep.lease import STALE_SECONDS, Holder
from minesweep.sweeps.spec import Sweep
from minesweep.sweeps.template import Template
from minesweep.tracking.wandb_rules import check_wandb
from minesweep.training.folder import is_locked, read_json, worker

if TYPE_CHECKING:
    from minesweep.objectives.base import Objective

TEMPLATES = 1_000
"""So many templates are kept at most; a sweep over numbers needs one for each choice of groups."""

Compose = Callable[[Sequence[str]], DictConfig]


@dataclass(frozen=True)
class Trial:
    """One run that a sweep asks for.

    Attributes:
        overrides: What the launcher gets.
        folder: Where the run lies. Its name holds a hash of what it computes.
        label: The swept keys and their values, for a person.
        max_steps: How long it will be, where the configuration alone says so.
        stale_after: Seconds after which a silent process on another machine counts as dead.
    """

    overrides: tuple[str, ...]
    folder: Path
    label: str
    max_steps: int | None = None
    stale_after: float = STALE_SECONDS
    _last: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def status(self) -> dict[str, Any]:
        """The run's ``status.json``; empty where it has not begun.

        It is not read again once it says that the run is finished.
        """
        if self._last.get("state") != "finished":
            read = read_json(self.folder / "status.json")
            if read.get("state") != "finished":
                return read
            self._last.update(read)
        return self._last

    @property
    def finished(self) -> bool:
        return self.status.get("state") == "finished"

    @property
    def busy(self) -> bool:
        """Whether a process is at work on it."""
        return is_locked(self.folder, self.stale_after)

    @property
    def worker(self) -> Holder | None:
        """The process that is at work on it, or died at it."""
        return worker(self.folder, self.stale_after)


@dataclass(frozen=True)
class _Word:
    """An override of a trial.

    Attributes:
        text: As Hydra gets it.
        override: As Hydra reads it.
        chooses: Whether it chooses of a group, rather than sets a value.
        number: The number that it sets; None where it does something else.
    """

    text: str
    override: Override
    chooses: bool
    number: int | float | None

    @property
    def key(self) -> str:
        return self.override.key_or_group

    @property
    def kind(self) -> str:
        """Equal for words that differ in their number alone."""
        return self.text if self.number is None else self.key


class Planner:
    """Composes trials.

    Hydra composes each distinct choice of groups once; values are set on that. Of the trials that
    differ in numbers alone one is composed, and the others follow from its plain values.

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
            if parse(word).is_sweep_override():
                raise UserError(f"'{word}' names several values: sweep them in the file")
            if parse(word).key_or_group == "resume":
                raise UserError(
                    f"'{word}': a sweep goes on where it stopped; move its runs away to begin anew"
                )
        self._fixed_keys = {parse(word).key_or_group for word in self._fixed}
        self._constant = {p.name for p in sweep.parameters if p.distribution == "constant"}
        self._neutral = ["trainer.progress=false"]
        if threads is not None and "trainer.threads" not in self._fixed_keys:
            self._neutral.append(f"trainer.threads={threads}")
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        self._fitting: dict[tuple[str, str], Objective] = {}
        self._groups: dict[str, bool] = {}
        self._words: dict[str, _Word] = {}
        self._takes_text: dict[str, bool] = {}
        self._templates: dict[tuple[str, ...], Template] = {}
        self._known = schema(self._folders)
        self._writable: set[str] = set()

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
        self._check_fit(cfg, overrides)
        return cfg

    def command(self, trial: Trial) -> list[str]:
        """The words that train a trial by itself: a program and overrides, but for the seed."""
        own = {"study", "seed", "trainer.progress", "trainer.stale_after", "trainer.threads"}
        words = [word for word in trial.overrides if parse(word).key_or_group not in own]
        own_folder = ["--config-dir", from_here(self._folders[0])] if self._folders else []
        return [*self._sweep.started(), *own_folder, *words]

    def _plan(self, trial: Sequence[str]) -> Trial:
        swept, overrides = self._overrides(trial)
        with self._explained(swept, overrides):
            cfg, changed = self._values(overrides)
            if wants_equal_cost(cfg):
                cfg = changed = plain(with_equal_cost(self._config(overrides)))
                overrides.append(f"trainer.equal_cost={cfg['trainer']['equal_cost']}")
            check_values(changed, self._known)
            check_rules(cfg)
            if (runs_dir := cfg["paths"]["runs_dir"]) not in self._writable:
                check_writable(cfg)
                self._writable.add(runs_dir)
            check_wandb(cfg)
            self._check_fit(cfg, overrides)
            check_arguments(changed)
            folder = run_folder(cfg)
        label, trainer = self._label(swept), cfg["trainer"]
        return Trial(tuple(overrides), folder, label, trainer["max_steps"], trainer["stale_after"])

    def _values(self, overrides: Sequence[str]) -> tuple[Config, Config]:
        """The plain configuration of a trial, and what of it no trial before had checked."""
        words = [self._word(text) for text in overrides]
        kind = tuple([word.kind for word in words])
        if (template := self._templates.get(kind)) and template.fits:
            return template.at([word.number for word in words if word.number is not None])
        cfg = self._config(overrides)
        if template is None:
            if len(self._templates) >= TEMPLATES:
                self._templates.clear()
            numbers = [word.key for word in words if word.number is not None]
            others = {word.key for word in words if word.number is None and not word.chooses}
            template = self._templates[kind] = Template(cfg, numbers, others)
            return template.tree, template.tree
        tree = plain(cfg)
        return tree, tree

    def _overrides(self, trial: Sequence[str]) -> tuple[list[str], list[str]]:
        """What of a trial is swept, and all overrides. What the command line names is fixed."""
        swept = [word for word in trial if word.partition("=")[0] not in self._fixed_keys]
        as_text = [self._as_text(word) for word in swept]
        return swept, [*as_text, *self._fixed, *self._early_terminate(), *self._neutral]

    def _as_text(self, word: str) -> str:
        """The word with text in quotes. Which keys take text is looked up once."""
        if key := number_key(word):
            if key not in self._takes_text:
                folders = self._folders
                self._takes_text[key] = is_group(key, folders) or bool(kinds_of_text(key, folders))
            if not self._takes_text[key]:
                return word
        return names_as_text([word], self._folders)[0]

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

    def _check_fit(self, cfg: Config, overrides: Sequence[str]) -> None:
        """What only the classes can tell: each pair of miner and objective is asked once."""
        pair = (cfg["miner"]["_target_"], cfg["objective"]["_target_"])
        if pair not in self._fitting:
            self._fitting[pair] = build_fitting(self._config(overrides))

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
        words = [self._word(text) for text in overrides]
        values = [word.override for word in words if not word.chooses]
        ConfigLoaderImpl._apply_overrides_to_config(values, cfg)
        return cfg

    def _chosen(self, overrides: Sequence[str]) -> tuple[str, ...]:
        """The overrides that choose of a group."""
        return tuple(text for text in overrides if self._word(text).chooses)

    def _composition(self, groups: tuple[str, ...]) -> DictConfig:
        """The composition of these choices; not to be changed."""
        if groups not in self._composed:
            cfg = self._compose(groups)
            with open_dict(cfg):
                del cfg["hydra"]
            self._composed[groups] = cfg
        return self._composed[groups]

    def _word(self, text: str) -> _Word:
        if text not in self._words:
            override = parse(text)
            group = self._is_group(override.key_or_group)
            chooses = group and not isinstance(override.value(), dict)
            value = override.value() if number_key(text) and not chooses else None
            number = value if isinstance(value, int | float) else None
            self._words[text] = _Word(text, override, chooses, number)
        return self._words[text]

    def _is_group(self, name: str) -> bool:
        if name not in self._groups:
            options = GlobalHydra.instance().config_loader().get_group_options(name)
            self._groups[name] = bool(options)
        return self._groups[name]


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def study_folders(trials: Sequence[Trial]) -> list[Path]:
    """The folders in which the trials lie; one, unless the sweep sweeps over ``study``."""
    return list(dict.fromkeys(trial.folder.parent for trial in trials))
