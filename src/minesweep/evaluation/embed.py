"""Embeddings of a split."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from minesweep.datasets.base import Split


@torch.no_grad()
def embed(
    model: nn.Module, split: Split, rows: Tensor | None = None, chunk: int = 2048
) -> tuple[Tensor, Tensor]:
    """Embeddings and labels of rows of a split, ``chunk`` examples at a time.

    A model with a projection head has a method ``embed`` that gives the vectors before it; of
    any other model the outputs are taken. Its mode (training, evaluation) is left as it is.

    Args:
        model: Maps a batch's inputs to ``[n, dim]``, or to ``[2n, dim]`` for n pairs.
        split: What is embedded.
        rows: ``[m]`` rows of it; None for all.
        chunk: Examples in a forward pass.

    Returns:
        ``[m, dim]`` embeddings and ``[m]`` labels; of pairs twice as many, the m first ones and
        then the m second ones.
    """
    encode = getattr(model, "embed", model)
    if rows is None:
        rows = torch.arange(len(split), device=split.device)
    towers = []
    for part in rows.split(chunk):
        outputs = encode(split.fetch(part).inputs)
        towers.append(outputs.reshape(-1, len(part), outputs.shape[-1]))
    vectors = torch.cat(towers, dim=1)
    return vectors.flatten(0, 1), split.labels[rows].repeat(len(vectors))
