"""No mining."""

from __future__ import annotations

from typing import ClassVar

from minesweep.miners.base import Miner


class All(Miner):
    """Learns from all n examples of a uniform batch: every hook as the contract has it."""

    also: ClassVar[tuple[str, ...]] = ("pixel",)
