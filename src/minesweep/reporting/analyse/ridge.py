"""How the best of one setting grows with another: the slope of a response surface's ridge."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from minesweep.reporting.analyse.statistics import Interval, interval

Cells = Mapping[tuple[str, ...], pd.Series]
"""By x and y as shown, a number for each seed."""


def exponent(cells: Cells, smaller: bool) -> Interval | None:
    """The exponent b of ``best y ~ x^b``, with its 95 % interval over seeds.

    One fit a seed: the least-squares slope of log(best y) on log(x). 0 says that the best y does
    not depend on x, 1/2 that it grows like the square root. A best y that lies on the edge of what
    was tried pulls the slope towards 0.

    Args:
        cells: What was measured.
        smaller: Whether the smallest number is the best.

    Returns:
        None where x or y are not positive numbers, or a seed has fewer than three values of x.
    """
    try:
        places = {place: tuple(map(float, place)) for place in cells}
    except ValueError:
        return None
    if not all(number > 0 for place in places.values() for number in place):
        return None
    table = pd.DataFrame(
        [
            {"x": places[place][0], "y": places[place][1], "seed": seed, "value": value}
            for place, values in cells.items()
            for seed, value in values.items()
        ]
    )
    slopes = []
    for _, own in table.dropna().groupby("seed"):
        ranked = own.sort_values(["value", "y"], ascending=[smaller, True])
        best = ranked.groupby("x").first()
        if len(best) < 3:
            return None
        slopes.append(np.polyfit(np.log(best.index), np.log(best["y"]), 1)[0])
    return interval(np.array(slopes)) if slopes else None
