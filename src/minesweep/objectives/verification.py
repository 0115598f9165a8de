"""Verification: do two examples belong together? Scored by cosine, judged at a threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from minesweep.datasets.base import Split
from minesweep.datasets.pairs import SentencePairs
from minesweep.errors import UserError
from minesweep.evaluation.missing import NAN, tell
from minesweep.evaluation.sample import draw_rows


@dataclass(frozen=True)
class Verification:
    """The similarities of m pairs, and whether each pair belongs together.

    Its metrics are NaN where all pairs are of one kind.

    Attributes:
        similarity: ``[m]`` cosines.
        same: ``[m]`` bool, whether the two belong together.

    Raises:
        UserError: A similarity is not finite.
    """

    similarity: np.ndarray
    same: np.ndarray

    def __post_init__(self) -> None:
        if wrong := int((~np.isfinite(self.similarity)).sum()):
            raise UserError(
                f"{wrong} of {len(self.same)} pairs have a similarity that is not finite: the "
                "embeddings hold NaN or infinity; try a lower optimizer.lr"
            )

    @property
    def both(self) -> bool:
        """Whether there are pairs of both kinds."""
        return 0 < self.same.sum() < len(self.same)

    def ranking(self) -> dict[str, float]:
        """Metrics of the pairs' order; chance gives 0.5 and the share of positives."""
        from sklearn.metrics import average_precision_score, roc_auc_score

        if not self.both:
            return {"roc_auc": NAN, "average_precision": NAN}
        return {
            "roc_auc": float(roc_auc_score(self.same, self.similarity)),
            "average_precision": float(average_precision_score(self.same, self.similarity)),
        }

    def at(self, threshold: float) -> dict[str, float]:
        """Accuracy and F1 where a larger cosine than ``threshold`` means the same."""
        if not self.both:
            return {"accuracy": NAN, "f1": NAN}
        said = self.similarity > threshold
        hits = float((said & self.same).sum())
        return {
            "accuracy": float((said == self.same).mean()),
            "f1": 2 * hits / max(1.0, float(said.sum() + self.same.sum())),
        }

    def by_source(self, split: Split) -> dict[str, Verification]:
        """The sources of a split of several, those that have pairs of both kinds."""
        if not isinstance(split, SentencePairs) or len(split.sources) < 2:
            return {}
        parts = {
            name: Verification(self.similarity[rows], self.same[rows])
            for name, rows in split.sources.items()
        }
        return {name: part for name, part in parts.items() if part.both}


def best_threshold(found: Verification) -> float:
    """The threshold of the highest accuracy, halfway between two cosines; of equals the lowest."""
    order = np.argsort(found.similarity, kind="stable")
    values, same = found.similarity[order], found.same[order]
    # Behind place i: the i smallest are called different.
    below = np.concatenate([[0], np.cumsum(~same) - np.cumsum(same)])
    right = below + same.sum()
    apart = np.concatenate([[True], values[1:] > values[:-1], [True]])
    place = int(np.argmax(np.where(apart, right, -1)))
    # The ends lie beyond all cosines, also one of exactly -1.
    edges = np.concatenate([[min(-1.0, values[0] - 1e-6)], values, [max(1.0, values[-1])]])
    return float((edges[place] + edges[place + 1]) / 2)


def verification(
    model: nn.Module, split: Split, chunk: int, most: int, seed: int = 0
) -> Verification:
    """Cosines of the pairs of a split.

    Args:
        model: Gives ``[n, dim]`` embeddings.
        split: Sentence pairs, or labelled examples: then all pairs of some of them.
        chunk: Sentences in a forward pass.
        most: Labelled examples at most; drawn from the whole split, see
            :func:`~minesweep.evaluation.sample.draw_rows`.
        seed: Of the run; decides which are drawn.
    """
    if isinstance(split, SentencePairs):
        order = split.sentences.lengths.argsort(stable=True)
        parts = [model(split.sentences[rows]) for rows in order.split(chunk)]
        units = functional.normalize(torch.cat(parts)[order.argsort()], dim=1)
        first, second = split.inputs.T
        similarity, same = (units[first] * units[second]).sum(1), split.labels == 1
    else:
        rows = draw_rows(split.labels, most, seed, "verification")
        units = functional.normalize(model(split.fetch(rows).inputs), dim=1)
        first, second = torch.triu_indices(len(rows), len(rows), 1, device=split.device)
        similarity = (units @ units.T)[first, second]
        same = split.labels[rows][first] == split.labels[rows][second]
    found = Verification(similarity.double().cpu().numpy(), same.cpu().numpy())
    if not found.both:
        tell(
            f"no verification metrics: they need pairs of both kinds, and all {len(found.same)} "
            "pairs are of one (or there are none)"
        )
    return found
