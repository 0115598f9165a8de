"""How the best of one setting grows with another: the slope of a response surface's ridge."""

from __future__ import annotations

import numpy as np
import pandas as pd

from minesweep.reporting.analyse.statistics import Interval, interval


def exponent(table: pd.DataFrame, smaller: bool) -> Interval | None:
    """The exponent b of ``best y ~ x^b``, with its 95 % interval over seeds.

    One fit a seed: the least-squares slope of log(best y) on log(x). 0 says that the best y does
    not depend on x, 1/2 that it grows like the square root. A best y that lies on the edge of what
    was tried pulls the slope towards 0.

    Args:
        table: One row a run: ``x`` and ``y`` as numbers or their texts, ``seed``, ``value``.
        smaller: Whether the smallest value is the best.

    Returns:
        None where x or y are not positive numbers, or a seed has fewer than three values of x.
    """
    places = table[["x", "y"]].apply(pd.to_numeric, errors="coerce")
    if not (places > 0).all(axis=None):
        return None
    slopes = []
    for _, own in table.assign(**places).dropna(subset=["value"]).groupby("seed"):
        best = own.sort_values(["value", "y"], ascending=[smaller, True]).groupby("x").first()
        if len(best) < 3:
            return None
        slopes.append(np.polyfit(np.log(best.index), np.log(best["y"]), 1)[0])
    return interval(np.array(slopes)) if slopes else None
