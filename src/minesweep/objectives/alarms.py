"""Alarms: something that went on for too long is said once."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Alarms(nn.Module):
    """Counts for how many steps in a row each of some conditions has held.

    Args:
        patience: By the condition's name: after how many steps in a row it is reported.

    The counts, and what was told, are buffers: a resumed run tells nothing twice.
    """

    patience: Tensor
    streak: Tensor
    told: Tensor

    def __init__(self, patience: Mapping[str, int]) -> None:
        super().__init__()
        self.names = list(patience)
        self.register_buffer("patience", torch.tensor(list(patience.values())), persistent=False)
        self.register_buffer("streak", torch.zeros(len(patience), dtype=torch.long))
        self.register_buffer("told", torch.zeros(len(patience), dtype=torch.bool))

    def watch(self, conditions: Tensor) -> list[str]:
        """Takes in one step.

        Args:
            conditions: Bool, one for each name.

        Returns:
            The names that are to be told now.
        """
        self.streak = (self.streak + 1) * conditions
        due = (self.streak >= self.patience) & ~self.told
        if not due.any():
            return []
        self.told |= due
        return [name for name, now in zip(self.names, due.tolist(), strict=True) if now]
