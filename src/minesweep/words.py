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
    hints = [f"did you mean {' or '.join(near)}?"] if near else []
    if len(known) <= 12:
        hints.append(f"choices: {', '.join(known)}")
    raise UserError(f"{key}={word} is not known; {' '.join(hints) or 'no name is near it'}")
