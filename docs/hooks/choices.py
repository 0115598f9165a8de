"""The reference of the choices of a configuration group: miners, objectives, datasets, models."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

import yaml

CONF = Path(__file__).resolve().parents[2] / "conf"
TITLES = {"miner": "Miners", "objective": "Objectives", "dataset": "Datasets", "model": "Models"}


def page(group: str) -> str:
    """A page with one part for each class, and the choices that name it.

    Args:
        group: Such as ``miner``: a folder of ``conf/``.
    """
    by_class: dict[str, list[tuple[str, str]]] = {}
    for path in sorted((CONF / group).glob("*.yaml")):
        target = find_target(path)
        by_class.setdefault(target, []).append((path.stem, heading(path.read_text())))
    lines = [
        f"# {TITLES[group]}",
        "",
        f"Each choice of `{group}=` is a file in `conf/{group}/` that names a class.",
        "The [configuration keys](keys.md) of each choice are listed on their own page.",
        "",
        f"| `{group}=` | What it is |",
        "|---|---|",
        *(
            f"| `{name}` | {text} |"
            for name, text in sorted(chain.from_iterable(by_class.values()))
        ),
        "",
    ]
    for target in sorted(by_class, key=lambda name: name.rsplit(".", 1)[-1]):
        names = ", ".join(f"`{group}={name}`" for name, _ in by_class[target])
        lines += [
            "",
            f"## {target.rsplit('.', 1)[-1]}",
            "",
            f"{names}.",
            "",
            f"::: {target}",
            "    options:",
            "      show_root_heading: false",
            "",
        ]
    return "\n".join(lines)


def find_target(path: Path) -> str:
    """The class that a choice's file names, in itself or in a file of its defaults list."""
    text = yaml.safe_load(path.read_text())
    here = text.get(path.parent.name, {}) or {}
    for node in (text, here):
        if "_target_" in node:
            return str(node["_target_"])
    for entry in text.get("defaults", []):
        if isinstance(entry, str) and (path.parent / f"{entry}.yaml").exists():
            return find_target(path.parent / f"{entry}.yaml")
    raise ValueError(f"{path} names no _target_")


def heading(text: str) -> str:
    """The comment at the head of a YAML file, on one line."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not re.match(r"# ?@package", line):
            lines.append(line.lstrip("# ").rstrip())
    return " ".join(lines).replace("|", "\\|")
