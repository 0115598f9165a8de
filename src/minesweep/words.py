"""Names that a user types, and the nearest right one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from minesweep.errors import UserError


def check_word(key: str, word: object, choices: Iterable[str]) -> str:
    """Returns ``word`` if it is one of ``choices``.

    Args:
        key: The config key, for the message, e.g. ``dataset.normalize``.
        word: What the user wrote.
        choices: What may be written.

    Raises:
        UserError: It is none of them; the line names the nearest, and all if they are few.
    """
    known = list(choices)
    if isinstance(word, str) and word in known:
        return word
    near = get_close_matches(str(word), known, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    wrong = f"is not one of {', '.join(known)}" if len(known) <= 12 else "is not known"
    raise UserError(f"{key}={word} {wrong}{hint}")
