"""What a key may hold, as the comment behind it in a configuration file says.

``k: null # int >= 1 or null`` is a *note*: alternatives, joined by ``or``.

====================== ==============================================
note                   what it allows
====================== ==============================================
``bool``               true and false
``int``, ``float``     a finite number; ``>= 0``, ``> 0``, ``in [0, 1)`` may follow
``text``               text, whatever it looks like; not empty
``path``               text; ``~`` is the user's home folder
``mean | sum``         one of these words
``"auto"``             this word
``list of int >= 1``   a list; ``list of 2 float`` one of two numbers
``range of float``     ``[low, high]``, the lower first
``mapping``            keys and values
``null``               nothing
====================== ==============================================
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

_NUMBER = r"-?(?:\d+\.?\d*(?:e-?\d+)?)"
_SCALAR = re.compile(
    rf"(int|float)(?: (>=|>) ({_NUMBER})| in ([\[(])({_NUMBER}), ({_NUMBER})([\])]))?"
)
_LIST = re.compile(r"(list|range) of (?:(\d+) )?(.+)")
_PLAIN = ("bool", "text", "path", "mapping", "null")


@dataclass(frozen=True)
class Kind:
    """One alternative of a note.

    Attributes:
        name: ``bool``, ``int``, ``float``, ``text``, ``path``, ``words``, ``list``, ``range``,
            ``mapping`` or ``null``.
        low: The least number that is allowed.
        high: The largest number that is allowed.
        above: Whether ``low`` itself is too small.
        below: Whether ``high`` itself is too large.
        words: The choices of ``words``.
        items: What each item of a ``list`` or ``range`` may be.
        length: How many items a list has; None for any number.
    """

    name: str
    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False
    words: tuple[str, ...] = ()
    items: Kind | None = None
    length: int | None = None

    def allows(self, value: Any) -> bool:
        """Whether a value is of this kind and in its range."""
        if self.name in ("int", "float"):
            return self._allows_number(value)
        if self.name in ("list", "range"):
            return self._allows_list(value)
        if self.name == "words":
            return not isinstance(value, bool) and str(value) in self.words
        if self.name == "null":
            return value is None
        types = {"bool": bool, "text": str, "path": str, "mapping": dict}
        return isinstance(value, types[self.name]) and (not isinstance(value, str) or bool(value))

    def _allows_number(self, value: Any) -> bool:
        right = int if self.name == "int" else (int, float)
        if isinstance(value, bool) or not isinstance(value, right) or not math.isfinite(value):
            return False
        over = value > self.low if self.above else value >= self.low
        return over and (value < self.high if self.below else value <= self.high)

    def _allows_list(self, value: Any) -> bool:
        assert self.items is not None
        if not isinstance(value, list) or (self.length and len(value) != self.length):
            return False
        if not all(self.items.allows(item) for item in value):
            return False
        return self.name == "list" or value[0] <= value[1]

    def __str__(self) -> str:
        """What is allowed, for the end of "must be"."""
        if self.name in ("int", "float"):
            return ("a whole number" if self.name == "int" else "a number") + self._bounds()
        if self.name == "words":
            return f"one of {', '.join(self.words)}" if len(self.words) > 1 else self.words[0]
        if self.name == "range":
            return f"[low, high], each {self.items}"
        if self.name == "list":
            length = "" if self.length is None else f" of {self.length}"
            return f"a list{length}, each {self.items}"
        names = {"bool": "true or false", "mapping": "a mapping", "path": "a path"}
        return names.get(self.name, self.name)

    def _bounds(self) -> str:
        if math.isfinite(self.high):
            brackets = "(" if self.above else "[", ")" if self.below else "]"
            return f" in {brackets[0]}{self.low:g}, {self.high:g}{brackets[1]}"
        if math.isfinite(self.low):
            return f" above {self.low:g}" if self.above else f" of at least {self.low:g}"
        return ""


@cache
def read_note(note: str) -> tuple[Kind, ...]:
    """The alternatives of a note; none where the comment is no note.

    Args:
        note: What follows ``#`` behind a key, such as ``int >= 1 or null``.
    """
    kinds = [_kind(part.strip()) for part in note.split(" or ")]
    return tuple(kind for kind in kinds if kind) if all(kinds) else ()


def _kind(part: str) -> Kind | None:
    if part in _PLAIN:
        return Kind(part)
    if " | " in part:
        words = tuple(word.strip() for word in part.split(" | "))
        return Kind("words", words=words) if all(re.fullmatch(r"\S+", w) for w in words) else None
    if found := re.fullmatch(r'"(\S+)"', part):
        return Kind("words", words=(found[1],))
    if found := _SCALAR.fullmatch(part):
        name, sign, least, opens, low, high, closes = found.groups()
        if sign:
            return Kind(name, low=float(least), above=sign == ">")
        if opens:
            return Kind(name, float(low), float(high), opens == "(", closes == ")")
        return Kind(name)
    if (found := _LIST.fullmatch(part)) and (items := _kind(found[3])):
        length = 2 if found[1] == "range" else int(found[2]) if found[2] else None
        return Kind(found[1], items=items, length=length)
    return None


def allowed(kinds: tuple[Kind, ...]) -> str:
    """What a key may hold, in words."""
    return " or ".join(map(str, kinds))
