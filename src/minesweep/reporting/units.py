"""How a metric is written: its direction, and whether it is a share that reads best in percent."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

DASH = "\N{EN DASH}"
"""Stands for a value that there is not."""
_SHARE = re.compile(r"accuracy|recall|precision|auc|nmi|iou|share|flipped|(^|_)f1|(^|_)map(_|@|$)")
_WORDS = {"samples/backward": "samples backpropagated", "samples/forward": "samples scored"}
_LOWER = re.compile(r"loss|error|seconds|perplexity|^steps to ")


@dataclass(frozen=True)
class Unit:
    """How values of a metric are written.

    Attributes:
        factor: What a value is multiplied by.
        decimals: Digits after the point; None for four significant digits.
        sign: What follows a value.
        points: What follows a difference of two values.
    """

    factor: float
    decimals: int | None
    sign: str
    points: str

    def value(self, x: float, sign: bool = True) -> str:
        """``93.21 %``; a dash for NaN."""
        return _dash(x, f"{self._digits(x)}{self.sign if sign else ''}")

    def difference(self, x: float, word: bool = True) -> str:
        """``+1.40 points``."""
        return _dash(x, f"{self._digits(x, '+')}{self.points if word else ''}")

    def size(self, x: float) -> str:
        """``1.40 points``: a difference whose direction the sentence tells."""
        return _dash(x, f"{self._digits(abs(x))}{self.points}")

    def interval(self, x: float, low: float, high: float, word: bool = True) -> str:
        """``+1.40 points [+1.10, +1.70]``; without an interval, the difference alone."""
        ends = f" [{self.difference(low, word=False)}, {self.difference(high, word=False)}]"
        return self.difference(x, word) + ("" if math.isnan(low) or math.isnan(x) else ends)

    def _digits(self, x: float, plus: str = "") -> str:
        kind = ".4g" if self.decimals is None else f".{self.decimals}f"
        text = format(x * self.factor, plus + kind)
        return text.replace("-", "\N{MINUS SIGN}") if text[0] == "-" else text


PERCENT = Unit(100.0, 2, " %", " points")
PLAIN = Unit(1.0, None, "", "")


def unit(metric: str) -> Unit:
    """Percent for accuracy, recall and other shares; as it is for all else."""
    return PERCENT if _SHARE.search(metric.rsplit("/", 1)[-1]) else PLAIN


def lower_is_better(metric: str) -> bool:
    """Whether the name is that of a loss, an error or a time."""
    return bool(_LOWER.search(metric.rsplit("/", 1)[-1]))


def words(metric: str) -> str:
    """``test/accuracy_best`` as ``test accuracy best``."""
    return _WORDS.get(metric, metric.replace("/", " ").replace("_", " "))


def probability(p: float) -> str:
    """``0.012``, ``< 0.0001``."""
    if math.isnan(p):
        return DASH
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def _dash(x: float, text: str) -> str:
    return DASH if math.isnan(x) else text
