"""What each configuration key is: read from the configuration files themselves.

A key's documentation is the comment above it, its type and range the note behind it (see
:mod:`minesweep.config.kinds`), its default the value. So a new key needs one place. A key that a
file does not have by default, but that can be added with ``+``, stands in a line that begins with
``#+``.

Validation, the check of a sweep, error messages and the reference documentation all read this.
Parsing is cached per file; nothing heavy is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from minesweep.config.kinds import Kind, allowed, read_note
from minesweep.config.places import CONF

PARTS = {"views": "dataset.views", "curriculum": "miner.curriculum", "schedule": ""}
"""Groups that are parts of other groups' choices, and where they lie in those."""
SETS = ("experiment", "debug")
"""Groups whose files only set other groups' keys."""
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Key:
    """One configuration key of one choice.

    Attributes:
        path: Where it lies, such as ``miner.k``.
        default: Its value in the file; None for null.
        comment: What it is: the comment above it.
        kinds: What it may hold; empty where everything may be written.
        target: The ``_target_`` whose argument it is; empty where there is none.
        argument: Where it lies in that class' node, or in the whole configuration.
        optional: Whether it is absent by default, and is added by ``+path=value``.
        is_group: Whether its value holds further keys.
    """

    path: str
    default: Any = None
    comment: str = ""
    kinds: tuple[Kind, ...] = ()
    target: str = ""
    argument: str = ""
    optional: bool = False
    is_group: bool = False

    @property
    def allowed(self) -> str:
        """What the key may hold, in words."""
        return allowed(self.kinds)

    @property
    def is_text(self) -> bool:
        """Whether a value is text whatever it looks like."""
        return any(kind.name in ("text", "path") or _of_text(kind) for kind in self.kinds)

    def allows(self, value: Any) -> bool:
        """Whether the key may hold a value."""
        given = bool(self.default == "" and value == "")  # text may be empty where it is by default
        return given or not self.kinds or any(kind.allows(value) for kind in self.kinds)


def _of_text(kind: Kind) -> bool:
    return kind.items is not None and kind.items.name == "text"


class Schema:
    """The keys of all configuration files.

    Args:
        folders: Configuration folders, the project's first.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._arguments: dict[tuple[str, str], list[Key]] = {}
        self._paths: dict[str, list[Key]] = {}
        self._choices: dict[str, set[str]] = {}
        self._found: dict[tuple[str, str, str], list[Key]] = {}
        self.targets: set[str] = set()
        for folder in folders:
            for group, name in _choices(folder):
                keys = self.choice(group, name)
                self._choices.setdefault(name, set()).update(
                    path for path in keys if path.startswith(f"{PARTS.get(group, group)}.")
                )
                for key in keys.values():
                    self._paths.setdefault(key.path, []).append(key)
                    if key.target:
                        self.targets.add(key.target)
                        self._arguments.setdefault((key.target, key.argument), []).append(key)

    def choice(self, group: str, name: str) -> dict[str, Key]:
        """The keys of one choice by their path, those that it inherits included."""
        keys: dict[str, Key] = {}
        targets: dict[str, str] = {}
        if path := self._file(f"{group}/{name}" if group else name):
            self._read(path, group, PARTS.get(group, group), keys, targets)
        return {path: _owned(key, targets) for path, key in keys.items()}

    def _file(self, name: str) -> Path | None:
        # A user's own file comes before the project's of the same name.
        places = [folder / f"{name}.yaml" for folder in reversed(self._folders)]
        return next((place for place in places if place.exists()), None)

    def _read(
        self, path: Path, group: str, package: str, keys: dict[str, Key], targets: dict[str, str]
    ) -> None:
        file = _parse(path, path.stat().st_mtime_ns)
        if file.is_global:
            package = ""
        for entry in file.defaults:
            for name, place in _included(entry, group, package):
                if included := self._file(name):
                    self._read(included, name.rpartition("/")[0], place, keys, targets)
        prefix = f"{package}." if package else ""
        targets.update({f"{prefix}{place}": target for place, target in file.targets.items()})
        for key in file.keys:
            full = f"{prefix}{key.path}"
            old = keys.get(full)
            keys[full] = replace(
                key,
                path=full,
                comment=key.comment or (old.comment if old else ""),
                kinds=key.kinds or (old.kinds if old else ()),
                optional=key.optional and (old is None or old.optional),
            )

    def find(self, path: str, target: str, argument: str) -> list[Key]:
        """What is known of a key: of its class, or of its place where it lies in none.

        Args:
            path: Such as ``miner.k``.
            target: The ``_target_`` of the node that it lies in; empty where there is none.
            argument: Where it lies in that node.
        """
        place = (path, target, argument)
        if place not in self._found:
            found = self._arguments.get((target, argument), [])
            described = [key for key in found if key.kinds] or found
            self._found[place] = described if target else self.at(path)
        return self._found[place]

    def below(self, path: str) -> list[str]:
        """The keys directly below a place, such as ``trainer.batch_size`` below ``trainer``."""
        return [key for key in self._paths if key.rpartition(".")[0] == path]

    def defaults(self, path: str) -> list[Any]:
        """The values that files give to a key."""
        return [key.default for key in self._paths.get(path, [])]

    def choices_with(self, path: str) -> list[str]:
        """The choices that have a key, such as ``ohem`` for ``miner.k``."""
        return sorted({name for name, keys in self._choices.items() if path in keys})

    def at(self, path: str) -> list[Key]:
        """All keys of this place, of whatever class; those that say what they hold, if any do."""
        found = self._paths.get(path, [])
        return [key for key in found if key.kinds] or found


def schema(folders: Sequence[Path | str] = ()) -> Schema:
    """The keys of the project's configuration and of further folders."""
    places = [CONF, *(Path(folder).resolve() for folder in folders)]
    stamps = tuple(
        (str(file), file.stat().st_mtime_ns)
        for place in places[1:]
        if place.is_dir()
        for file in sorted(place.rglob("*.yaml"))
    )
    return _schema(tuple(places), stamps)


