"""The triplet loss over the negatives in a batch."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from minesweep.datasets.base import Batch, Data, Split
from minesweep.errors import UserError
from minesweep.evaluation.missing import NAN
from minesweep.miners.base import Context, Miner, Pool
from minesweep.miners.in_batch import HARD, MEAN, even
from minesweep.objectives import contract
from minesweep.objectives.base import Objective, Outcome
from minesweep.objectives.mined import Mined, hardest_negatives
from minesweep.objectives.terms import Similarities, Term
from minesweep.objectives.verification import Verification, best_threshold, verification
from minesweep.words import check_word

log = logging.getLogger(__name__)

POSITIVES = ("given", "hardest", "drawn")
REDUCTIONS = ("mean", "sum")
DIRECTIONS = ("first", "both")
ALARM, NEARLY = 50, 0.01
"""Say so when the loss was within 1 % of the plateau for so many steps in a row."""
MOST_VERIFIED = 1000
"""Examples, drawn from a labelled split, of which all pairs are verified."""


class Triplet(Objective):
    """Pulls an anchor to its positive, pushes it from its negatives in the batch, by cosine.

    There are two kinds of batches. Of *pairs* the model gives 2n vectors for n labels: n anchors,
    then their n positives. Of *labelled examples* each is an anchor, and those of its label are its
    possible positives. Candidates of the anchor's own label are never its negatives.

    Args:
        terms: Loss terms by name, see :mod:`minesweep.objectives.terms`. The loss of an anchor is
            their weighted sum: FaceNet's, or that of the assignment C3_W4 of DeepLearning.AI.
        reduction: ``mean`` or ``sum`` over the anchors.
        directions: ``first``: the first of each pair is the anchor. ``both``: the second is an
            anchor, too, and the loss is over twice as many anchors.
        positive: ``given`` (pairs), or among the anchor's label ``hardest`` or ``drawn``.
        threshold: Pairs of a larger cosine are the same to ``accuracy_fixed`` and ``f1_fixed``.
    """

    candidate = "batch_negative"
    monitor = "val/roc_auc"
    evaluates = (
        *("roc_auc", "average_precision", "threshold"),
        *("accuracy", "f1", "accuracy_fixed", "f1_fixed"),
    )
    chosen: Tensor
    flat: Tensor

    def __init__(
        self,
        terms: Mapping[str, Term],
        reduction: str = "mean",
        directions: str = "first",
        positive: str = "given",
        threshold: float = 0.7,
    ) -> None:
        super().__init__()
        self.terms = {name: term for name, term in terms.items() if term is not None}
        self.reduction = check_word("objective.reduction", reduction, REDUCTIONS)
        self.directions = check_word("objective.directions", directions, DIRECTIONS)
        self.positive = check_word("objective.positive", positive, POSITIVES)
        self.threshold = threshold
        # The threshold chosen on validation data, and for how many steps the loss was flat.
        self.register_buffer("chosen", torch.tensor(threshold, dtype=torch.double))
        self.register_buffer("flat", torch.zeros((), dtype=torch.long))
        self._seed = 0

    def setup(self, model: nn.Module, pool: Pool, data: Data) -> None:
        self._seed = pool.seed

    def forward(self, model: nn.Module, batch: Batch, miner: Miner, step: int) -> Outcome:
        anchors, others = _towers(model(batch.inputs), len(batch.labels))
        scores = anchors @ others.T
        same = batch.labels[:, None] == batch.labels
        if self.positive == "given":
            if anchors is others:
                raise UserError(
                    "objective.positive=given needs a dataset of pairs; choose hardest or drawn"
                )
            positives = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        else:
            positives = same.clone().fill_diagonal_(anchors is not others)
        if self.directions == "both":
            scores, same = torch.cat([scores, scores.T]), torch.cat([same, same.T])
            positives = torch.cat([positives, positives.T])
        positive, place = self._positive(scores, positives, miner, step)
        context = Context(step=step, valid=~same, positive=positive.detach(), dim=anchors.shape[1])
        weights = _weights(miner, scores.detach(), context)
        losses = self.losses(Similarities(scores, positive, ~same, weights))
        # An anchor without a positive in the batch learns nothing.
        anchored = positives.any(1)
        each = torch.stack([term.weight * losses[name] for name, term in self.terms.items()]).sum(0)
        total = (each * anchored).sum()
        loss = total if self.reduction == "sum" else total / anchored.sum().clamp(min=1)
        with torch.no_grad():
            metrics = self._metrics(scores, positive, ~same, weights, losses, anchored)
            self._watch(metrics["train/loss_batch"])
            details = {
                "positive": positive.masked_fill(~anchored, torch.nan).detach(),
                "place": place,
                "valid": ~same,
                "pairs": torch.tensor(anchors is not others),
            }
        return Outcome(loss, scores.detach(), weights, metrics, details=details)

    def mined(self, batch: Batch, outcome: Outcome, most: int) -> Mined:
        """Anchor, positive and hard negative where the negative is nearest, compared to it."""
        assert isinstance(outcome.weights, Mapping)
        weights = outcome.weights.get(HARD, next(iter(outcome.weights.values())))
        details, n = outcome.details, len(batch.labels)
        scores = outcome.scores.masked_fill(~details["valid"], -torch.inf)
        anchor, column, values = hardest_negatives(scores, details["positive"], weights, most)
        places = {"anchor": anchor % n, "positive": details["place"][anchor], "negative": column}
        rows = {role: batch.rows[place] for role, place in places.items()}
        if not details["pairs"]:
            return Mined(len(scores), rows, values | {"label": batch.labels[anchor % n]})
        # In the second direction the second sentence is the anchor, and is compared with firsts.
        turned = (anchor >= n).long()
        parts = {"anchor": turned, "positive": 1 - turned, "negative": 1 - turned}
        return Mined(len(scores), rows, values, parts)

    def losses(self, similarities: Similarities) -> dict[str, Tensor]:
        """``[B]`` losses of each term, without its weight."""
        return {name: term(similarities) for name, term in self.terms.items()}

    def _positive(
        self, scores: Tensor, positives: Tensor, miner: Miner, step: int
    ) -> tuple[Tensor, Tensor]:
        """``[B]`` similarity of the one positive of each anchor (0 for an anchor without any),
        and its column."""
        if self.positive == "drawn":
            draw = torch.rand(scores.shape, generator=miner.generator(step, purpose="positive"))
            order = draw.to(scores.device)
        else:
            order = -scores.detach()
        place = torch.where(positives, order, -torch.inf).argmax(1, keepdim=True)
        similarity = (scores.gather(1, place) * positives.gather(1, place)).squeeze(1)
        return similarity, place.squeeze(1)

    def _metrics(
        self,
        scores: Tensor,
        positive: Tensor,
        valid: Tensor,
        weights: Mapping[str, Tensor],
        losses: Mapping[str, Tensor],
        anchored: Tensor,
    ) -> dict[str, Tensor]:
        count = anchored.sum().clamp(min=1)
        means = {name: (loss * anchored).sum() / count for name, loss in losses.items()}
        total = torch.stack([t.weight * means[name] for name, t in self.terms.items()]).sum()
        metrics = {f"train/loss_{name}": mean for name, mean in means.items()}
        closest, place = torch.where(valid, scores, -torch.inf).max(1)
        metrics |= {
            "train/loss_batch": total,
            "train/positive_similarity": (positive * anchored).sum() / count,
            "train/negative_similarity": (scores * even(valid, scores.dtype)).sum(1).mean(),
            "mining/violated_share": ((closest > positive) & anchored).sum() / count,
        }
        if HARD in weights:
            unseen = weights[HARD].gather(1, place[:, None]).squeeze(1) == 0
            hides = unseen & (closest > -torch.inf) & anchored
            metrics["mining/hidden_share"] = hides.sum() / count
        return metrics

    def _watch(self, loss: Tensor) -> None:
        """The alarm: where all similarities are equal, an anchor's loss is the sum of margins."""
        plateau = sum(term.weight * getattr(term, "margin", 0.0) for term in self.terms.values())
        flat = bool((loss - plateau).abs() <= NEARLY * plateau)
        self.flat += 1
        self.flat *= flat
        if self.flat == ALARM:
            log.warning(
                "the loss of an anchor has stayed at %.4g, the sum of the margins, for %d steps: "
                "all embeddings may have collapsed to one point; a lower optimizer.lr, a longer "
                "scheduler.warmup or miner.mask=harder_than_positive can help",
                plateau,
                ALARM,
            )

    # --- evaluation --------------------------------------------------------------------------

    def evaluate(self, model: nn.Module, split: Split, chunk: int = 2048) -> dict[str, float]:
        """``roc_auc``, ``average_precision``, and ``accuracy`` and ``f1`` at two thresholds.

        All are NaN where all pairs are of one kind. ``accuracy`` and ``f1`` are at the threshold
        chosen on validation data, ``accuracy_fixed`` and ``f1_fixed`` at the one of the
        configuration. A split of several sources has all of
        them for each source too: ``first10k/roc_auc``.
        """
        found = verification(model, split, chunk, MOST_VERIFIED, self._seed)
        metrics = self._verify(found)
        for source, part in found.by_source(split).items():
            metrics |= {f"{source}/{name}": value for name, value in self._verify(part).items()}
        return metrics

    def validate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """:meth:`evaluate`, after choosing the threshold of the best accuracy on this split."""
        found = verification(model, split, 2048, MOST_VERIFIED, self._seed)
        if not found.both:
            return self._verify(found) | {"threshold": NAN}
        self.chosen.fill_(best_threshold(found))
        return self._verify(found) | {"threshold": self.chosen.item()}

    def _verify(self, found: Verification) -> dict[str, float]:
        fixed = {f"{name}_fixed": value for name, value in found.at(self.threshold).items()}
        return found.ranking() | found.at(self.chosen.item()) | fixed


def _weights(miner: Miner, scores: Tensor, context: Context) -> Mapping[str, Tensor]:
    if not miner.active(context["step"]):
        everything = even(context["valid"], scores.dtype)
        return {MEAN: everything, HARD: everything}
    return contract.named_weights(miner.select(scores, **context), miner, scores)


def _towers(embeddings: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Unit vectors of the anchors and of what they are compared with: themselves, if labelled."""
    unit = functional.normalize(embeddings, dim=1)
    if len(unit) == count:
        return unit, unit
    first, second = unit.chunk(2)
    return first, second
