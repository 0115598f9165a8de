"""Shared parts of all charts: colours, legends, titles, numbers, and PNG files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import altair as alt
import numpy as np

from minesweep.pages import PALETTE
from minesweep.units import unit, words

GREY = PALETTE[-1]
HUES = PALETTE[:-1]
SOLID, DASHED, DOTTED = [1, 0], [6, 3], [2, 2]


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        id: The element's id on the page.
        title: A heading; curves share one, and so do the tiles of a surface.
        caption: What is shown: how many seeds, what the band is.
        kind: ``curve``, ``losses``, ``tile``, ``parallel`` or ``plain``.
        chart: The chart, without a width.
        height: Pixels.
        label: Its own heading among those that share one.
        axes: The other fields for the first axis, by their names.
        width: The least width in pixels; 0 for as narrow as the page.
    """

    id: str
    title: str
    caption: str
    kind: str
    chart: Any
    height: int = 340
    label: str = ""
    axes: dict[str, str] = field(default_factory=dict)
    width: int = 0


def chart(rows: Sequence[Mapping[Any, Any]], **more: Any) -> alt.Chart:
    """A chart of rows that stand in it."""
    return alt.Chart(alt.Data(values=list(rows), **more))


def hue(
    name: str, domain: Sequence[str], colours: Sequence[str], keys: alt.Legend | None
) -> alt.Color:
    """The colour of each word of ``domain``, with a legend or without."""
    scale = alt.Scale(domain=list(domain), range=list(colours))
    return alt.Color(f"{name}:N", title=None, scale=scale, legend=keys)


def legend(symbol: str = "stroke") -> alt.Legend:
    return alt.Legend(orient="bottom", symbolType=symbol, symbolStrokeWidth=3)


def titled(metric: str) -> str:
    """The title of a metric's axis, with its unit."""
    sign = unit(metric).sign.strip()
    return words(metric) + (f" ({sign})" if sign else "")


def counted(seeds: Any) -> str:
    """``5 seeds``, ``3 to 5 seeds``."""
    least, most = int(min(seeds)), int(max(seeds))
    span = f"{most}" if least == most else f"{least} to {most}"
    return f"{span} seed{'s' if most != 1 else ''}"


def short(values: Any) -> list[float | None]:
    """Six digits: enough for a screen, and a quarter of the page's size."""
    return [float(f"{v:.6g}") if np.isfinite(v) else None for v in map(float, values)]


def png(drawn: Any) -> bytes:
    """A chart as PNG, drawn without a browser."""
    import vl_convert
    from PIL import Image

    spec = drawn.configure(axis={"labelLimit": 400}, legend={"labelLimit": 400}).to_dict()
    image = Image.open(io.BytesIO(vl_convert.vegalite_to_png(spec, scale=1.5)))
    out = io.BytesIO()
    # 256 colours are enough for a diagram, and make the file five times smaller.
    image.convert("RGB").quantize(256).save(out, format="png")
    return out.getvalue()
