"""Reading a run's files without trusting them: broken, endless or hostile contents are refused."""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import yaml

LINE_LIMIT = 1 << 20
"""Bytes; a longer line of a journal is skipped."""
FILE_LIMIT = 4 << 20
"""Bytes; a longer config, status or summary is refused."""
TAIL = 1 << 16
"""Bytes that are read of a journal whose end alone is wanted."""
DEPTH_LIMIT = 100
"""Levels of nesting in a YAML file; a configuration has five."""
BLOCK_LIMIT, BLOCKS = 4_096, 4_096
"""Characters of an entry of a YAML file that is kept for the next file, and their number."""
KEY_LIMIT = 10_000
"""Values in one config; more is a bomb of YAML aliases rather than a configuration."""


class UnreadableError(Exception):
    """A file that cannot be used; its text says why, without the file's contents."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML's safe loader, in C where there is one (ten times faster)."""


# YAML 1.1 reads 1e-4 as a string; OmegaConf and people read a number.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)
_ENTRY = re.compile(r"^(?=[A-Za-z_]\w*:(?:\s|$))", re.MULTILINE)
_decoder = json.JSONDecoder(parse_constant=lambda _: None)


def open_regular(path: Path) -> BinaryIO:
    """Opens a plain file: no link (it could lead out of the study), no pipe (it could block)."""
    careful = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, os.O_RDONLY | careful)
    except FileNotFoundError:
        raise UnreadableError(f"{path.name} is missing") from None
    except OSError as error:
        raise UnreadableError(f"{path.name} cannot be opened ({error.strerror})") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnreadableError(f"{path.name} is not a plain file")
    return os.fdopen(descriptor, "rb")


def read_json(path: Path, limit: int = FILE_LIMIT) -> dict[str, Any]:
    """Reads a JSON object of at most ``limit`` bytes; a non-finite number becomes None."""
    return _read(path, "JSON", _decoder.decode, limit)


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping. Its values are shared between files, and not to be changed."""

    def parse(text: str) -> Any:
        _check_depth(text, path)
        blocks = [block for block in _ENTRY.split(text) if block]
        if blocks and all(_ENTRY.match(b) and len(b) <= BLOCK_LIMIT for b in blocks):
            try:
                return {key: value for block in blocks for key, value in _entry(block).items()}
            except (yaml.YAMLError, AttributeError):
                pass  # an entry that refers to another one, or no YAML: the whole will tell
        return yaml.load(text, Loader=_Loader)

    return _read(path, "YAML", parse, FILE_LIMIT)


@lru_cache(maxsize=BLOCKS)
def _entry(text: str) -> Any:
    """The configurations of a study have most entries in common: each text is parsed once."""
    return yaml.load(text, Loader=_Loader)


def _read(path: Path, kind: str, parse: Callable[[str], Any], limit: int) -> dict[str, Any]:
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise UnreadableError(f"{path.name} is longer than {limit >> 20} MiB")
    try:
        value = parse(content.decode())
    except UnicodeDecodeError:
        raise UnreadableError(f"{path.name} is not text in UTF-8") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UnreadableError(f"{path.name} is not whole {kind}") from None
    if not isinstance(value, dict):
        raise UnreadableError(f"{path.name} holds no mapping")
    return value


def _check_depth(text: str, path: Path) -> None:
    """Refuses deep nesting, which the loader in C follows until the process has no stack left."""
    marks = ("[", "{", "- ", "? ")
    if all(text.count(m) <= DEPTH_LIMIT for m in marks) and " " * DEPTH_LIMIT not in text:
        return
    depth = 0
    try:
        for event in yaml.parse(text, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > DEPTH_LIMIT:
                raise yaml.YAMLError("nesting depth")
    except yaml.YAMLError as error:  # newer ones look ahead, and have a limit of their own
        if "nesting depth" in str(error):
            told = f"{path.name} is nested more than {DEPTH_LIMIT} levels deep"
            raise UnreadableError(told) from None
        raise


def read_journal(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Reads the rows of a journal.

    Returns:
        The rows that have a step, and how many lines were skipped (broken, too long, no step).
    """
    with open_regular(path) as file:
        return _rows(_lines(file))


def read_tail(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Reads the rows in the last ``TAIL`` bytes of a journal, however long it is."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - TAIL))
        lines = file.read(TAIL).split(b"\n")
    # The beginning of the first line was not read.
    return _rows(line for line in lines[size > TAIL :] if line)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines without their end; an empty one stands for a line beyond the limit."""
    whole = True
    while part := file.readline(LINE_LIMIT):
        begins, whole = whole, part.endswith(b"\n") or len(part) < LINE_LIMIT
        if begins:
            yield part.rstrip(b"\r\n") if whole else b""


def _rows(lines: Iterable[bytes]) -> tuple[list[dict[str, Any]], int]:
    rows: list[dict[str, Any]] = []
    skipped = 0
    for line in lines:
        try:
            row = _decoder.decode(line.decode())
            step = row.get("step")
        except (ValueError, RecursionError, AttributeError):
            step = None
        if type(step) is int and 0 <= step < 1 << 53:
            rows.append(row)
        else:
            skipped += 1
    return rows, skipped


def number(value: Any) -> float | None:
    """``value`` as a finite float; None for anything else (text, null, NaN, a bool)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def flatten(tree: dict[str, Any], path: Path) -> dict[str, Any]:
    """``{"miner": {"k": 8}}`` becomes ``{"miner.k": 8}``; a list becomes its JSON text."""
    flat: dict[str, Any] = {}
    stack: list[tuple[str | None, Any]] = [(None, tree)]
    visited = 0
    while stack:
        key, value = stack.pop()
        visited += 1
        if visited > KEY_LIMIT:
            raise UnreadableError(f"{path.name} holds more than {KEY_LIMIT:,} values")
        if isinstance(value, list):
            stack += [("", inner) for inner in value]  # counted alone
        elif isinstance(value, dict):
            stack += [
                (key if key == "" else f"{key}.{name}" if key else str(name), inner)
                for name, inner in value.items()
            ]
        elif not isinstance(value, bool | int | str | None) and number(value) is None:
            value = str(value)
        if key and not isinstance(value, dict):
            flat[key] = value
    # Written as text only now, when the lists are known to be no bomb.
    return {k: json.dumps(v, default=str) if isinstance(v, list) else v for k, v in flat.items()}
