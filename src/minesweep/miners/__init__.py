"""Miners: what the update learns from. One file each; the contract is in :mod:`.base`."""

from minesweep.miners.all import All
from minesweep.miners.base import Context, Miner, Pool
from minesweep.miners.negative_ratio import NegativeRatio
from minesweep.miners.ohem import Ohem
from minesweep.miners.pixel_threshold import PixelThreshold
from minesweep.miners.random_k import RandomK
from minesweep.miners.selective_backprop import SelectiveBackprop

__all__ = [
    "All",
    "Context",
    "Miner",
    "NegativeRatio",
    "Ohem",
    "PixelThreshold",
    "Pool",
    "RandomK",
    "SelectiveBackprop",
]
