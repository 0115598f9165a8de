"""Early stopping on a validation metric."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from minesweep.errors import UserError
from minesweep.words import nearest


class EarlyStop:
    """Stops a run after ``patience`` validations in a row without a better ``metric``.

    Args:
        metric: A metric of the validation, e.g. ``val/loss``.
        goal: ``maximize`` or ``minimize``.
        patience: The validations in a row that may bring nothing better; None for any number.
    """

    def __init__(
        self, metric: str = "val/accuracy", goal: str = "maximize", patience: int | None = None
    ) -> None:
        if goal not in ("maximize", "minimize"):
            raise UserError(f"trainer.early_stop.goal={goal} is not one of maximize, minimize")
        self.metric, self.patience = metric, patience
        self.sign = 1 if goal == "maximize" else -1
        self.best: float | None = None
        self.waited = 0

    def stop(self, step: int, validation: Mapping[str, float]) -> bool:
        """Whether to stop the run, which is about to log ``validation`` at ``step``.

        Raises:
            UserError: The validation does not hold the metric.
        """
        if self.patience is None:
            return False
        if self.metric not in validation:
            known = ", ".join(validation)
            guess = nearest(self.metric, validation) or f"; known: {known}"
            raise UserError(f"trainer.early_stop.metric={self.metric} is not logged{guess}")
        value = self.sign * validation[self.metric]
        if self.best is None or value > self.best or math.isnan(self.best):
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        return self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.waited = state["best"], state["waited"]
