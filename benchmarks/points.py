"""Points to search in, uniform or in clusters, the same at every call."""

from __future__ import annotations

import torch
from torch import Tensor


def points(n: int, dim: int, classes: int, spread: float | None) -> tuple[Tensor, Tensor]:
    """Embeddings ``[n, dim]`` and labels ``[n]``, in no order.

    Args:
        n: How many points.
        dim: Their dimensions.
        classes: How many classes, drawn evenly.
        spread: Standard deviation within a class around its standard normal centre; None: points
            are uniform in [-1, 1]^dim, and labels say nothing about them.
    """
    draws = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (n,), generator=draws)
    if spread is None:
        return torch.rand(n, dim, generator=draws) * 2 - 1, labels
    centres = torch.randn(classes, dim, generator=draws)
    return centres[labels] + spread * torch.randn(n, dim, generator=draws), labels


def sample(n: int, count: int) -> Tensor:
    """``count`` of n rows."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(1))[:count]
