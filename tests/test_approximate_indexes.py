"""What approximate indexes find: as much as theory says, and more for a higher price."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from test_indexes import points, valid
from torch import Tensor

from minesweep.indexes import lsh
from minesweep.indexes.class_lists import ClassLists
from minesweep.indexes.exact import Exact
from minesweep.indexes.lsh import Lsh, codes, hyperplanes


def test_bits_differ_as_often_as_the_angle_says() -> None:
    """P(bit equal) = 1 - angle / pi, for the planes that are used: orthogonal in blocks."""
    draws = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 30, 12, generator=draws)
    second = torch.lerp(first, second, torch.linspace(0.05, 1, 30)[:, None])
    bits = 12_000
    planes = hyperplanes(bits, 12, seed=3)
    assert torch.allclose(planes[:12] @ planes[:12].T, torch.eye(12), atol=1e-5)
    unequal = (codes(first, planes) ^ codes(second, planes)).numpy()
    different = np.unpackbits(unequal.view(np.uint8), axis=1).sum(1)
    share = torch.nn.functional.cosine_similarity(first, second).arccos() / math.pi
    error = (torch.from_numpy(different) / bits - share).abs()
    assert (error < 4 * (share * (1 - share) / bits).sqrt()).all()


@pytest.mark.parametrize("shortlist", [1, 4])
@pytest.mark.parametrize("bits", [64, 256])
def test_recall_of_lsh_is_what_theory_expects(
    bits: int, shortlist: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bits that differ are binomial, by the angle; orthogonal planes do no worse."""
    vectors, labels = points(1000, 32, 4, seed=6)
    rows, k = torch.arange(60), 10
    exact = Exact()
    exact.build(vectors, labels)
    truth = exact.negatives(rows, k).rows

    def share(found: Tensor) -> float:
        return (truth[:, :, None] == found[:, None]).any(2).double().mean().item()

    unit = torch.nn.functional.normalize(vectors - vectors.mean(0), dim=1).double()
    angles = (unit[rows] @ unit.T).clamp(-1, 1).arccos()
    chance = np.random.default_rng(0)
    expected = []
    for _ in range(10):
        differing = torch.from_numpy(chance.binomial(bits, (angles / math.pi).numpy())).double()
        differing += torch.rand(differing.shape, generator=torch.Generator().manual_seed(0))
        differing[labels[rows, None] == labels] = math.inf
        expected.append(share(differing.topk(shortlist * k, 1, largest=False).indices))

    def measured() -> float:
        found = []
        for seed in range(10):
            index = Lsh(bits, shortlist, seed=seed)
            index.build(vectors, labels)
            found.append(share(index.negatives(rows, k).rows))
            assert index.candidates == shortlist * k
        return float(np.mean(found))

    orthogonal = measured()

    def independent(bits: int, dim: int, seed: int) -> Tensor:
        return torch.randn(bits, dim, generator=torch.Generator().manual_seed(seed))

    monkeypatch.setattr(lsh, "hyperplanes", independent)
    assert measured() == pytest.approx(np.mean(expected), abs=0.03)
    assert orthogonal > np.mean(expected) - 0.01


def test_furthest_positives_by_hashing_are_far() -> None:
    vectors, labels = points(2000, 16, 2, seed=8)
    rows = torch.arange(40)
    index, exact = Lsh(256), Exact()
    for some in (index, exact):
        some.build(vectors, labels)
    found, truth = index.positives(rows, 5), exact.positives(rows, 5)
    assert index.candidates == 5 * 8
    valid(found, (vectors, labels, rows, 5), nearest=False)
    far = (
        torch.cdist(vectors[rows], vectors)
        .square()
        .masked_fill(labels[rows, None] != labels, math.nan)
    )
    middle, most = far.nanmean(), truth.distances.mean()
    assert found.distances.mean() > middle + 0.7 * (most - middle)


def test_more_probes_find_more_and_cost_more() -> None:
    vectors, labels = points(4000, 16, 80, seed=2, kind="clusters")
    rows = torch.arange(0, 4000, 40)
    exact = Exact()
    exact.build(vectors, labels)
    truth = exact.negatives(rows, 10).rows
    shares, looked = [], []
    for probes in (1, 4, 16):
        index = ClassLists(probes)
        index.build(vectors, labels)
        found = index.negatives(rows, 10).rows
        shares.append((truth[:, :, None] == found[:, None]).any(2).float().mean().item())
        looked.append(index.candidates)
    assert shares[0] < shares[1] <= shares[2]
    assert shares[2] > 0.95
    assert looked == sorted(looked)
    assert looked[0] == pytest.approx(50, rel=0.3)


def test_small_classes_are_probed_until_there_are_enough() -> None:
    vectors, labels = points(400, 6, 1, seed=2)
    labels = torch.arange(400) // 2
    index = ClassLists(1)
    index.build(vectors, labels)
    rows = torch.arange(400)
    valid(index.negatives(rows, 20), (vectors, labels, rows, 20), nearest=True)
