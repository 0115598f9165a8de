"""Before the first step: can a margin work for the present distances?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from rich.table import Table

IDLE_SHARE = 0.01
"""Below the distance that this share of the negatives is under, hardly any is ever active."""


@dataclass(frozen=True)
class Preflight:
    """Distances of all pairs of some rows before training, and what they say about a margin.

    Attributes:
        positives: 5 %, mean and 95 % of the distances of pairs of one class.
        negatives: The same of pairs of two.
        margin: m.
        active: Share of the negatives inside it, the only ones that have a gradient.
        low: A smaller margin leaves hardly any negative active.
        high: A larger one cannot be met; None where nothing bounds the distances.
    """

    positives: tuple[float, float, float]
    negatives: tuple[float, float, float]
    margin: float
    active: float
    low: float
    high: float | None

    @property
    def warning(self) -> str | None:
        """Says that the margin is too small; that it is too large is an alarm of the training."""
        if self.margin >= self.low:
            return None
        return (
            f"objective.margin={self.margin:.4g} is below the distance of all but "
            f"{self.active:.1%} of the negative pairs at the start: they have no gradient; above "
            f"{self.low:.4g} it can work, and objective.margin_policy=relative follows them"
        )

    def table(self, distance: str) -> Table:
        """To print; ``distance`` is the objective's word for its units."""
        from rich.table import Table

        table = Table(title=f"Before training ({distance})", title_justify="left")
        for column in ("pairs", "5 %", "mean", "95 %", "active"):
            table.add_column(column, justify="left" if column == "pairs" else "right")
        table.add_row("positive", *(f"{value:.4g}" for value in self.positives), "")
        negatives = (f"{value:.4g}" for value in self.negatives)
        table.add_row("negative", *negatives, f"{self.active:.1%}")
        high = "no bound" if self.high is None else f"{self.high:.4g}"
        table.caption = f"margin {self.margin:.4g}; can work from {self.low:.4g} to {high}"
        table.caption_justify = "left"
        return table


def preflight(
    distances: Tensor, labels: Tensor, margin: float, high: float | None
) -> Preflight | None:
    """Judges a margin; None where there are no positive or no negative pairs.

    Args:
        distances: ``[m, m]`` between the vectors of m rows.
        labels: ``[m]``.
        margin: In the units of ``distances``.
        high: The largest margin that can be met, if there is one.
    """
    upper = torch.triu(torch.ones_like(distances, dtype=torch.bool), diagonal=1)
    same = labels[:, None] == labels
    positives, negatives = distances[upper & same], distances[upper & ~same]
    if not len(positives) or not len(negatives):
        return None
    low = torch.quantile(negatives, IDLE_SHARE).item()
    active = (negatives < margin).double().mean().item()
    return Preflight(_spread(positives), _spread(negatives), margin, active, low, high)


def _spread(values: Tensor) -> tuple[float, float, float]:
    low, high = torch.quantile(values, values.new_tensor([0.05, 0.95])).tolist()
    return low, values.mean().item(), high
