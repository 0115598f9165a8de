"""Our miners and metrics beside those of pytorch-metric-learning, where the two define the same.

Skipped unless it is installed: ``pip install pytorch-metric-learning==2.9.0``.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from sklearn.cluster import KMeans
from test_in_batch import Case, chosen
from test_triplet import ready
from torch import Tensor

from minesweep.evaluation.retrieval import retrieval
from minesweep.miners.closest_negative import ClosestNegative
from minesweep.miners.distance_weighted import DistanceWeighted, log_density
from minesweep.objectives.contrastive import Contrastive
from minesweep.objectives.terms import Hinge, Similarities

pytest.importorskip("pytorch_metric_learning")

SIZES = [(24, 4, 8), (64, 4, 128), (60, 20, 16)]


def labelled(batch: int, classes: int, dim: int, seed: int) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    vectors = torch.randn(batch, dim, generator=draws, dtype=torch.double)
    labels = torch.arange(batch) % classes
    # Not all alike far apart: classes with a centre each, more or less tight.
    centres = torch.randn(classes, dim, generator=draws, dtype=torch.double)
    vectors = vectors + 0.7 * centres[labels]
    return torch.nn.functional.normalize(vectors, dim=1), labels


def hardest_positive(vectors: Tensor, labels: Tensor) -> tuple[Case, Tensor]:
    """Similarities, what is a negative, the hardest positive's similarity; and its place."""
    scores = vectors @ vectors.T
    same = labels[:, None] == labels
    positive, place = scores.masked_fill(~same | torch.eye(len(labels)).bool(), 9.0).min(1)
    return (scores, ~same, positive), place


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("mask", ["none", "semi_hard"])
def test_hardest_and_semi_hard(size: tuple[int, int, int], mask: str, ties: bool) -> None:
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.miners import BatchEasyHardMiner, BatchHardMiner

    peer: Any = BatchHardMiner(distance=CosineSimilarity())
    if mask != "none":
        peer = BatchEasyHardMiner("hard", "semihard", distance=CosineSimilarity())
    for seed in range(5):
        vectors, labels = labelled(*size, seed)
        if ties:  # corners of a cube of edge 2: few different cosines, and those are exact
            vectors = vectors[:, :4].sign() / 2
        case, positives = hardest_positive(vectors, labels)
        found = chosen(ready(ClosestNegative(mask)), case)
        ours = {(a, positives[a].item(), n) for a, n in enumerate(found) if n is not None}
        theirs = peer(vectors, labels)
        anchors, places, negatives = theirs if len(theirs) == 3 else (*theirs[:2], theirs[3])
        assert ours == set(zip(anchors.tolist(), places.tolist(), negatives.tolist(), strict=True))


@pytest.mark.parametrize("size", SIZES)
def test_the_hinge_is_the_largest_of_their_semi_hard_triplets(size: tuple[int, int, int]) -> None:
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.miners import TripletMarginMiner

    peer = TripletMarginMiner(0.25, "semihard", distance=CosineSimilarity())
    for seed in range(5):
        vectors, labels = labelled(*size, seed)
        (scores, valid, positive), positives = hardest_positive(vectors, labels)
        weights = ready(ClosestNegative("semi_hard")).select(
            scores, step=0, valid=valid, positive=positive
        )
        hinge = Hinge("hard", 0.25)(Similarities(scores, positive, valid, weights))  # type: ignore[arg-type]
        largest = torch.zeros_like(hinge)
        for a, p, n in zip(*(part.tolist() for part in peer(vectors, labels)), strict=True):
            if p == positives[a]:
                loss = 0.25 - scores[a, p] + scores[a, n]
                largest[a] = max(largest[a], loss)
        torch.testing.assert_close(hinge, largest, rtol=0, atol=1e-9)
        assert hinge.max() > 0


