"""Reading a run's files without trusting them: broken, endless or hostile contents are refused."""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import yaml

LINE_LIMIT = 1 << 20
"""Bytes; a longer line of a journal is skipped."""
FILE_LIMIT = 4 << 20
"""Bytes; a longer config, status or summary is refused."""
TAIL = 1 << 16
"""Bytes; of a journal whose end alone is wanted, so much is read."""
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
_decoder = json.JSONDecoder(parse_constant=lambda _: None)


def open_regular(path: Path) -> BinaryIO:
    """Opens a plain file: no link (it could lead out of the study), no pipe (it could block)."""
    try:
        descriptor = os.open(
            path,
            os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0),
        )
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
    try:
        content = _decoder.decode(_text(path, limit))
    except (ValueError, RecursionError):
        raise UnreadableError(f"{path.name} is not whole JSON") from None
    return _mapping(content, path)


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping."""
    try:
        content = yaml.load(_text(path), Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UnreadableError(f"{path.name} is not whole YAML") from None
    return _mapping(content, path)


def read_journal(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Reads the rows of a journal.

    Returns:
        The rows that have a step, and how many lines were skipped (broken, too long, no step).
    """
    with open_regular(path) as file:
        return _rows(_lines(file))


def read_tail(path: Path) -> tuple[list[dict[str, Any]], int]:
    """As :func:`read_journal`, of the last ``TAIL`` bytes alone, however long the file is."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - TAIL))
        lines = file.read(TAIL).split(b"\n")
    if size > TAIL:
        del lines[0]  # its beginning was not read
    return _rows(line for line in lines if line)


def _rows(lines: Iterable[bytes]) -> tuple[list[dict[str, Any]], int]:
    rows: list[dict[str, Any]] = []
    skipped = 0
    for line in lines:
        try:
            row = _decoder.decode(line.decode()) if line else None
        except (ValueError, RecursionError):
            row = None
        step = row.get("step") if isinstance(row, dict) else None
        if isinstance(row, dict) and type(step) is int and 0 <= step < 1 << 53:
            rows.append(row)
        else:
            skipped += 1
    return rows, skipped


def number(value: Any) -> float | None:
    """``value`` as a finite float; None for anything else (text, null, NaN, a bool)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        value = float(value)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def flatten(tree: dict[str, Any], path: Path) -> dict[str, Any]:
    """``{"miner": {"k": 8}}`` becomes ``{"miner.k": 8}``; a list becomes its JSON text."""
    flat: dict[str, Any] = {}
    stack: list[tuple[str, Any]] = [("", tree)]
    visited = 0
    while stack:
        key, value = stack.pop()
        visited += 1
        if visited > KEY_LIMIT:
            raise UnreadableError(f"{path.name} holds more than {KEY_LIMIT:,} values")
        if isinstance(value, dict):
            stack += [(f"{key}.{name}" if key else str(name), v) for name, v in value.items()]
        elif isinstance(value, list):
            _count(value, path)
            flat[key] = json.dumps(value, default=str)
        else:
            usual = (
                value is None or isinstance(value, bool | int | str) or number(value) is not None
            )
            flat[key] = value if usual else str(value)
    return flat


def _count(value: list[Any], path: Path) -> None:
    stack, visited = [value], 0
    while stack:
        for inner in stack.pop():
            visited += 1
            if visited > KEY_LIMIT:
                raise UnreadableError(f"{path.name} holds more than {KEY_LIMIT:,} values")
            if isinstance(inner, list | dict):
                stack.append(list(inner.values()) if isinstance(inner, dict) else inner)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines without their end; an empty one stands for a line beyond the limit."""
    while line := file.readline(LINE_LIMIT):
        if line.endswith(b"\n") or len(line) < LINE_LIMIT:
            yield line.rstrip(b"\r\n")
            continue
        while (rest := file.readline(LINE_LIMIT)) and not rest.endswith(b"\n"):
            pass
        yield b""


def _text(path: Path, limit: int = FILE_LIMIT) -> str:
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise UnreadableError(f"{path.name} is longer than {limit >> 20} MiB")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise UnreadableError(f"{path.name} is not text in UTF-8") from None


def _mapping(content: Any, path: Path) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise UnreadableError(f"{path.name} holds no mapping")
    return content
