"""How many of n: the one place where k and ratio are read. Nothing heavy is imported here."""

from __future__ import annotations


def chosen_k(n: int, k: int | None = None, ratio: float | None = None) -> int:
    """How many of ``n`` candidates are selected: ``k`` if given, else ``ratio * n``, at least 1."""
    if k is not None:
        return k
    return n if ratio is None else max(1, round(ratio * n))