@pytest.mark.parametrize("size", SIZES)
def test_distance_weighted(size: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    from pytorch_metric_learning.miners import DistanceWeightedMiner
    from pytorch_metric_learning.utils import loss_and_miner_utils

    seen: list[Tensor] = []
    draw = loss_and_miner_utils.get_random_triplet_indices

    def record(*args: Any, weights: Tensor, **options: Any) -> Any:
        seen.append(weights)
        return draw(*args, weights=weights, **options)

    monkeypatch.setattr(loss_and_miner_utils, "get_random_triplet_indices", record)
    vectors, labels = labelled(*size, 0)
    DistanceWeightedMiner()(vectors, labels)
    theirs = seen[0].nan_to_num()
    (scores, valid, _), _ = hardest_positive(vectors, labels)
    ours = DistanceWeighted()
    distance = (2 - 2 * scores).clamp(min=0).sqrt()
    far = ~valid | (distance >= ours.nonzero_loss_cutoff)
    logits = -log_density(distance.clamp(min=ours.cutoff), vectors.shape[1])
    chances = logits.masked_fill(far, -torch.inf).softmax(1).nan_to_num()
    torch.testing.assert_close(chances, theirs, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "classes"), [(500, 10), (400, 399), (300, 250), (64, 2), (40, 40)]
)
def test_retrieval_metrics(size: int, classes: int) -> None:
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    draws = torch.Generator().manual_seed(size)
    labels = torch.randint(classes, (size,), generator=draws)  # some are alone in their class
    if size == classes:
        labels = torch.arange(size)
    centres = torch.randn(classes, 8, generator=draws)
    vectors = centres[labels] + 0.8 * torch.randn(size, 8, generator=draws)
    found = retrieval(vectors, labels)

    def clusters(points: Tensor, count: int) -> Tensor:
        # Their k-means has another start; what is compared is NMI on one clustering.
        return torch.from_numpy(KMeans(count, n_init=3, random_state=0).fit_predict(points))

    names = ("precision_at_1", "r_precision", "mean_average_precision_at_r", "NMI")
    peer = AccuracyCalculator(names, k="max_bin_count", kmeans_func=clusters)
    if size == classes:  # nobody has a neighbour of its class: their search for 0 of them fails
        assert all(math.isnan(found[name]) for name in names[:3])
        return
    theirs = peer.get_accuracy(vectors, labels)
    for name in names[:3]:
        assert found[name] == pytest.approx(theirs[name], abs=1e-6), name
    # The rows' order differs, and with it the start of k-means.
    assert found["nmi"] == pytest.approx(theirs["NMI"], abs=0.03)


@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("normalize", [True, False])
def test_contrastive(normalize: bool, power: float) -> None:
    """Theirs is of power 1; its gradients are compared pair by pair."""
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.losses import ContrastiveLoss
    from pytorch_metric_learning.reducers import DoNothingReducer

    vectors, labels = labelled(40, 4, 8, 0)
    vectors = (vectors * torch.linspace(0.5, 1.5, 40)[:, None]).float().requires_grad_()
    pairs = torch.randperm(40, generator=torch.Generator().manual_seed(0)).view(20, 2)
    same = labels[pairs[:, 0]] == labels[pairs[:, 1]]
    places = torch.arange(20)
    indices = [pairs[kind][:, side] for kind in (same, ~same) for side in (0, 1)]
    peer = ContrastiveLoss(
        pos_margin=0.3,
        neg_margin=1.4,
        distance=LpDistance(normalize_embeddings=normalize, p=2),
        reducer=DoNothingReducer(),
    )
    theirs = peer(vectors, labels, indices_tuple=tuple(indices))
    expected = torch.zeros(20)
    expected[places[same]] = theirs["pos_loss"]["losses"]
    expected[places[~same]] = theirs["neg_loss"]["losses"]
    objective = Contrastive(1.4, normalize=normalize, power=power, positive_margin=0.3)
    found = objective.losses(vectors[pairs.flatten()], labels[pairs])
    torch.testing.assert_close(found, expected**power, rtol=1e-5, atol=1e-6)
    assert found[same].max() > 0
    assert found[~same].max() > 0
    gradients = [
        torch.autograd.grad(x.sum(), vectors, retain_graph=True)[0]
        for x in (found, expected**power)
    ]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)
