"""The words of a command line, before Hydra reads them.

Hydra takes ``study=2024`` for a number and ``experiment=null`` for nothing. A key that the schema
calls text, and a choice of a group, are text whatever they look like: here they get quotes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    Override,
    OverrideType,
    Quote,
    QuotedString,
    ValueType,
)
from hydra.errors import HydraException

from minesweep.config.kinds import Kind
from minesweep.config.places import CONF
from minesweep.config.schema import schema

_WORD = re.compile(r"(\+{0,2}([A-Za-z_][\w./-]*)(?:@[\w.:@-]*)?)=(.*)", re.DOTALL)
_NUMBER = re.compile(
    r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)=(-?(?:0|[1-9]\d*))(\.\d+)?(e[+-]?\d+)?", re.ASCII
)
_PIECES = re.compile(r"[^,()\[\]{}'\"\\$]*")
IGNORED = {
    "hydra.run.dir": "runs lie in paths.runs_dir",
    "hydra.sweep.dir": "runs lie in paths.runs_dir",
    "hydra.sweep.subdir": "a run is named by what it computes",
    "hydra.output_subdir": "the configuration lies in the run's folder",
    "hydra.job.chdir": "a run stays in the folder that it is started from",
}
"""Options of Hydra's that do nothing here, and why."""


def names_as_text(
    words: Sequence[str], folders: Sequence[Path | str] = (), several: bool = False
) -> list[str]:
    """Puts what is text in quotes, where Hydra would read a number, a switch or nothing.

    ``~`` in front of a path becomes the home folder.

    Args:
        words: Overrides, such as ``study=2024``; other words stay as they are.
        folders: Configuration folders of the user.
        several: Whether ``a,b`` may stand for several values.
    """
    return [_as_text(word, tuple(map(str, folders)), several) for word in words]


def is_group(name: str, folders: Sequence[Path | str] = ()) -> bool:
    """Whether a key chooses of a group, such as ``miner`` or ``views``."""
    plain = name.replace(".", "/")
    return any((Path(place) / plain).is_dir() for place in (CONF, *folders))


def kinds_of_text(path: str, folders: Sequence[Path | str] = ()) -> tuple[Kind, ...]:
    """What a key may hold, if it is a name in every class that has it; else nothing."""
    keys = schema(folders).at(path)
    return keys[0].kinds if keys and all(key.is_text for key in keys) else ()


def number_key(word: str) -> str:
    """The key of an override that gives it a number; empty where it gives something else."""
    found = _NUMBER.fullmatch(word)
    return found[1] if found else ""


def user_folders(words: Sequence[str]) -> list[Path]:
    """The configuration folders that a command line names: ``--config-dir`` and the search path."""
    found = []
    for position, word in enumerate(words):
        name, _, value = word.partition("=")
        if name in ("--config-dir", "-cd"):
            found += [value or "".join(words[position + 1 : position + 2])]
        elif name.lstrip("+") == "hydra.searchpath":
            found += re.findall(r"file://([^,\]'\"]+)", value)
    return [Path(place).resolve() for place in found if Path(place).is_dir()]


def quoted(text: str) -> str:
    """A text in quotes, as Hydra reads it."""
    return str(QuotedString(text, Quote.single).with_quotes())


@lru_cache(maxsize=10_000)
def _as_text(word: str, folders: tuple[str, ...], several: bool) -> str:
    found = _WORD.fullmatch(word)
    if not found or found[2].startswith("hydra"):
        return word
    left, name, raw = found.groups()
    path = name.replace("/", ".")
    if is_group(name, folders):
        kinds: tuple[Kind, ...] = (Kind("text"),)
    elif not (kinds := kinds_of_text(path, folders)):
        return word
    if raw.startswith("~") and any(kind.name == "path" for kind in kinds):
        raw = os.path.expanduser(raw)
    return f"{left}={_value(left, raw, kinds, several)}"


def _value(left: str, raw: str, kinds: tuple[Kind, ...], several: bool) -> str:
    may_be_text = any(kind.name in ("text", "path") for kind in kinds)
    items = tuple(kind.items for kind in kinds if kind.items)
    override = _parse(f"{left}={raw}")
    if items and re.fullmatch(r"\s*\[.*\]\s*", raw, re.DOTALL):
        pieces = raw.strip()[1:-1].split(",")
        if pieces != [""] and all(_PIECES.fullmatch(piece) for piece in pieces):
            return f"[{','.join(_value(left, piece.strip(), items, False) for piece in pieces)}]"
        return raw
    if override is None:
        return quoted(raw) if may_be_text and raw[:1] not in tuple("'\"[{") else raw
    if override.is_sweep_override():
        pieces = raw.split(",")
        if several and all(_PIECES.fullmatch(piece) for piece in pieces):
            return ",".join(_value(left, piece.strip(), kinds, False) for piece in pieces)
        return raw
    value = override.value()
    if value is None and any(kind.name == "null" for kind in kinds):
        return raw
    if may_be_text and (value is None or isinstance(value, bool | int | float)):
        return quoted(raw.strip())
    return raw


def _parse(word: str) -> Override | None:
    try:
        return parse(word)
    except HydraException:
        return None


@lru_cache(maxsize=10_000)
def parse(word: str) -> Override:
    """An override as Hydra reads it. Hydra's own parser takes a millisecond for each word.

    Raises:
        HydraException: It cannot be read.
    """
    found = _NUMBER.fullmatch(word)
    if not found:
        return OverridesParser.create().parse_override(word)
    key, whole, *fraction = found.groups()
    value = float(word[len(key) + 1 :]) if any(fraction) else int(whole)
    return Override(OverrideType.CHANGE, key, ValueType.ELEMENT, value, input_line=word)
