"""The reference of every configuration key, read from ``conf/``."""

from __future__ import annotations

import json
import re
from itertools import groupby
from typing import Any

from minesweep.config.schema import Key, reference

TITLES = {"": "Of every run"}


def page() -> str:
    """A table for each choice of each group: key, default, what it may hold, what it is."""
    entries = list(reference())
    count = sum(not key.is_group for *_, keys in entries for key in keys)
    lines = [
        "# Configuration keys",
        "",
        f"The {count} keys below are read from the files in `conf/` while this page is built.",
        "Each is set on the command line, such as `miner.k=384`, or in a file of your own.",
    ]
    for group, choices in groupby(entries, key=lambda entry: entry[0]):
        lines += ["", f"## {TITLES.get(group, f'`{group}`')}"]
        for _, choice, heading, keys in choices:
            if group:
                lines += ["", f"### `{group}={choice}`"]
            if heading:
                lines += ["", plain(heading)]
            if keys:
                lines += ["", "| Key | Default | May hold | What it is |", "|---|---|---|---|"]
                lines += [row(key) for key in keys if not key.is_group]
    return "\n".join(lines) + "\n"


def row(key: Key) -> str:
    """A key's line of the table."""
    name = f"+{key.path}" if key.optional else key.path
    cells = [f"`{name}`", shown(key.default), plain(key.allowed), plain(key.comment)]
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def plain(text: str) -> str:
    """A text in which Markdown sees no markup."""
    return re.sub(r"([<*_`\[\]])", r"\\\1", text)


def shown(default: Any) -> str:
    """A default as it is written in YAML; interpolations are long and are left out."""
    if isinstance(default, str) and "${" in default:
        return ""
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"
