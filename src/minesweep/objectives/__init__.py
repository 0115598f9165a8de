"""Objectives: what a candidate is and how hard it is; the contract is in :mod:`.base`."""

from minesweep.objectives.base import Objective, Outcome, RowObjective
from minesweep.objectives.classification import L2, CrossEntropy

__all__ = ["L2", "CrossEntropy", "Objective", "Outcome", "RowObjective"]
