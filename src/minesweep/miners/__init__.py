"""Miners: what the update learns from. One file each; the contract is in :mod:`.base`."""

from minesweep.miners.all import All
from minesweep.miners.base import Context, Miner, Pool
from minesweep.miners.ohem import Ohem
from minesweep.miners.random_k import RandomK
from minesweep.miners.selective_backprop import SelectiveBackprop

__all__ = ["All", "Context", "Miner", "Ohem", "Pool", "RandomK", "SelectiveBackprop"]
