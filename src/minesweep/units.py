"""How a metric is written: its direction, and whether it is a share that reads best in percent."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

DASH = "\N{EN DASH}"
"""Stands for a value that there is not."""
_SHARE = re.compile(r"accuracy|recall|precision|auc|nmi|iou|share|flipped|(^|_)f1|(^|_)map(_|@|$)")
_WORDS = {"samples/backward": "samples backpropagated", "samples/forward": "samples scored"}
_WORDS |= {"seconds": "benchmark seconds", "elapsed": "seconds on the runs' own clocks"}
_LOWER = re.compile(r"(^|/)steps to |(loss|error|seconds|perplexity|violated)[^/]*$|/intra/[^/]*$")


@dataclass(frozen=True)
class Unit:
    """How values of a metric are written.

    Attributes:
        factor: What a value is multiplied by.
        format: A format specification of the product.
        sign: What follows a value.
        points: What follows a difference of two values.
    """

    factor: float
    format: str
    sign: str
    points: str

    def value(self, x: float, sign: bool = True) -> str:
        """``93.21 %``; a dash for NaN."""
        return self._text(x, end=self.sign if sign else "")

    def mean(self, x: float, half: float) -> str:
        """``93.21 ± 0.12 %``; without an interval, the value alone."""
        whole = math.isnan(half)
        return self.value(x, sign=whole) + ("" if whole else f" ± {self.value(half)}")

    def difference(self, x: float, word: bool = True) -> str:
        """``+1.40 points``."""
        return self._text(x, "+", self.points if word else "")

    def size(self, x: float) -> str:
        """``1.40 points``: a difference whose direction the sentence tells."""
        return self._text(abs(x), end=self.points)

    def interval(self, x: float, low: float, high: float, word: bool = True) -> str:
        """``+1.40 points [+1.10, +1.70]``; without an interval, the difference alone."""
        ends = f" [{self.difference(low, word=False)}, {self.difference(high, word=False)}]"
        return self.difference(x, word) + ("" if math.isnan(low) or math.isnan(x) else ends)

    def _text(self, x: float, plus: str = "", end: str = "") -> str:
        text = re.sub("^-", "\N{MINUS SIGN}", format(x * self.factor, plus + self.format))
        return DASH if math.isnan(x) else text + end


PERCENT = Unit(100.0, ".2f", " %", " points")
PLAIN = Unit(1.0, ".4g", "", "")


def unit(metric: str) -> Unit:
    """Percent for accuracy, recall and other shares; as it is for all else."""
    return PERCENT if _SHARE.search(metric.rsplit("/", 1)[-1]) else PLAIN


def lower_is_better(metric: str) -> bool:
    """Whether the name is that of a loss, an error, a time, or a distance within the classes."""
    return bool(_LOWER.search(metric))


def words(metric: str) -> str:
    """``test/accuracy_best`` as ``test accuracy best``."""
    return _WORDS.get(metric, metric.replace("/", " ").replace("_", " "))


def probability(p: float) -> str:
    """``0.012``, ``< 0.0001``."""
    if math.isnan(p):
        return DASH
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def duration(seconds: float) -> str:
    """A length of time to read: ``40 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
