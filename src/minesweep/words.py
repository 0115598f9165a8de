"""Names that a user types, and the nearest right one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from minesweep.errors import UserError


def nearest(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the known word nearest to ``word``, or nothing."""
    # A name in the wrong case is the nearest of all.
    plain = {name.casefold(): name for name in known}
    matches = get_close_matches(word.casefold(), list(plain), n=1, cutoff=0.5)
    return f"; did you mean '{plain[matches[0]]}'?" if matches else ""


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
    wrong = f"is not one of {', '.join(known)}" if len(known) <= 12 else "is not known"
    raise UserError(f"{key}={word} {wrong}{nearest(str(word), known)}")
