"""Is the loss finite? Asked of the device at once, answered when the answer is needed."""

from __future__ import annotations

import torch
from torch import Tensor


class Finite:
    """Whether a loss is finite.

    On a GPU the answer travels to the host behind the forward pass, while the host already queues
    the backward pass; waiting for it then leaves the GPU at work.

    Args:
        loss: A scalar.
    """

    def __init__(self, loss: Tensor) -> None:
        self._answer, self._there = loss.detach().isfinite(), None
        if loss.is_cuda:
            host = torch.empty_like(self._answer, device="cpu", pin_memory=True)
            self._answer = host.copy_(self._answer, non_blocking=True)
            self._there = torch.cuda.Event()
            self._there.record()

    def __bool__(self) -> bool:
        if self._there is not None:
            self._there.synchronize()
        return bool(self._answer)
