"""One random generator for each (seed, purpose).

Runs that differ in the miner alone share initialisation and batches, because nothing that
one purpose draws moves the generator of another.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def derive(seed: int, purpose: str) -> int:
    """A 63-bit seed for one purpose, e.g. ``derive(0, "batches/3")``."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator for one purpose of one seed."""
    return torch.Generator(device).manual_seed(derive(seed, purpose))


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
