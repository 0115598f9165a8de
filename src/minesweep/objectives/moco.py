"""Momentum contrast: a query against its key and a queue of other images' keys."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from minesweep import parallel
from minesweep.datasets.base import Batch, Data, Split
from minesweep.evaluation.embed import embed
from minesweep.evaluation.missing import NAN, NotComputable, tell
from minesweep.evaluation.probe import (
    Accuracy,
    alignment,
    knn_accuracy,
    linear_probe,
    uniformity,
)
from minesweep.miners.base import Context, Miner, Pool
from minesweep.objectives import contract
from minesweep.objectives.base import Objective, Outcome
from minesweep.objectives.queue import NOBODY, KeyQueue
from minesweep.seeding import generator

CHUNK = 512
"""Images in a forward pass of the evaluation."""
SAMPLE = 1024
"""Training images, at most, whose two views are compared there."""


class Scored(NamedTuple):
    """``[B]`` losses of the queries of one turn, scalars to log, and what is shown beside each."""

    losses: Tensor
    metrics: dict[str, Tensor]
    details: dict[str, Tensor]


class MoCo(Objective):
    """InfoNCE over one positive, the queue, and whatever the miner adds.

    The query encoder is the model; the key encoder is a copy of it that follows it slowly. A
    query's positive is the key of the other view of its image. Entries of its own image in the
    queue are never its negatives. Both outputs are scaled to unit length here, and compared in 32
    bits whatever the precision of the encoders.

    Source: He et al., arXiv 1911.05722, algorithm 1; the mask of the query's own image as in
    davidsvy/hard-negative-mixing.

    Args:
        queue_size: K.
        momentum: m of ``key <- m * key + (1 - m) * query``, after each step.
        temperature: tau; similarities are divided by it.
        symmetric: Whether the second view is a query too, in turn. The loss is the mean of both.
        groups: Into how many groups each process' batch is split; BatchNorm takes the statistics
            of each apart. The keys' groups are shuffled over all processes (section 3.3), so that
            a query cannot know its positive by the statistics they share. With one group in one
            process there is nothing to shuffle.
        knn_k: Votes of the kNN classifier of the evaluation.
        knn_temperature: Of the weights of its votes.
        bank: Training images that the evaluation learns from, at most; None for all.
        linear: Whether a linear classifier is fitted at the end of the run, too.
    """

    candidate = "queue_negative"
    monitor = "val/knn_accuracy"
    evaluates = ("knn_accuracy", "knn_accuracy_balanced", "alignment", "uniformity")
    views = 2
    separable = True

    key: nn.Module
    queue: KeyQueue

    def __init__(
        self,
        queue_size: int = 4096,
        momentum: float = 0.999,
        temperature: float = 0.2,
        symmetric: bool = False,
        groups: int = 1,
        knn_k: int = 20,
        knn_temperature: float = 0.07,
        bank: int | None = None,
        linear: bool = True,
    ) -> None:
        super().__init__()
        self.queue_size, self.momentum, self.temperature = queue_size, momentum, temperature
        self.symmetric, self.groups = symmetric, groups
        self.knn_k, self.knn_temperature = knn_k, knn_temperature
        self.bank, self.linear = bank, linear
        self._seed = 0
        self._followed: list[tuple[Tensor, Tensor]] = []
        self._fresh: list[list[tuple[Tensor, Tensor, Tensor]]] = [[] for _ in range(1 + symmetric)]

    def setup(self, model: nn.Module, pool: Pool, data: Data) -> None:
        """Copies the key encoder from the model, and makes the queue."""
        self.key = copy.deepcopy(model).requires_grad_(False)
        self._followed = list(zip(self.key.parameters(), model.parameters(), strict=True))
        self._shuffles = any(
            isinstance(part, _BatchNorm) and not isinstance(part, nn.SyncBatchNorm)
            for part in model.modules()
        )
        dim = pool.encode(torch.zeros(1, dtype=torch.long, device=pool.device)).shape[1]
        self.queue = KeyQueue(self.queue_size, dim, pool.seed).to(pool.device)
        self._seed, self._data = pool.seed, data
        order = torch.randperm(pool.size, generator=generator(pool.seed, "bank"))
        self._order = order.to(pool.device)

    # --- one step ----------------------------------------------------------------------------

    def forward(self, model: nn.Module, batch: Batch, miner: Miner, step: int) -> Outcome:
        first, second = batch.inputs
        turns = [(first, second), (second, first)] if self.symmetric else [(first, second)]
        found = [
            self._turn(model, turn, images, batch, miner, step) for turn, images in enumerate(turns)
        ]
        losses = torch.stack([scored.losses for scored in found]).mean(0)
        metrics = {
            name: torch.stack([scored.metrics[name] for scored in found]).mean()
            for name in found[0].metrics
        }
        metrics["train/loss_batch"] = losses.detach().mean()
        metrics["mining/queue_filled"] = self.queue.filled / len(self.queue)
        scores = losses.detach()
        weights = {"query": torch.ones_like(scores)}
        return Outcome(losses.mean(), scores, weights, metrics, details=found[0].details)

    def _turn(
        self,
        model: nn.Module,
        turn: int,
        images: tuple[Tensor, Tensor],
        batch: Batch,
        miner: Miner,
        step: int,
    ) -> Scored:
        """One view as the queries, the other as the keys."""
        query = self._embed(model, images[0])
        with torch.no_grad():
            key = self._keys(images[1], step, turn)
        self._fresh[turn].append((key, batch.rows, batch.labels))
        context = Context(
            step=step,
            turn=turn,
            rows=batch.rows,
            labels=batch.labels,
            queue_labels=self.queue.labels,
        )
        with torch.autocast(query.device.type, enabled=False):
            return self._score(query, key, miner, context)

    def _score(self, query: Tensor, key: Tensor, miner: Miner, context: Context) -> Scored:
        positive = (query * key).sum(1)
        negative = query @ self.queue.features.T
        valid = context["rows"][:, None] != self.queue.rows
        context |= Context(valid=valid, positive=positive.detach(), dim=query.shape[1])
        weights, extra = valid.to(query.dtype), None
        if miner.active(context["step"]):
            selected = miner.select(negative.detach(), **context)
            weights = weights * contract.weights(selected, miner, negative)
            left = negative.masked_fill(weights <= 0, -torch.inf)
            extra = miner.extend(query, self.queue.features, left, **context)
        # A weight multiplies its negative's term of the softmax's sum; that of 0 takes it out.
        logits = [positive[:, None] / self.temperature, negative / self.temperature + weights.log()]
        if extra is not None:
            logits.append(extra / self.temperature)
        losses = torch.cat(logits, 1).logsumexp(1) - logits[0].squeeze(1)
        with torch.no_grad():
            metrics = self._metrics(negative, weights, context)
            share = losses.new_zeros(len(losses))
            if extra is not None:
                share = (logits[2].logsumexp(1) - logits[0].squeeze(1) - losses).exp()
            metrics["mining/synthetic_softmax_share"] = share.mean()
            hardest, place = negative.masked_fill(weights <= 0, -torch.inf).max(1)
            details = {
                "row/negative": self.queue.rows[place],
                "positive_similarity": positive.detach(),
                "negative_similarity": hardest,
            }
        return Scored(losses, metrics, details)

    def _metrics(self, negative: Tensor, weights: Tensor, context: Context) -> dict[str, Tensor]:
        """What the queue holds for the queries; mixes are never among the classes counted here.

        A negative as similar as the positive counts against it. So collapsed embeddings have an
        accuracy of 0 and not of 1.
        """
        positive, valid = context["positive"], context["valid"]
        rank = 1 + ((negative >= positive[:, None]) & valid).sum(1)
        written = (weights > 0) & (self.queue.rows != NOBODY)
        same = context["labels"][:, None] == self.queue.labels
        return {
            "train/positive_rank": rank.double().mean(),
            "train/pretext_accuracy": (rank == 1).double().mean(),
            "train/pretext_accuracy_5": (rank <= 5).double().mean(),
            "train/positive_similarity": positive.mean(),
            "mining/false_negative_share": (same & written).sum() / written.sum(),
        }

    def vectors(self, outputs: Tensor) -> Tensor:
        """Unit vectors, in 32 bits."""
        return functional.normalize(outputs.float(), dim=1)

    def _embed(self, encoder: nn.Module, images: Tensor) -> Tensor:
        """``[B, dim]`` unit vectors; BatchNorm sees one group at a time."""
        return self.vectors(torch.cat([encoder(group) for group in images.chunk(self.groups)]))

    def _keys(self, images: Tensor, step: int, turn: int = 0) -> Tensor:
        """Keys of ``[B, ...]`` images, their groups shuffled over all processes."""
        if not self._shuffles or self.groups * parallel.processes() == 1:
            return self._embed(self.key, images)
        draws = generator(self._seed, f"shuffle/{step}/{turn}/{len(self._fresh[turn])}")
        everybodys = parallel.all_gather(images)
        order = torch.randperm(len(everybodys), generator=draws).to(images.device)
        keys = self._embed(self.key, parallel.shard(everybodys[order]))
        return parallel.shard(parallel.all_gather(keys)[order.argsort()])

    @torch.no_grad()
    def after_step(self) -> None:
        """The step's keys of all processes enter the queue; the key encoder follows the model."""
        for turn in self._fresh:
            # In the order of the whole batch, however it was divided.
            self.queue.push(*(parallel.all_gather(torch.cat(p)) for p in zip(*turn, strict=True)))
            turn.clear()
        keys, queries = (list(side) for side in zip(*self._followed, strict=True))
        torch._foreach_lerp_(keys, queries, 1 - self.momentum)

    # --- evaluation --------------------------------------------------------------------------

    def validate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """What frozen features tell of the classes, and how they lie on the sphere.

        ``knn_accuracy`` and ``knn_accuracy_balanced`` (over classes) are of the features below
        the projection head. ``alignment`` and ``uniformity`` are measured above the head, where the
        loss compares, on two views of up to 1,024 training images.
        """
        votes = self._votes(self._bank(model), embed(model, split, chunk=CHUNK))
        sample = self._data.train.draw(self._order[:SAMPLE], step=0).inputs
        one, other = (
            self.vectors(torch.cat([model(part) for part in view.split(CHUNK)])) for view in sample
        )
        return {
            "knn_accuracy": votes.plain,
            "knn_accuracy_balanced": votes.balanced,
            "alignment": alignment(one, other),
            "uniformity": uniformity(one),
        }

    def evaluate(self, model: nn.Module, split: Split, chunk: int = CHUNK) -> dict[str, float]:
        """The kNN accuracies, and with ``linear`` those of a linear classifier.

        Its regularisation is chosen on the validation split.
        """
        bank, held_out = self._bank(model), embed(model, split, chunk=chunk)
        votes = self._votes(bank, held_out)
        found = {"knn_accuracy": votes.plain, "knn_accuracy_balanced": votes.balanced}
        if self.linear:
            val = embed(model, self._data.val, chunk=chunk)
            right = _or_missing(lambda: linear_probe(*bank, *val).accuracy(*held_out))
            found |= {"linear_accuracy": right.plain, "linear_accuracy_balanced": right.balanced}
        return found

    def _votes(self, bank: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor]) -> Accuracy:
        k, t = self.knn_k, self.knn_temperature
        return _or_missing(lambda: knn_accuracy(*bank, *held_out, k, t))

    def _bank(self, model: nn.Module) -> tuple[Tensor, Tensor]:
        """Features and labels of the training images that the evaluation learns from."""
        rows = self._order[: self.bank].sort().values
        return embed(model, self._data.train, rows, CHUNK)


def _or_missing(classify: Callable[[], Accuracy]) -> Accuracy:
    """The accuracies of a classifier; NaN, and a warning, where they cannot be computed."""
    try:
        return classify()
    except NotComputable as error:
        tell(f"an accuracy is missing: {error}")
        return Accuracy(NAN, NAN)
