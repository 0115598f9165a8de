"""Hard examples in a ``LightningModule``; Lightning itself is imported by the user alone."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from minesweep.loops.hard_examples import HardExamples


class HardExamplesMixin:
    """Gives a ``LightningModule`` a training step that learns from the hard examples.

    Write it before ``LightningModule`` in the list of bases, set :attr:`hard` in ``__init__``,
    and define :meth:`losses`. The miner's state is then a part of Lightning's checkpoints.
    """

    hard: HardExamples

    def losses(self, outputs: Any, batch: Any) -> Tensor:
        """``[n]`` unreduced losses of the outputs for the whole batch."""
        raise NotImplementedError(f"{type(self).__name__} has to define losses(outputs, batch)")

    def inputs(self, batch: Any) -> Any:
        """What ``forward`` is given of a batch: by default the first of its parts."""
        return batch[0]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Lightning's hook."""
        here: Any = self
        loss = self.hard(
            here, self.inputs(batch), lambda o: self.losses(o, batch), here.global_step
        )
        if here.global_step % here.trainer.log_every_n_steps == 0:
            here.log_dict({f"hard/{name}": value for name, value in self.hard.log().items()})
        return loss
