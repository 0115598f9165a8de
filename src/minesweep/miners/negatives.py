"""Which of the most similar documents are a query's negatives: the rules, without a model.

The words and the order are those of ``mine_hard_negatives`` of sentence-transformers 6. Known
positives are left out first. Then the margins, ``max_score`` and ``min_score`` apply. Ranks are
counted among what is left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from minesweep.errors import UserError
from minesweep.words import check_word

STRATEGIES = ("top", "random")
RULES = ("known_positive", "absolute_margin", "relative_margin", "max_score", "min_score")
"""The rules that can skip a candidate, in the order in which they are applied."""


class Chosen(NamedTuple):
    """The negatives of q queries."""

    rows: Tensor
    """``[q, m]`` rows of the documents, the most similar first; -1: too few were left."""

    scores: Tensor
    """``[q, m]`` similarities; -inf: none."""

    skipped: dict[str, int]
    """Candidates that each rule left out."""


@dataclass(frozen=True)
class Rules:
    """Which candidates are negatives.

    Attributes:
        num_negatives: m, at least 1.
        range_min: So many of the most similar that are left are skipped.
        range_max: Only so many of the most similar that are left are candidates; None for
            ``range_min + num_negatives``, and ten times as many where a margin or ``max_score``
            can skip some, each plus the most positives that a query has.
        max_score: A candidate's similarity is at most this.
        min_score: A candidate's similarity is at least this.
        absolute_margin: A candidate's similarity is at least this much below that of the
            query's least similar positive.
        relative_margin: The same, as a share of the absolute value of that similarity, so that a
            negative one moves the limit down, too. 0.05 is TopK-PercPos at 95 % of NV-Retriever
            (arXiv 2407.15831).
        sampling_strategy: ``top``: the most similar candidates. ``random``: any of them.
    """

    num_negatives: int = 1
    range_min: int = 0
    range_max: int | None = None
    max_score: float | None = None
    min_score: float | None = None
    absolute_margin: float | None = None
    relative_margin: float | None = None
    sampling_strategy: str = "top"

    def __post_init__(self) -> None:
        check_word("sampling_strategy", self.sampling_strategy, STRATEGIES)
        if self.num_negatives < 1:
            raise UserError(f"num_negatives={self.num_negatives} must be at least 1")
        if self.range_min < 0:
            raise UserError(f"range_min={self.range_min} must be at least 0")
        for name in ("max_score", "min_score", "absolute_margin", "relative_margin"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise UserError(f"{name}={value} must be finite")
        if self.range_max is None:
            return
        if self.range_max - self.range_min < self.num_negatives:
            raise UserError(
                f"range_max={self.range_max} leaves {max(0, self.range_max - self.range_min)} "
                f"ranks after range_min={self.range_min}, fewer than "
                f"num_negatives={self.num_negatives}: raise range_max"
            )

    def last_rank(self, positives: int) -> int:
        """``range_max``, where it is None as sentence-transformers derives it.

        Args:
            positives: The most that a query has.
        """
        if self.range_max is not None:
            return self.range_max
        guards = (self.absolute_margin, self.relative_margin, self.max_score)
        times = 1 if all(guard is None for guard in guards) else 10
        return self.range_min + times * self.num_negatives + positives


def choose_negatives(
    rules: Rules,
    scores: Tensor,
    rows: Tensor,
    known: Tensor,
    positive: Tensor,
    generator: torch.Generator | None = None,
    last_rank: int | None = None,
) -> Chosen:
    """Applies the rules to the most similar documents of each query.

    Args:
        rules: The rules.
        scores: ``[q, c]`` similarities, descending; -inf where there is no document.
        rows: ``[q, c]`` the documents' rows; -1 where there is none.
        known: ``[q, c]`` bool: known positives, never taken.
        positive: ``[q]`` similarity of each query's least similar positive.
        generator: Of ``sampling_strategy: random``; on the CPU.
        last_rank: ``range_max``, where the rules have none.
    """
    left = scores.masked_fill(rows < 0, -torch.inf)
    skipped = dict.fromkeys(RULES, 0)

    def skip(rule: str, which: Tensor) -> None:
        nonlocal left
        which = which & (left > -torch.inf)
        skipped[rule] += int(which.sum())
        left = left.masked_fill(which, -torch.inf)

    skip("known_positive", known)
    if rules.absolute_margin is not None:
        skip("absolute_margin", left + rules.absolute_margin > positive[:, None])
    if rules.relative_margin is not None:
        limit = positive - positive.abs() * rules.relative_margin
        skip("relative_margin", left > limit[:, None])
    if rules.max_score is not None:
        skip("max_score", left > rules.max_score)
    if rules.min_score is not None:
        skip("min_score", left < rules.min_score)
    order = left.argsort(dim=1, descending=True, stable=True)
    order = order[:, rules.range_min : rules.range_max or last_rank or order.shape[1]]
    left, rows = left.gather(1, order), rows.gather(1, order)
    if rules.sampling_strategy == "random":
        chance = torch.rand(left.shape, generator=generator).to(left.device)
        chance = chance.masked_fill(left == -torch.inf, -1)
        drawn = chance.argsort(dim=1, descending=True, stable=True)
        drawn = drawn[:, : rules.num_negatives].sort(1).values
        left, rows = left.gather(1, drawn), rows.gather(1, drawn)
    m = min(rules.num_negatives, left.shape[1])
    missing = (0, rules.num_negatives - m)
    left = torch.nn.functional.pad(left[:, :m], missing, value=-torch.inf)
    rows = torch.nn.functional.pad(rows[:, :m], missing, value=-1)
    return Chosen(rows.masked_fill(left == -torch.inf, -1), left, skipped)
