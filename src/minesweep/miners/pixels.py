"""What the miners that can choose among pixels share: groups, valid ones, ranks.

Scores are ``[n]`` of examples or ``[n, H, W]`` of pixels. A *group* is what is ranked together:
the whole batch, or one image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from minesweep.errors import UserError
from minesweep.miners.base import Pool
from minesweep.words import check_word

PIXEL = "pixel"
BATCH, IMAGE = "batch", "image"
PER = (BATCH, IMAGE)


def check_per(per: str) -> str:
    """Returns ``per`` if it names what is ranked together.

    Raises:
        UserError: It is neither ``batch`` nor ``image``.
    """
    return check_word("miner.per", per, PER)


def check_pool(per: str, pool: Pool) -> None:
    """Raises a UserError where each image would be a group of one candidate."""
    if per == IMAGE and pool.candidate != PIXEL:
        raise UserError(
            "miner.per=image chooses among the pixels of an image, and this objective scores whole "
            "examples: take miner.per=batch"
        )


def grouped(values: Tensor, per: str) -> Tensor:
    """``[groups, m]`` of ``[n, ...]``: one row for the batch, or one for each image."""
    return values.reshape(len(values) if per == IMAGE else 1, -1)


def sizes(flat: Tensor, valid: Tensor | None) -> list[int]:
    """How many candidates each group has. Waits for the device where some are not valid."""
    if valid is None:
        return [flat.shape[1]] * flat.shape[0]
    found: list[int] = valid.sum(1).tolist()
    return found


def window(
    scores: Tensor, valid: Tensor | None, per: str, chosen: Callable[[int], tuple[int, int]]
) -> Tensor:
    """Weights 1 for a window of ranks of each group, 0 for the others.

    Of equal scores the one that stands first counts as harder.

    Args:
        scores: ``[n, ...]``; larger is harder.
        valid: Bool, shaped like the scores: False where none is to be selected; None for all.
        per: ``batch`` or ``image``.
        chosen: Of the number of valid candidates of a group: how many of the hardest are passed
            over, and how many after them are selected.

    Returns:
        Weights shaped like ``scores``.
    """
    flat = grouped(scores, per)
    allowed = None if valid is None else grouped(valid, per)
    if allowed is not None:
        flat = torch.where(allowed, flat, -torch.inf)
    bounds = [chosen(count) for count in sizes(flat, allowed)]
    first, k = torch.tensor(bounds, device=scores.device).T[:, :, None]
    # A stable sort, not topk, whose order among equal scores is left open.
    order = torch.argsort(flat, dim=1, descending=True, stable=True)
    place = torch.arange(flat.shape[1], device=scores.device)
    inside = ((place >= first) & (place < first + k)).to(scores.dtype)
    weights = torch.zeros_like(flat).scatter_(1, order, inside)
    if allowed is not None:
        weights *= allowed  # a valid score of -inf could stand behind one that is not valid
    return weights.view_as(scores)
