"""One random generator for each (seed, purpose), and the global generators of three libraries.

Runs that differ in the miner alone share initialisation and batches, because nothing that
one purpose draws moves the generator of another. User code may draw from the global generators of
Python, NumPy and torch: a run seeds all three, and its checkpoints hold their states.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


def derive(seed: int, purpose: str) -> int:
    """A 63-bit seed for one purpose, e.g. ``derive(0, "batches/3")``."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator for one purpose of one seed."""
    return torch.Generator(device).manual_seed(derive(seed, purpose))


def seed_globals(seed: int, purpose: str) -> None:
    """Seeds the global generators of torch (every device), NumPy and Python for one purpose."""
    value = derive(seed, purpose)
    torch.manual_seed(value)
    np.random.seed(value % 2**32)
    random.seed(value)


def global_state() -> dict[str, Any]:
    """The states of the global generators, as ``torch.load(weights_only=True)`` can read them."""
    kind, keys, position, has_gauss, cached = np.random.get_state()
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [
            str(kind),
            torch.from_numpy(np.array(keys).astype(np.int64)),
            position,
            has_gauss,
            cached,
        ],
        "python": [version, list(internal), gauss],
    }


def restore_globals(state: dict[str, Any]) -> None:
    """The inverse of :func:`global_state`."""
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([item.cpu() for item in state["cuda"]])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))


@contextmanager
def kept_globals() -> Iterator[None]:
    """Leaves the global generators as they were, whatever is drawn meanwhile."""
    state = global_state()
    try:
        yield
    finally:
        restore_globals(state)


def uniform(seed: int, purpose: str, rows: Tensor, count: int) -> Tensor:
    """``[n, count]`` float32 in [0, 1) for ``rows`` ``[n]``, each row's own.

    What a row draws depends on seed, purpose and row alone: not on its place in the batch, the
    rows beside it, or the device. These are the numbers at ``row * count + column`` of
    SplitMix64 (Steele, Lea and Flood, OOPSLA 2014, figure 13) started from the purpose's seed;
    int64 arithmetic wraps around as the algorithm wants it.
    """
    place = rows[:, None] * count + torch.arange(1, count + 1, device=rows.device)
    bits = place * _GAMMA + derive(seed, purpose)
    for shift, factor in _MIX:
        bits = (bits ^ _shifted(bits, shift)) * factor
    return _shifted(bits ^ _shifted(bits, 31), 40).float() * 2.0**-24


# The algorithm's unsigned constants as the int64 of the same bits.
_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_MIX = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))


def _shifted(bits: Tensor, by: int) -> Tensor:
    """``bits >> by`` as if they were unsigned."""
    return (bits >> by) & ((1 << (64 - by)) - 1)
