"""The operations of torch that the two passes treat in a way of their own."""

from __future__ import annotations

from typing import Any

import torch


def _overloads(*names: str) -> frozenset[Any]:
    """The operations of these names that this version of torch has."""
    found = set()
    for name in names:
        packet, _, overload = name.partition(".")
        operation = getattr(torch.ops.aten, packet, None)
        if operation is not None and (overload or "default") in operation.overloads():
            found.add(getattr(operation, overload or "default"))
    return frozenset(found)


REMEMBERED = _overloads(
    *("mm", "addmm", "bmm", "baddbmm", "convolution"),
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
)
"""Where the time goes. The cheap operations between them are done again: to keep their outputs
would cost as much memory traffic as to compute them, and much memory."""

REDRAWN = _overloads(
    *("bernoulli_.float", "bernoulli_.Tensor", "uniform_", "normal_", "exponential_"),
    *("bernoulli", "bernoulli.p", "native_dropout", "rand", "randn", "rand_like", "randn_like"),
)
"""Chance (dropout, stochastic depth): the k rows get what they drew among the n."""

# Where each of them is told to take the statistics of the batch.
_TRAINING = {
    **dict.fromkeys(
        _overloads(
            *("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm"),
            "_native_batch_norm_legit",
        ),
        5,
    ),
    **dict.fromkeys(_overloads("_native_batch_norm_legit.no_stats"), 3),
    **dict.fromkeys(_overloads("_batch_norm_with_update", "batch_norm_stats"), None),
}


def takes_statistics(operation: Any, args: tuple[Any, ...]) -> bool:
    """Whether this call normalises by the statistics of what it is given."""
    if operation not in _TRAINING:
        return False
    place = _TRAINING[operation]
    return place is None or bool(args[place])