@lru_cache(maxsize=8)
def _schema(folders: tuple[Path, ...], stamps: tuple[tuple[str, int], ...]) -> Schema:
    return Schema(folders)


def reference(folders: Sequence[Path | str] = ()) -> Iterator[tuple[str, str, str, list[Key]]]:
    """Every configuration key, for the documentation.

    Args:
        folders: Configuration folders beside the project's.

    Yields:
        The group (empty for the top level), the choice, its file's leading comment, and its keys
        in the file's order, inherited ones first. Keys of other groups that the choice sets are
        left out, as are ``experiment`` and ``debug``, which only set other groups' keys.
    """
    known = schema(folders)
    for folder in known._folders:
        for group, name in _choices(folder):
            package = PARTS.get(group, group)
            path = folder / group / f"{name}.yaml"
            keys = [
                key
                for key in known.choice(group, name).values()
                if not package or key.path.startswith(f"{package}.")
            ]
            yield group, name, _parse(path, path.stat().st_mtime_ns).heading, keys


def _choices(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.glob("*.yaml")) + sorted(folder.glob("*/*.yaml")):
        group = path.parent.name if path.parent != folder else ""
        if group not in SETS:
            yield group, path.stem


def _owned(key: Key, targets: Mapping[str, str]) -> Key:
    """The key with the nearest class around it, and its place in that."""
    parts = key.path.split(".")
    for depth in range(len(parts) - 1, 0, -1):
        target = targets.get(".".join([*parts[:depth], "_target_"]))
        if target:
            return replace(key, target=target, argument=".".join(parts[depth:]))
    return replace(key, argument=key.path)


def _included(entry: Any, group: str, package: str) -> Iterator[tuple[str, str]]:
    """The files that an entry of a defaults list brings in, and where their keys go."""
    if isinstance(entry, str):
        if entry != "_self_":
            yield f"{group}/{entry}" if group else entry, package
        return
    for word, name in entry.items():
        if str(word).startswith("override ") or not isinstance(name, str) or not group:
            continue
        where, _, place = str(word).partition("@")
        where = where.removeprefix("/") if where.startswith("/") else f"{group}/{where}"
        if place == "_here_":
            place = package
        elif place:
            place = f"{package}.{place}" if package else place
        yield f"{where}/{name}", place or where.replace("/", ".")


@dataclass
class _File:
    """One file as it stands, before its defaults are followed."""

    heading: str
    is_global: bool
    defaults: list[Any]
    keys: list[Key]
    targets: dict[str, str]


@cache
def _parse(path: Path, stamp: int) -> _File:
    """Reads one file. ``stamp`` makes a changed file another one."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    heading = list(takewhile(lambda line: re.match(r"#(?!\+)", line), lines))
    file = _File(
        " ".join(line.lstrip("# ") for line in heading if "@package" not in line),
        any("@package _global_" in line for line in heading),
        [],
        [],
        {},
    )
    loader = _Loader("\n".join(re.sub(r"^(\s*)#\+ ", r"\1", line) for line in lines))
    try:
        root = loader.get_single_node()
        if isinstance(root, yaml.MappingNode):
            _walk(root, "", lines, loader, file)
    except yaml.YAMLError:
        pass  # Hydra says what is wrong with it
    finally:
        loader.dispose()
    return file


def _walk(node: yaml.MappingNode, prefix: str, lines: list[str], loader: Any, file: _File) -> None:
    for name, value in node.value:
        line = name.start_mark.line
        path = f"{prefix}{name.value}"
        if path == "defaults":
            file.defaults = loader.construct_object(value, deep=True) or []
        elif name.value == "_target_":
            file.targets[path] = str(value.value)
        elif path != "hydra" and not name.value.startswith("_"):
            default = _as_hydra(loader.construct_object(value, deep=True), value)
            note = re.search(r"\s#\s*([^#]+)$", lines[line])
            kinds = read_note(note[1].strip()) if note else ()
            if not kinds and isinstance(default, bool):
                kinds = read_note("bool")
            branch = isinstance(value, yaml.MappingNode) and bool(value.value)
            if not kinds and branch:
                kinds = read_note("mapping")
            comment, optional = _comment(lines, line), lines[line].lstrip().startswith("#+")
            # A mapping that can be added stands below the key with its default.
            if not (optional and branch):
                file.keys.append(Key(path, default, comment, kinds, "", "", optional, branch))
            if branch and value.start_mark.line != line:
                _walk(value, f"{path}.", lines, loader, file)


def _as_hydra(value: Any, node: Any) -> Any:
    """YAML 1.1 reads 1e-3 as text, Hydra as a number."""
    if isinstance(value, str) and not node.style and re.fullmatch(r"[-\d.]+e-?\d+", value):
        return float(value)
    return value


def _comment(lines: list[str], line: int) -> str:
    """The comment lines directly above a line."""
    found: list[str] = []
    for above in reversed(lines[:line]):
        stripped = above.strip()
        if not stripped.startswith("#") or stripped.startswith("#+"):
            break
        found.insert(0, stripped.lstrip("# "))
    return " ".join(found)
