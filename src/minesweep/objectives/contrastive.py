"""The contrastive loss over pairs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from minesweep.datasets.base import Batch, Data, Split
from minesweep.errors import UserError
from minesweep.evaluation.sample import draw_rows
from minesweep.miners.base import Miner, Pool
from minesweep.objectives.alarms import Alarms
from minesweep.objectives.base import Outcome, RowObjective
from minesweep.objectives.margins import DISTANCES, Margin, largest_feasible, to_euclidean
from minesweep.words import check_word

if TYPE_CHECKING:
    from rich.console import RenderableType

log = logging.getLogger(__name__)

PLATEAU, IDLE, VIOLATED, UNMET = "plateau", "idle", "violated", "unmet"
LONG = 50
"""Steps in a row after which an alarm is logged."""
NEARLY = 0.01
"""The loss is at the plateau where it is within 1 % of it."""
TOO_MANY = 0.1
"""Of negatives inside the margin, where no pair of the batch pushes them out."""
LOOKED_AT = 400
"""Rows whose distances are looked at before training."""
UNIT = 1e-3
"""Vectors whose lengths are all this close to 1 lie on the unit sphere."""
TOLD = {
    PLATEAU: (
        "the loss has stayed at %(loss).4g for %(steps)d steps, the share of negative pairs times "
        "margin^power: seen from a margin of %(margin).4g all points coincide; a smaller "
        "objective.margin, objective.margin_policy=relative or a larger optimizer.lr can help"
    ),
    IDLE: (
        "no pair has had a loss above 0 for %(steps)d steps (margin %(margin).4g): nothing is left "
        "to learn from; a larger objective.margin or miner=knn can help"
    ),
    VIOLATED: (
        "%(inside).0f %% of the negatives are inside the margin of %(margin).4g, and for %(steps)d "
        "steps no negative pair was proposed that would push them out: miner.positives below 1 "
        "keeps a share of negatives"
    ),
    UNMET: (
        "a margin of %(margin).4g cannot be met: on the unit sphere these classes can be at most "
        "%(largest).4g apart from each other; a smaller objective.margin lets pairs come to rest"
    ),
}


class Contrastive(RowObjective):
    """Pulls pairs of one class together, pushes the others out to a margin.

    The loss of a pair at distance d is ``max(0, d - positive_margin)^power`` where its rows are
    of one class and ``max(0, margin - d)^power`` where they are not.

    ``distance=euclidean power=2`` is the loss of Hadsell et al. (CVPR 2006, eq. 4) without its
    factor 1/2. ``distance=squared_euclidean power=2 margin=50`` is that of
    yuhongsun96/Hard-Negative-Mining-with-LSH-KNN: d^4 and (50 - d^2)^2, a Euclidean margin of 7.07.
    ``distance=euclidean normalize=true power=1`` is the ContrastiveLoss of pytorch-metric-learning.

    Args:
        margin: m, above 0, in units of ``distance``; what it means is said by ``margin_policy``.
        distance: ``euclidean``, ``squared_euclidean``, or ``cosine`` (1 - cos, in [0, 2]).
        normalize: Whether the model's outputs are scaled to unit length first.
        power: At least 1.
        positive_margin: Positive pairs that are closer cost nothing; at least 0.
        margin_policy: See :class:`~minesweep.objectives.margins.Margin`, as for the next three.
        margin_quantile: Of the policy ``relative``.
        margin_end: Of the policy ``scheduled``.
        margin_steps: Of the policy ``scheduled``.
        queries: Rows of a held-out split at most that are compared with all others; None for all.
        reduction: See :class:`~minesweep.objectives.base.RowObjective`.
    """

    candidate = "pair"
    monitor = "val/mean_average_precision_at_r"
    evaluates = (
        *("precision_at_1", "r_precision", "mean_average_precision_at_r", "nmi"),
        *("recall_at_1", "recall_at_5", "recall_at_10"),
        *("intra/mean", "intra/max", "inter/min", "inter/mean", "violated_share"),
    )
    last: Tensor
    largest: Tensor

    def __init__(
        self,
        margin: float = 1.0,
        distance: str = "euclidean",
        normalize: bool = False,
        power: float = 2.0,
        positive_margin: float = 0.0,
        margin_policy: str = "fixed",
        margin_quantile: float = 0.5,
        margin_end: float | None = None,
        margin_steps: int | None = None,
        queries: int | None = 2000,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self.distance = check_word("objective.distance", distance, DISTANCES)
        self.normalize = normalize or distance == "cosine"
        if not power >= 1:
            raise UserError(f"objective.power={power} must be at least 1")
        if not positive_margin >= 0:
            raise UserError(f"objective.positive_margin={positive_margin} must be at least 0")
        self.power, self.positive_margin = power, positive_margin
        squared = distance == "squared_euclidean"
        self.margin = Margin(
            margin, margin_policy, margin_quantile, margin_end, margin_steps, squared
        )
        # The margin of the step before; and the largest that can be met, on the unit sphere.
        self.register_buffer("last", torch.tensor(torch.nan))
        self.register_buffer("largest", torch.tensor(torch.nan))
        self.queries = queries
        self.alarms = Alarms({PLATEAU: LONG, IDLE: LONG, VIOLATED: LONG, UNMET: 1})
        self._step, self._count, self._seed = 0, 0, 0

    def setup(self, model: nn.Module, pool: Pool, data: Data) -> None:
        super().setup(model, pool, data)
        vectors = pool.encode(torch.zeros(1, dtype=torch.long, device=pool.device))
        if len(vectors) != 1:
            raise _not_single(len(vectors), "one example")
        self._count, self._seed = len(pool.labels.unique()), pool.seed

    def vectors(self, outputs: Tensor) -> Tensor:
        """What distances are measured between: the outputs, or their unit vectors."""
        outputs = outputs.float()
        return functional.normalize(outputs, dim=1) if self.normalize else outputs

    def between(self, first: Tensor, second: Tensor) -> Tensor:
        """Distances of vectors ``[..., dim]``; the gradient is 0 where two are equal."""
        if self.distance == "cosine":
            return (1 - (first * second).sum(-1)).clamp(min=0)
        squared = (first - second).square().sum(-1)
        if self.distance == "squared_euclidean":
            return squared
        # The square root has no derivative at 0; a pair that coincides has no direction to go.
        apart = squared > 0
        return torch.where(apart, squared, 1.0).sqrt() * apart

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """``[n]`` losses of pairs.

        Args:
            outputs: ``[2n, dim]``, first and second of each pair in turn.
            labels: ``[n, 2]``.
        """
        distances, same = self._measure(outputs, labels)
        margin = self._margin(distances.detach()[~same], outputs.shape[1])
        return self._losses(distances, same, margin)

    def _losses(self, distances: Tensor, same: Tensor, margin: Tensor) -> Tensor:
        pull = (distances - self.positive_margin).clamp(min=0)
        push = (margin - distances).clamp(min=0)
        return torch.where(same, pull, push) ** self.power

    def forward(self, model: nn.Module, batch: Batch, miner: Miner, step: int) -> Outcome:
        self._step = step
        return super().forward(model, batch, miner, step)

    def _measure(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if labels.ndim != 2 or len(outputs) != labels.numel():
            raise _not_single(len(outputs), f"labels of shape {list(labels.shape)}")
        first, second = self.vectors(outputs).unflatten(0, (-1, 2)).unbind(1)
        return self.between(first, second), labels[:, 0] == labels[:, 1]

    def _margin(self, negatives: Tensor, dim: int) -> Tensor:
        return self.margin(self._step, dim, negatives, self.last)

    # --- what is told ------------------------------------------------------------------------

    def metrics(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        distances, same = self._measure(outputs, labels)
        margin = self._margin(distances[~same], outputs.shape[1])
        losses = self._losses(distances, same, margin)
        self.last = self.margin.following(distances[~same], margin)
        if self._step == 0 and self._on_sphere(outputs):
            self.largest.fill_(largest_feasible(self._classes(labels), self.distance))
        negatives = (~same).double().mean()
        found = {
            "train/positive_distance": distances[same].mean(),
            "train/negative_distance": distances[~same].mean(),
            "train/positive_share": 1 - negatives,
            "train/active_share": (losses > 0).double().mean(),
            "train/margin": margin,
            "train/largest_margin": self.largest,
            "train/plateau_ratio": losses.double().mean() / (negatives * margin**self.power),
            "mining/negatives_inside_margin": self._inside(outputs, labels, margin),
        }
        self._watch(found, losses.mean(), negatives == 0)
        return found

    def details(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"distance": self._measure(outputs, labels)[0]}

    def _inside(self, outputs: Tensor, labels: Tensor, margin: Tensor) -> Tensor:
        """Share of negatives inside the margin, whatever was mined.

        It compares the first row of each pair with the second row of the next. These random pairs
        are scored anyway, and give negatives even if all pairs of the batch are positive.
        """
        first, second = self.vectors(outputs).unflatten(0, (-1, 2)).unbind(1)
        other = labels[:, 0] != labels[:, 1].roll(-1)
        return (self.between(first, second.roll(-1, 0)) < margin)[other].double().mean()

    def _on_sphere(self, outputs: Tensor) -> bool:
        return bool((self.vectors(outputs).norm(dim=1) - 1).abs().max() <= UNIT)

    def _classes(self, labels: Tensor) -> int:
        return self._count or len(labels.unique())

    def _watch(self, found: dict[str, Tensor], loss: Tensor, no_negatives: Tensor) -> None:
        inside, margin = found["mining/negatives_inside_margin"], found["train/margin"]
        conditions = [
            (found["train/plateau_ratio"] - 1).abs() <= NEARLY,
            found["train/active_share"] == 0,
            no_negatives & (inside > TOO_MANY),
            margin > self.largest,
        ]
        for name in self.alarms.watch(torch.stack(conditions)):
            numbers = {"loss": loss, "margin": margin, "inside": inside, "largest": self.largest}
            told = {key: value.item() for key, value in numbers.items()}
            log.warning(TOLD[name], {**told, "inside": 100 * told["inside"], "steps": LONG})

    def preflight(self, model: nn.Module, split: Split) -> RenderableType | None:
        """A table of the present distances; warns of a margin that cannot work."""
        from minesweep.objectives.preflight import preflight

        batch = split.fetch(draw_rows(split.labels, LOOKED_AT, self._seed, "preflight"))
        outputs = model(batch.inputs)
        vectors = self.vectors(outputs)
        apart = self.between(vectors[:, None], vectors)
        margin = self._margin(apart[batch.labels[:, None] != batch.labels], outputs.shape[1]).item()
        bounded = self._on_sphere(outputs)
        high = largest_feasible(self._classes(batch.labels), self.distance) if bounded else None
        found = preflight(apart, batch.labels, margin, high)
        if found is None:
            return None
        if found.warning:
            log.warning(found.warning)
        return found.table(self.distance)

    # --- evaluation --------------------------------------------------------------------------

    def evaluate(self, model: nn.Module, split: Split, chunk: int = 2048) -> dict[str, float]:
        """Retrieval on embeddings, and Euclidean distances between what the loss compares.

        A model with a projection head gives its embeddings before it, and compares its outputs.
        """
        from minesweep.evaluation.embed import embed
        from minesweep.evaluation.retrieval import distances, retrieval

        vectors, labels = embed(model, split, chunk=chunk)
        rows = torch.arange(len(split), device=split.device).split(chunk)
        compared = torch.cat([self.vectors(model(split.fetch(part).inputs)) for part in rows])
        margin = self._margin(compared.new_zeros(0), compared.shape[1]).item()
        cosine = self.distance == "cosine"
        margin = to_euclidean(margin, self.distance)
        apart = distances(compared, labels, margin, most=self.queries, cosine=cosine)
        found = retrieval(self.vectors(vectors), labels, most=self.queries, cosine=cosine)
        return found | apart


def _not_single(outputs: int, of: str) -> UserError:
    return UserError(
        f"objective=contrastive scores pairs of single examples, and got {outputs} outputs for "
        f"{of}: a dataset whose examples are pairs already is for objective=triplet"
    )
