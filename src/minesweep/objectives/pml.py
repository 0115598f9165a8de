"""Losses of pytorch-metric-learning, by their name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from minesweep.datasets.base import Batch, Data, Split
from minesweep.errors import UserError
from minesweep.miners import pml
from minesweep.miners.base import Miner, Pool
from minesweep.objectives import contract
from minesweep.objectives.base import Objective, Outcome

_PART = "it is a part of other losses"
_WRAPPER = "it wraps another loss"
REFUSED = {
    "BaseLossWrapper": _WRAPPER,
    "BaseMetricLossFunction": _PART,
    "CrossBatchMemory": f"{_WRAPPER} and keeps a memory outside of its state; see miner=queue",
    "EmbeddingRegularizerMixin": _PART,
    "GenericPairLoss": _PART,
    "ManifoldLoss": "it takes no labels",
    "MultipleLosses": _WRAPPER,
    "SelfSupervisedLoss": f"{_WRAPPER} for two views of each example; see objective=moco",
    "VICRegLoss": "it compares two views of each example and takes no labels",
    "WeightRegularizerMixin": _PART,
}
"""Names that are no loss of embeddings and labels, and why."""
SIZES = ("num_classes", "embedding_size", "descriptors_dim")


class Pml(Objective):
    """Any loss of pytorch-metric-learning over embeddings and labels.

    Nothing of the loss is written anew: it is PML's own object, and its proxies or margins are
    trained and checkpointed with the model. What is learned from is decided by

    - ``miner=pml``: the pairs or triplets that a miner of PML selects;
    - a miner of examples (``ohem``, ``random_k``, ...): it selects anchors, scored by the mean of
      the losses that each takes part in as the anchor. All pairs of the selected are learned from.

    Args:
        loss: Its class, such as ``MultiSimilarityLoss``.
        arguments: Its own arguments. ``num_classes`` and ``embedding_size`` need not be given.
        distance: A class of ``pytorch_metric_learning.distances``, or its name and arguments as
            ``{name: LpDistance, p: 1}``; None for the loss's own.
        reducer: The same of ``pytorch_metric_learning.reducers``.
        queries: Rows of a held-out split at most that are compared with all others; None for all.

    Raises:
        UserError: PML is not installed, or has no such class.
    """

    monitor = "val/mean_average_precision_at_r"
    evaluates = (
        *("precision_at_1", "r_precision", "mean_average_precision_at_r", "nmi"),
        *("recall_at_1", "recall_at_5", "recall_at_10"),
    )
    function: nn.Module

    def __init__(
        self,
        loss: str = "TripletMarginLoss",
        arguments: Mapping[str, Any] | None = None,
        distance: str | Mapping[str, Any] | None = None,
        reducer: str | Mapping[str, Any] | None = None,
        queries: int | None = 2000,
    ) -> None:
        super().__init__()
        self.loss = pml.check_name("objective.loss", "losses", loss, REFUSED)
        self.arguments, self.queries = dict(arguments or {}), queries
        for key, named in (("distance", distance), ("reducer", reducer)):
            if named is not None:
                self.arguments[key] = pml.make(f"objective.{key}", f"{key}s", named)
        # What PML hands to its reducer in a step, and whether that tells the losses of anchors.
        self._parts: list[dict[str, Any]] = []
        self._ranked = False
        self._remembered: list[tuple[nn.Module, str]] = []

    def setup(self, model: nn.Module, pool: Pool, data: Data) -> None:
        """Makes the loss, which may have one proxy or margin for each class."""
        vectors = pool.encode(torch.zeros(1, dtype=torch.long, device=pool.device))
        if vectors.dim() != 2 or len(vectors) != 1:
            raise UserError(
                "objective=pml compares one vector of each example, and the model gives "
                f"{contract.described(vectors)} for one"
            )
        size = vectors.shape[1]
        needed = dict(zip(SIZES, (data.num_classes, size, size), strict=True))
        taken = _required(getattr(pml.package("losses"), self.loss))
        sizes = {key: value for key, value in needed.items() if key in taken}
        self.function = pml.make(
            "objective.loss", "losses", {"name": self.loss, **sizes, **self.arguments}
        ).to(pool.device)
        for part in self.function.modules():
            # What a loss remembers in plain tensors belongs to the checkpoint, too.
            for name in [n for n, value in vars(part).items() if isinstance(value, Tensor)]:
                part.register_buffer(name, vars(part).pop(name).to(pool.device))
                self._remembered.append((part, name))
            if isinstance(part, pml.package("reducers").BaseReducer):
                part.register_forward_pre_hook(self._record)

    def _record(self, reducer: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._parts.append(inputs[0])

    def vectors(self, outputs: Tensor) -> Tensor:
        """The outputs, in 32 bits; a loss scales them as its distance does."""
        return outputs.float()

    # --- one step ----------------------------------------------------------------------------

    def forward(self, model: nn.Module, batch: Batch, miner: Miner, step: int) -> Outcome:
        embeddings, labels = self.vectors(model(batch.inputs)), batch.labels
        with torch.autocast(embeddings.device.type, enabled=False):
            if isinstance(miner, pml.Pml):
                tuples = miner.tuples(embeddings, labels) if miner.active(step) else None
                loss, scores = self._compute(embeddings, labels, tuples)
                return self._outcome(loss, scores, torch.ones_like(scores), tuples)
            loss, scores = self._compute(embeddings, labels, None)
            if not miner.active(step) or miner.selected(len(labels)) == len(labels):
                return self._outcome(loss, scores, torch.ones_like(scores), None)
            if not self._ranked:
                raise UserError(
                    f"objective.loss={self.loss} gives one loss for the whole batch, so a miner "
                    "cannot rank examples: miner=all, random_k or pml learns from it"
                )
            selected = miner.select(scores, step=step, rows=batch.rows, labels=labels)
            weights = contract.weights(selected, miner, scores)
            tuples = self._of(weights > 0, labels)
            loss, _ = self._compute(embeddings, labels, tuples)
            return self._outcome(loss, scores, weights, tuples)

    def _compute(
        self, embeddings: Tensor, labels: Tensor, tuples: pml.Tuples | None
    ) -> tuple[Tensor, Tensor]:
        """The loss, and ``[n]`` the mean loss of each anchor, or the loss where there is none."""
        try:
            loss = self.function(embeddings, labels, tuples)
        except torch.OutOfMemoryError:
            raise
        except (ValueError, TypeError, AssertionError, IndexError, RuntimeError) as error:
            told = " ".join(str(error).split()) or "it refuses this batch"
            raise UserError(f"objective.loss={self.loss}: {told}") from None
        if loss.numel() != 1:
            raise UserError(
                f"objective.reducer leaves {loss.numel()} losses: take one that reduces"
            )
        if not loss.requires_grad:  # no pair was left, and some losses are then a constant 0
            loss = loss + 0 * embeddings.sum()
        scores, self._ranked = _by_anchor(self._parts, loss.detach(), len(labels))
        self._parts.clear()
        return loss.reshape(()), scores

    @staticmethod
    def _of(chosen: Tensor, labels: Tensor) -> pml.Tuples:
        """All pairs whose anchor is chosen."""
        utils = pml.package("utils.loss_and_miner_utils")
        a, p, b, n = utils.get_all_pairs_indices(labels)
        return a[chosen[a]], p[chosen[a]], b[chosen[b]], n[chosen[b]]

    def _outcome(
        self, loss: Tensor, scores: Tensor, weights: Tensor, tuples: pml.Tuples | None
    ) -> Outcome:
        metrics = {"train/loss_batch": loss.detach()}
        if tuples is not None:
            metrics["mining/tuples"] = loss.new_tensor(float(max(map(len, tuples))))
        return Outcome(loss, scores, weights, metrics)

    def after_step(self) -> None:
        """Frees the step's graph, where a loss keeps some of it in what it remembers."""
        for part, name in self._remembered:
            setattr(part, name, getattr(part, name).detach())

    # --- evaluation --------------------------------------------------------------------------

    def evaluate(self, model: nn.Module, split: Split, chunk: int = 2048) -> dict[str, float]:
        """Retrieval on embeddings, by the kind of distance that the loss compares with."""
        from minesweep.evaluation.embed import embed
        from minesweep.evaluation.retrieval import retrieval

        vectors, labels = embed(model, split, chunk=chunk)
        distance = getattr(self.function, "distance", None)
        cosine = distance is None or distance.normalize_embeddings or distance.is_inverted
        return retrieval(self.vectors(vectors), labels, most=self.queries, cosine=bool(cosine))


def _required(loss: type) -> set[str]:
    """Arguments without a default, of the class or of a base that it hands them on to."""
    found: set[str] = set()
    for base in inspect.getmro(loss):
        parameters = inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]
        found |= {p.name for p in parameters if p.default is p.empty}
        if not any(p.kind is p.VAR_POSITIONAL for p in parameters):
            break
    return found


def _by_anchor(parts: list[dict[str, Any]], loss: Tensor, n: int) -> tuple[Tensor, bool]:
    """Mean loss of each anchor, from what PML's reducer is handed."""
    total, count = loss.new_zeros(n), loss.new_zeros(n)
    for info in (info for part in parts for info in part.values()):
        losses, places, kind = info["losses"], info["indices"], info["reduction_type"]
        if kind == "already_reduced" or not isinstance(losses, Tensor):
            continue
        anchors = places if kind == "element" else places[0]
        total.index_add_(0, anchors, losses.detach().to(total.dtype).flatten())
        count.index_add_(0, anchors, torch.ones_like(anchors, dtype=count.dtype))
    if not count.any():
        return loss.reshape(()).expand(n).clone(), False
    return total / count.clamp(min=1), True
