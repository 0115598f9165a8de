"""Miners of pytorch-metric-learning as ours, and ours as theirs.

Source: Musgrave, Belongie and Lim, "PyTorch Metric Learning" (arXiv 2008.09164), version 2.9.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Unpack

import torch
from torch import Tensor
from torch.nn import functional

from minesweep.errors import UserError
from minesweep.miners.base import Context
from minesweep.miners.in_batch import HARD, Balanced, InBatch
from minesweep.words import check_word

Tuples = tuple[Tensor, ...]
"""Index tuples of PML: ``(anchor, positive, negative)``, or ``(anchor, positive, anchor,
negative)``; each part is ``[m]`` places in the batch."""
REFUSED = {
    "BaseMiner": "it is the base of other miners",
    "EmbeddingsAlreadyPackagedAsTriplets": "it takes batches of triplets",
}
"""Names that are no miner of a labelled batch, and why."""


class Pml(Balanced):
    """An in-batch miner of pytorch-metric-learning, by its name, for ``objective=pml``.

    Args:
        miner: Its class, such as ``MultiSimilarityMiner``; None for all pairs or triplets.
        arguments: Its own arguments.
        distance: A class of ``pytorch_metric_learning.distances``, or its name and arguments as
            ``{name: LpDistance, p: 1}``; None for the miner's own.
        per_class: See :class:`~minesweep.miners.in_batch.Balanced`.
        **schedule: ``start``, ``end``, ``interrupt`` of :class:`~minesweep.miners.base.Miner`.

    Raises:
        UserError: PML is not installed, or has no such class, or the class takes no such argument.
    """

    def __init__(
        self,
        miner: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        distance: str | Mapping[str, Any] | None = None,
        per_class: int | None = None,
        **schedule: Any,
    ) -> None:
        super().__init__(per_class, **schedule)
        given = dict(arguments or {})
        if distance is not None:
            given["distance"] = make("miner.distance", "distances", distance)
        self.inner = (
            None
            if miner is None
            else make("miner.miner", "miners", {"name": miner, **given}, REFUSED)
        )

    def tuples(self, embeddings: Tensor, labels: Tensor) -> Tuples | None:
        """What PML's miner selects from ``[n, dim]`` embeddings and ``[n]`` labels."""
        return None if self.inner is None else self.inner(embeddings, labels)

    def select(self, scores: Tensor, **context: Unpack[Context]) -> Tensor:
        raise UserError("miner=pml selects pairs or triplets, which objective=pml alone takes")

    def selected(self, n: int) -> int:
        return n


def package(group: str) -> Any:
    """A module of pytorch-metric-learning, such as ``losses``.

    Raises:
        UserError: It is not installed.
    """
    try:
        import pytorch_metric_learning  # noqa: F401
    except ImportError:
        raise UserError(
            "pytorch-metric-learning is not installed: pip install 'minesweep[pml]'"
        ) from None
    from importlib import import_module

    return import_module(f"pytorch_metric_learning.{group}")


def check_name(key: str, group: str, name: Any, refused: Mapping[str, str] | None = None) -> str:
    """The name of a class of PML.

    Args:
        key: The configuration key, for the message.
        group: ``losses``, ``miners``, ``distances`` or ``reducers``.
        name: What the user wrote.
        refused: Names that are not offered, and why.

    Raises:
        UserError: There is no such class, or it is refused.
    """
    if name in (refused or {}):
        raise UserError(f"{key}={name}: {(refused or {})[name]}")
    found = [n for n, value in vars(package(group)).items() if inspect.isclass(value)]
    offered = [n for n in sorted(found) if not n.startswith("Base") and n not in (refused or {})]
    return check_word(key, name, offered)


def make(
    key: str,
    group: str,
    named: str | Mapping[str, Any],
    refused: Mapping[str, str] | None = None,
) -> torch.nn.Module:
    """Makes an object of PML.

    Args:
        key: The configuration key, for the message.
        group: ``losses``, ``miners``, ``distances`` or ``reducers``.
        named: The class, or its ``name`` and its arguments.
        refused: Names that are not offered, and why.

    Raises:
        UserError: There is no such class, or it takes no such arguments.
    """
    arguments: dict[str, Any] = {"name": named} if isinstance(named, str) else dict(named)
    name = check_name(key, group, arguments.pop("name", None), refused)
    try:
        return getattr(package(group), name)(**arguments)
    except (TypeError, ValueError, AssertionError) as error:
        told = " ".join(str(error).split()) or "it does not take these arguments"
        raise UserError(f"{key}={name}: {told}") from None


def as_pml_miner(miner: InBatch) -> Any:
    """One of our miners of negatives in the batch as a miner of pytorch-metric-learning.

    For each anchor and each of its positives it gives the hard negative that our miner selects by
    cosine. The triplets ``(anchors, positives, negatives)`` suit any loss of PML. A positive for
    which the miner finds no negative gives no triplet. Each call is a step of its own.

    Args:
        miner: Such as ``ClosestNegative("semi_hard")`` or ``Band(0, 10)``.

    Returns:
        An instance of ``pytorch_metric_learning.miners.BaseMiner``.

    Raises:
        UserError: The miner does not mine negatives in the batch, or gives no single negative.
    """
    if not isinstance(miner, InBatch):
        raise UserError(
            f"as_pml_miner takes a miner of negatives in the batch, and {type(miner).__name__} "
            f"mines a {getattr(miner, 'candidate', 'thing of another kind')}"
        )
    base: Any = package("miners").BaseMiner

    class PmlMiner(base):
        def __init__(self) -> None:
            super().__init__()
            self.miner, self.step = miner, 0

        def mine(
            self, embeddings: Tensor, labels: Tensor, ref_emb: Tensor, ref_labels: Tensor
        ) -> Tuples:
            scores = (
                functional.normalize(embeddings, dim=1) @ functional.normalize(ref_emb, dim=1).T
            )
            same = labels[:, None] == ref_labels
            positives = same.clone()
            if ref_emb is embeddings:
                positives.fill_diagonal_(False)
            anchors, places = positives.nonzero(as_tuple=True)
            context = Context(
                step=self.step,
                valid=~same[anchors],
                positive=scores[anchors, places],
                dim=embeddings.shape[1],
            )
            self.step += 1
            weights = self.miner.select(scores[anchors], **context)[HARD]
            if bool(((weights > 0).sum(1) > 1).any()):
                raise UserError(
                    f"as_pml_miner: {type(self.miner).__name__} weights many negatives of an "
                    "anchor, and a triplet has one"
                )
            found = (weights > 0).any(1)
            return anchors[found], places[found], weights.argmax(1)[found]

    return PmlMiner()
