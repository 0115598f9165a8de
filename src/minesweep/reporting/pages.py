"""What all pages share: the templates' folder, escaping, scripts that hold data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

PARTS = Path(__file__).parent / "parts"


def environment(folder: Path) -> jinja2.Environment:
    """Templates of ``folder`` that escape every text; ``part("style.css")`` puts a shared file."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.globals["part"] = lambda name: Markup((PARTS / name).read_text(encoding="utf-8"))
    return made


def in_script(text: str) -> Markup:
    """JSON that cannot end the script element it stands in."""
    for sign, escape in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(sign, escape)
    return Markup(text)


def data(value: Any) -> Markup:
    """A value as JSON for a script element."""
    return in_script(json.dumps(value, allow_nan=False))
