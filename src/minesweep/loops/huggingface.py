"""Hard examples in ``transformers.Trainer``; transformers itself is imported by the user alone."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

from minesweep.loops.hard_examples import HardExamples


class HardExamplesMixin:
    """Gives a ``transformers.Trainer`` a loss of the hard examples alone.

    Write it before ``Trainer`` in the list of bases::

        class Mined(HardExamplesMixin, transformers.Trainer): ...

        Mined(model, args, ..., hard=HardExamples(Ohem(k=16))).train()
    """

    def __init__(self, *args: Any, hard: HardExamples, **more: Any) -> None:
        super().__init__(*args, **more)
        self.hard = hard
        # Each batch's loss is a mean already; the Trainer then divides by the accumulated steps.
        self.model_accepts_loss_kwargs = False

    def losses(self, outputs: Any, labels: Tensor) -> Tensor:
        """``[n]`` unreduced losses: cross-entropy of ``outputs.logits`` ``[n, classes]``."""
        return functional.cross_entropy(outputs["logits"], labels, reduction="none")

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **more: Any
    ) -> Any:
        """The Trainer's hook; an evaluation computes the model's own loss."""
        if return_outputs or not model.training:
            return super().compute_loss(model, inputs, return_outputs, **more)  # type: ignore[misc]
        given = {name: value for name, value in inputs.items() if name != "labels"}
        return self.hard(model, given, lambda outputs: self.losses(outputs, inputs["labels"]))

    def log(self, logs: dict[str, float], *args: Any, **more: Any) -> None:
        """Adds what was selected to what is logged while it trains."""
        if "loss" in logs:
            logs = {**logs, **{f"hard/{name}": value for name, value in self.hard.log().items()}}
        super().log(logs, *args, **more)  # type: ignore[misc]
