"""Shared parts of all pages: the templates' folder, escaping, scripts that hold data."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

PARTS = Path(__file__).parent
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
"""Okabe and Ito's colours, which colour-blind people can tell apart (jfly.uni-koeln.de/color).

Grey replaces their black, which does not show on a dark page; yellow, which does not show on a
white one, is left out.
"""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def clean(text: Any) -> str:
    """Replaces control characters: a terminal or a page shows a name, it never obeys it."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(text))


def environment(folder: Path) -> jinja2.Environment:
    """Templates of ``folder`` that escape every text, and may extend ``base.html.j2``.

    ``part("style.css")`` puts a shared file; ``name | clean`` replaces control characters.
    """
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, PARTS]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters["clean"] = clean
    made.globals["part"] = lambda name: Markup((PARTS / name).read_text(encoding="utf-8"))
    return made


def thin(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` positions, evenly, both ends kept."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))})


def in_script(text: str) -> Markup:
    """JSON that cannot end the script element it stands in."""
    for sign, escape in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(sign, escape)
    return Markup(text)


def data(value: Any) -> Markup:
    """A value as JSON for a script element."""
    return in_script(json.dumps(value, allow_nan=False))
