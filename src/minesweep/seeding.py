"""One random generator for each (seed, purpose).

Runs that differ in the miner alone share initialisation and batches, because nothing that
one purpose draws moves the generator of another.
"""

from __future__ import annotations

import hashlib

import torch


def derive(seed: int, purpose: str) -> int:
    """A 63-bit seed for one purpose, e.g. ``derive(0, "batches/3")``."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator for one purpose of one seed."""
    return torch.Generator(device).manual_seed(derive(seed, purpose))
