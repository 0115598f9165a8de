"""How much do frozen features tell about classes that the training never saw?

A k-nearest-neighbours and a linear classifier compare self-supervised encoders. Alignment and
uniformity are the two properties on the sphere that contrastive losses optimise.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from minesweep.errors import UserError
from minesweep.evaluation.missing import NAN, NotComputable

BLOCK = 2**24
"""Similarities that are held at once."""
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse strengths of the probe's regularisation that are tried, the strongest first."""


class Accuracy(NamedTuple):
    """Attributes:
    plain: Share of the examples that are classified rightly.
    balanced: The same of each class, averaged over the classes that have examples.
    """

    plain: float
    balanced: float


def accuracy(predicted: Tensor, labels: Tensor) -> Accuracy:
    """Of ``[n]`` predicted class indices."""
    right = (predicted == labels).double()
    classes, places = labels.unique(return_inverse=True)
    counts = torch.zeros(len(classes), dtype=torch.double, device=labels.device)
    hits = counts.index_add(0, places, right)
    counts = counts.index_add(0, places, torch.ones_like(right))
    return Accuracy(right.mean().item(), (hits / counts).mean().item())


@torch.no_grad()
def knn_accuracy(
    train: Tensor,
    train_labels: Tensor,
    test: Tensor,
    test_labels: Tensor,
    k: int = 200,
    temperature: float = 0.07,
) -> Accuracy:
    """A vote of the k nearest training features by cosine, each of weight exp(cosine / t).

    Wu et al., "Unsupervised feature learning via non-parametric instance discrimination"
    (arXiv 1805.01978, section 3.4), as MoCo and its successors use it.

    Args:
        train: ``[N, dim]`` features; their length does not matter.
        train_labels: ``[N]`` class indices.
        test: ``[n, dim]``.
        test_labels: ``[n]``.
        k: Votes; all N where there are fewer.
        temperature: t.

    Raises:
        NotComputable: There is no class to choose between, or nothing to classify.
        UserError: A feature is not finite.
    """
    _check("a kNN classifier", train, train_labels, test)
    bank = functional.normalize(train.float(), dim=1)
    classes = int(max(train_labels.max(), test_labels.max())) + 1
    predicted = []
    for queries in test.split(max(1, BLOCK // len(bank))):
        cosines = _products(functional.normalize(queries.float(), dim=1), bank)
        nearest, rows = cosines.topk(min(k, len(bank)), dim=1)
        # Relative to the nearest: exp(1 / t) overflows where t is small.
        weights = ((nearest - nearest[:, :1]) / temperature).exp()
        votes = weights.new_zeros(len(queries), classes)
        predicted.append(votes.scatter_add_(1, train_labels[rows], weights).argmax(1))
    return accuracy(torch.cat(predicted), test_labels)


@dataclass(frozen=True)
class LinearProbe:
    """A linear classifier on frozen features, as :func:`linear_probe` fits it.

    Attributes:
        mean: ``[dim]`` of the training features.
        deviation: ``[dim]`` of them, 1 where a feature is constant.
        classifier: scikit-learn's, on standardised features.
        strength: The inverse strength of the regularisation that was chosen.
    """

    mean: Tensor
    deviation: Tensor
    classifier: Any
    strength: float

    def predict(self, features: Tensor) -> Tensor:
        """``[n]`` class indices of ``[n, dim]`` features."""
        inputs = ((features.float() - self.mean) / self.deviation).cpu().numpy()
        return torch.from_numpy(self.classifier.predict(inputs)).to(features.device)

    def accuracy(self, features: Tensor, labels: Tensor) -> Accuracy:
        return accuracy(self.predict(features), labels)


@torch.no_grad()
def linear_probe(
    train: Tensor,
    train_labels: Tensor,
    val: Tensor,
    val_labels: Tensor,
    strengths: Sequence[float] = STRENGTHS,
    iterations: int = 100,
) -> LinearProbe:
    """Fits a multinomial logistic regression, its regularisation chosen on validation data.

    Features are standardised by the training ones. Each strength starts from the solution of
    the one before it, from strong to weak; of equally good ones the strongest is taken.

    Args:
        train: ``[N, dim]``.
        train_labels: ``[N]`` class indices, of two classes at least.
        val: ``[n, dim]``: what the strength is chosen on, by plain accuracy.
        val_labels: ``[n]``.
        strengths: scikit-learn's C.
        iterations: Of L-BFGS for each strength, at most.

    Raises:
        NotComputable: There is no class to choose between, or no validation data.
        UserError: A feature is not finite.
    """
    _check("a linear classifier", train, train_labels, val)
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    deviation, mean = torch.std_mean(train.float(), dim=0, correction=0)
    deviation = torch.where(deviation > 1e-6, deviation, 1.0)
    inputs = ((train.float() - mean) / deviation).cpu().numpy()
    targets = train_labels.cpu().numpy()
    best: tuple[float, LinearProbe] | None = None
    start: dict[str, Any] = {}
    for strength in sorted(strengths):
        classifier = LogisticRegression(C=strength, max_iter=iterations, warm_start=True)
        vars(classifier).update(start)
        with warnings.catch_warnings():
            # A probe that stops early is a little more regularised, which validation judges.
            warnings.simplefilter("ignore", ConvergenceWarning)
            classifier.fit(inputs, targets)
        start = {"coef_": classifier.coef_, "intercept_": classifier.intercept_}
        probe = LinearProbe(mean, deviation, classifier, strength)
        found = probe.accuracy(val, val_labels).plain
        if best is None or found > best[0]:
            best = found, probe
    assert best is not None
    return best[1]


def alignment(first: Tensor, second: Tensor) -> float:
    """Mean squared distance of the two views of an image, on the unit sphere; 0 is best.

    Wang and Isola (arXiv 2005.10242, section 4.1.1, alpha = 2).

    Args:
        first: ``[n, dim]`` features; their length does not matter.
        second: ``[n, dim]`` of the same images.
    """
    one, other = (functional.normalize(side.float(), dim=1) for side in (first, second))
    squares = (one - other).square().sum(1)
    # A zero vector has cosine 0 with all others, and so a squared distance of 2.
    short = torch.minimum(one.norm(dim=1), other.norm(dim=1)) < 0.5
    squares = torch.where(short, 2 - 2 * (one * other).sum(1), squares)
    return squares.double().mean().item()


def uniformity(features: Tensor, t: float = 2.0) -> float:
    """log of the mean of exp(-t d^2) over all pairs, on the unit sphere; 0 if all coincide.

    Wang and Isola (arXiv 2005.10242, section 4.1.2). Lower is more uniform; in many dimensions
    the lowest is about -2 t.

    Args:
        features: ``[n, dim]``; their length does not matter.
        t: As in the paper.

    Returns:
        The logarithm; NaN of fewer than two features.
    """
    units = functional.normalize(features.float(), dim=1)
    count = len(units)
    if count < 2:
        return NAN
    total = 0.0
    for start, rows in _blocks(units):
        squares = (2 - 2 * _products(rows, units)).clamp(min=0)
        # Each row of the triangle above the diagonal.
        later = torch.ones_like(squares).triu(start + 1)
        total += ((-t * squares).exp() * later).double().sum().item()
    return math.log(total / (count * (count - 1) / 2))


def _check(what: str, train: Tensor, train_labels: Tensor, test: Tensor) -> None:
    """Raises an error where ``what`` cannot be learned from these features."""
    classes = len(train_labels.unique())
    if classes < 2:
        raise NotComputable(
            f"{what} needs training features of two classes or more, and got {len(train)} of "
            f"{classes}"
        )
    if not len(test):
        raise NotComputable(f"{what} has nothing to classify: the split to evaluate is empty")
    for features in (train, test):
        if wrong := int((~features.isfinite()).any(1).sum()):
            raise UserError(
                f"{wrong} of {len(features)} features are not finite: {what} cannot use them; "
                "try a lower optimizer.lr"
            )


def _products(rows: Tensor, others: Tensor) -> Tensor:
    # In 32 bits also where the encoder runs under autocast.
    with torch.autocast(rows.device.type, enabled=False):
        return rows @ others.T


def _blocks(units: Tensor) -> list[tuple[int, Tensor]]:
    size = max(1, BLOCK // len(units))
    return [(start, units[start : start + size]) for start in range(0, len(units), size)]
