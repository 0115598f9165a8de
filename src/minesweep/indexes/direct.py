"""Exact search by the differences themselves: slower, and sure of every tie."""

from __future__ import annotations

import torch
from torch import Tensor

_NEVER = torch.iinfo(torch.int64).max


def direct(
    points: Tensor,
    classes: Tensor,
    ranks: Tensor,
    places: Tensor,
    k: int,
    nearest: bool,
    memory: int,
) -> tuple[Tensor, Tensor]:
    """The k nearest points of another class, or the k furthest of the same, by brute force.

    Args:
        points: ``[n, d]``.
        classes: ``[n]``.
        ranks: ``[n]``: of points that are equally far, those of the lowest ranks are taken.
        places: ``[q]`` points to search for.
        memory: MiB of working space.

    Returns:
        Squared distances and places ``[q, k]``, in no order; -1 where there are none.
    """
    pairs = memory * 2**18 // 10  # 40 bytes each: a distance, masks, and keys more than once
    span = min(len(points), max(4 * k, pairs))
    keys = torch.cat(
        [
            _keys(points, classes, ranks, block, k, nearest, span)
            for block in places.split(max(1, pairs // span))
        ]
    )
    none = keys == _NEVER
    place_of = torch.empty_like(ranks)
    place_of[ranks] = torch.arange(len(ranks), device=ranks.device)
    found = place_of[(keys & (2**32 - 1)).masked_fill_(none, 0)]
    distances = squared(points, places, found)
    distances.masked_fill_(none, torch.inf if nearest else -torch.inf)
    return distances, found.masked_fill_(none, -1)


def _keys(
    points: Tensor,
    classes: Tensor,
    ranks: Tensor,
    places: Tensor,
    k: int,
    nearest: bool,
    span: int,
) -> Tensor:
    """Distance and rank in one number ``[q, k]``: the k best of each row, in no order."""
    keys = torch.full((len(places), 0), _NEVER, device=points.device)
    for start in range(0, len(points), span):
        part = slice(start, start + span)
        far = torch.cdist(points[places], points[part], compute_mode="donot_use_mm_for_euclid_dist")
        # The bits of floats that are not negative sort as the floats do.
        bits = far.view(torch.int32).long()
        some = ((bits if nearest else 2**31 - 1 - bits) << 32) | ranks[part]
        same = classes[places, None] == classes[part]
        some.masked_fill_(same if nearest else ~same, _NEVER)
        if not nearest:
            at = torch.arange(len(points), device=points.device)[part]
            some.masked_fill_(places[:, None] == at, _NEVER)
        keys = torch.cat([keys, some], 1)
        keys = keys.topk(min(k, keys.shape[1]), 1, largest=False, sorted=False).values
    return keys


def squared(points: Tensor, places: Tensor, others: Tensor) -> Tensor:
    """Squared distances ``[q, k]`` from each of ``places [q]`` to its ``others [q, k]``."""
    return (points[others] - points[places, None]).square_().sum(2)
