"""Composing a configuration in code, and saying in one line what was wrong with an override."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from minesweep.config.arms import read_arms
from minesweep.config.identity import choice
from minesweep.config.overrides import names_as_text
from minesweep.config.places import CONF, VERSION_BASE
from minesweep.config.schema import schema
from minesweep.errors import UserError
from minesweep.words import nearest

ALIASES = {"data": "dataset", "datamodule": "dataset", "callbacks": "trainer", "net": "model"}
"""Words that users bring along from other frameworks."""


def compose(overrides: Sequence[str] = (), config_dir: Path | str | None = None) -> DictConfig:
    """The configuration that ``python src/train.py OVERRIDES`` would see.

    Args:
        overrides: As on the command line, e.g. ``["miner=ohem", "miner.k=384"]``.
        config_dir: A folder of the user's own, searched beside the project's.

    Raises:
        UserError: An override names no key or no choice, or cannot be read.
    """
    try:
        return _compose(overrides, config_dir)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error, overrides, config_dir)) from error


def _compose(overrides: Sequence[str], config_dir: Path | str | None = None) -> DictConfig:
    search = (
        [] if config_dir is None else [f"hydra.searchpath=[arms://{Path(config_dir).resolve()}]"]
    )
    folders = [] if config_dir is None else [config_dir]
    with _fresh_hydra(), initialize_config_dir(str(CONF), **VERSION_BASE):
        return hydra_compose("train", [*names_as_text(overrides, folders), *search])


@contextmanager
def _fresh_hydra() -> Iterator[None]:
    # Composing inside a running Hydra application (a sweep) must leave that one as it was.
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().clear()
        if outer is not None:
            GlobalHydra.instance().initialize(outer)


def explain(
    error: Exception, overrides: Sequence[str], config_dir: Path | str | None = None
) -> str:
    """One line for an error of Hydra's or OmegaConf's, with the nearest right name."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, wrong = error.missing_cfg_file.rpartition("/")
        if not group and error.options is None:
            return _first_line(error)
        arms = {arm for place in (CONF, config_dir or CONF) for arm in read_arms(place, group)}
        options = sorted(arms or error.options or [])
        guess = nearest(wrong, options) or "."
        if "none" in options and wrong in ("null", "None", "false", "False"):
            guess = f"; for no choice write {group}=none."
        return f"{group}={wrong}: no such choice{guess} Known: {', '.join(options)}"
    if isinstance(error, OverrideParseException):
        return f"cannot read '{error.override}'{_how_to_quote(error.override or '')}"
    text = str(error)
    ambiguous = re.search(r"Ambiguous value for argument '([^=]+)=(.*)'", text)
    if ambiguous:
        key, values = ambiguous.groups()
        return f"{key}={values}: write {key}=[{values}] for a list, or -m for a run of each"
    unknown = re.search(r"Could not override '([^']+)'", text) or re.search(
        r"Could not append to config\. An item is already at '([^']+)'", text
    )
    if unknown and "already" in unknown.group(0):
        return f"+{unknown.group(1)}: the key is there already; write it without +"
    inner = re.search(r"not in struct.*\s+full_key: (\S+)", str(error.__cause__))
    # A key of a mapping that was given as a value.
    if unknown and inner and inner.group(1).startswith(f"{unknown.group(1)}."):
        return _unknown_key(inner.group(1), overrides, config_dir)
    if unknown:
        return _unknown_key(unknown.group(1), overrides, config_dir)
    override = re.search(
        r"(?:Could not find|In .*?: )?'([\w/@.]+)'.*(?:is not in struct|not found)", text
    )
    if isinstance(error, ConfigCompositionException) and override:
        return _unknown_key(override.group(1).replace("/", "."), overrides, config_dir)
    return _first_line(error)


def _how_to_quote(word: str) -> str:
    key, sign, text = word.partition("=")
    if not sign:
        return ": an override is KEY=VALUE"
    if any(text.count(a) != text.count(b) for a, b in ("[]", "{}", "()")) or text.count("'") % 2:
        hint = ": a bracket or a quote is not closed; for text write "
    else:
        hint = ": for text write "
    safe = text.strip("'\"").replace("'", "\\'")
    return f"""{hint}"{key}='{safe}'" """.rstrip()


def _unknown_key(key: str, overrides: Sequence[str], config_dir: Path | str | None) -> str:
    path = key.replace("/", ".").split("@")[0]
    rest = [
        item for item in overrides if not re.match(rf"[+~]*{re.escape(key)}(@[^=]*)?(=|$)", item)
    ]
    try:
        cfg = _compose(rest, config_dir)
    except (HydraException, OmegaConfBaseException):
        cfg = _compose([], config_dir)
    group = path.partition(".")[0]
    others = schema([] if config_dir is None else [config_dir]).choices_with(path)
    if others and isinstance(cfg.get(group), DictConfig) and "_target_" in cfg[group]:
        return f"no key '{key}' in {group}={choice(cfg, group)}; {', '.join(others)} have it"
    return f"no key '{key}'{suggest(path, keys(cfg))}"


def suggest(key: str, known: Sequence[str]) -> str:
    """Did-you-mean for a dotted key: other frameworks' words, then the same leaf, then spelling."""
    first, _, rest = key.partition(".")
    if first in ALIASES:
        aliased = ALIASES[first] + (f".{rest}" if rest else "")
        if aliased in known or not rest:
            return f"; did you mean '{aliased}'?"
    parts = key.split(".")
    for start in range(1, len(parts)):
        # model.optimizer.lr -> optimizer.lr
        if ".".join(parts[start:]) in known and len(parts) - start > 1:
            return f"; did you mean '{'.'.join(parts[start:])}'?"
    siblings = [name for name in known if name.rpartition(".")[0] == key.rpartition(".")[0]]
    leaf = [name for name in known if name.endswith("." + parts[-1])]
    if leaf:
        return f"; did you mean '{leaf[0]}'?"
    guess = nearest(key, siblings) or nearest(key, known)
    if not guess and siblings and "." in key:
        return f"; known: {', '.join(sorted(siblings))}"
    return guess


def keys(cfg: DictConfig, prefix: str = "") -> list[str]:
    """Every dotted key of a configuration, groups and leaves."""
    found = []
    for name in map(str, cfg):
        if name.startswith("_"):
            continue
        dotted = f"{prefix}{name}"
        found.append(dotted)
        node = None if OmegaConf.is_missing(cfg, name) else cfg._get_node(name)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation():
            found += keys(node, f"{dotted}.")
    return found


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def command_line_overrides() -> list[str]:
    """The overrides among this process' arguments, for a message."""
    return [item for item in sys.argv[1:] if not item.startswith("-")]
