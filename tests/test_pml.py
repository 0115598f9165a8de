"""Losses and miners of pytorch-metric-learning through our trainer, and ours as theirs.

Skipped unless it is installed: ``pip install pytorch-metric-learning==2.9.0``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, Killed, Train
from pml_names import DEVIANT, Names, all_names, table
from test_peers import SIZES, labelled
from test_training import only_run, results
from test_triplet import pool, ready
from torch import Tensor, nn

from minesweep.datasets.base import Batch, Data, Split
from minesweep.errors import UserError
from minesweep.miners.all import All
from minesweep.miners.band import Band
from minesweep.miners.closest_negative import ClosestNegative
from minesweep.miners.distance_weighted import DistanceWeighted
from minesweep.miners.ohem import Ohem
from minesweep.miners.pml import Pml as PmlMiner
from minesweep.miners.pml import as_pml_miner
from minesweep.miners.smooth import Smooth
from minesweep.objectives.pml import Pml

pytest.importorskip("pytorch_metric_learning")

FAMILIES: dict[str, list[str]] = {
    "euclidean triplet": ["objective.loss=TripletMarginLoss", "objective.distance=LpDistance"],
    "soft-margin triplet": ["+objective.arguments.smooth_loss=true"],
    "contrastive": ["objective.loss=ContrastiveLoss", "miner.miner=PairMarginMiner"],
    "NTXent": ["objective.loss=NTXentLoss", "+objective.arguments.temperature=0.2"],
    "SupCon": ["objective.loss=SupConLoss", "miner.miner=null"],
    "multi-similarity": ["objective.loss=MultiSimilarityLoss"],
    "learned margin": [
        *("objective.loss=MarginLoss", "miner.miner=DistanceWeightedMiner"),
        *("+objective.arguments.learn_beta=true", "+objective.arguments.num_classes=10"),
    ],
    "proxies": ["objective.loss=ProxyAnchorLoss"],
    "classifier": ["objective.loss=ArcFaceLoss", "miner.miner=null"],
    "ranking": ["objective.loss=FastAPLoss", "miner.miner=null"],
    # With few bins PML's own histogram overflows once an anchor is far from its positive.
    "running histogram": [
        *("objective.loss=DynamicSoftMarginLoss", "miner.miner=null"),
        "+objective.arguments.num_bins=100",
    ],
    "anchors by OHEM": ["miner=ohem", "objective=pml", "miner.k=16"],
}
MODEL = ["dataset=digits", "model=embedding_mlp_256"]
OFTEN = ["trainer.eval_every=9", "trainer.checkpoint_every=7", "logger.every=4"]


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_trains_and_a_killed_run_ends_as_an_undisturbed_one(
    family: str,
    train: Train,
    kill_at: Any,
    runs_dir: Path,
) -> None:
    miner = [] if "miner=ohem" in FAMILIES[family] else ["miner=pml", "miner.per_class=8"]
    chosen = [*miner, *FAMILIES[family], *MODEL, *OFTEN]
    summary = train(*chosen, "study=whole")
    assert summary["test/mean_average_precision_at_r"] > 0.2
    kill_at(16)
    with pytest.raises(Killed):
        train(*chosen, "study=killed")
    kill_at(None)
    train(*chosen, "study=killed")
    assert results(only_run(runs_dir, "whole")) == results(only_run(runs_dir, "killed"))


def objective(labels: Tensor, dim: int, **options: Any) -> Pml:
    found = Pml(**options)
    split = Split(torch.zeros(len(labels), dim), labels)
    data = Data(split, split, split, num_classes=int(labels.max()) + 1, input_shape=(dim,))
    zeros = pool(labels, batch_size=8)
    zeros = type(zeros)(**{**vars(zeros), "encode": lambda rows: torch.zeros(len(rows), dim)})
    found.setup(nn.Identity(), zeros, data)
    return found


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("miner", [None, "MultiSimilarityMiner", "TripletMarginMiner"])
@pytest.mark.parametrize("loss", ["MultiSimilarityLoss", "TripletMarginLoss", "NTXentLoss"])
def test_loss_and_gradient_are_pmls_own(
    loss: str, miner: str | None, size: tuple[int, int, int]
) -> None:
    from pytorch_metric_learning import losses, miners

    vectors, labels = labelled(*size, 0)
    gradients = []
    for ours in (True, False):
        leaf = vectors.float().requires_grad_()
        if ours:
            batch = Batch(leaf, labels, torch.arange(len(labels)))
            value = objective(labels, size[2], loss=loss)(nn.Identity(), batch, PmlMiner(miner), 0)
            value = value.loss
        else:
            tuples = None if miner is None else getattr(miners, miner)()(leaf, labels)
            value = getattr(losses, loss)()(leaf, labels, tuples)
        (gradient,) = torch.autograd.grad(value, leaf)
        gradients.append((value, gradient))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)


def test_ohem_selects_the_anchors_of_highest_mean_loss_and_pml_learns_from_their_pairs() -> None:
    from pytorch_metric_learning.losses import ContrastiveLoss
    from pytorch_metric_learning.utils.loss_and_miner_utils import get_all_pairs_indices

    vectors, labels = labelled(24, 4, 8, 0)
    vectors = vectors.float().requires_grad_()
    batch = Batch(vectors, labels, torch.arange(24))
    outcome = objective(labels, 8, loss="ContrastiveLoss")(nn.Identity(), batch, ready(Ohem(6)), 0)
    distances = torch.cdist(vectors, vectors)
    each = []
    for a in range(24):
        same = [distances[a, j].item() for j in range(24) if labels[j] == labels[a] and j != a]
        other = [max(0, 1 - distances[a, j].item()) for j in range(24) if labels[j] != labels[a]]
        each.append(sum(same + other) / 23)
    assert outcome.scores.tolist() == pytest.approx(each, abs=1e-5)
    chosen = sorted(range(24), key=lambda a: -each[a])[:6]
    assert outcome.weights.nonzero().squeeze(1).tolist() == sorted(chosen)
    a, p, b, n = get_all_pairs_indices(labels)
    left, right = (torch.isin(x, torch.tensor(chosen)) for x in (a, b))
    expected = ContrastiveLoss()(vectors, labels, (a[left], p[left], b[right], n[right]))
    torch.testing.assert_close(outcome.loss, expected)


# --- ours as theirs -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_ours_is_a_miner_of_pml(size: tuple[int, int, int]) -> None:
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.losses import TripletMarginLoss
    from pytorch_metric_learning.miners import BaseMiner, TripletMarginMiner

    vectors, labels = labelled(*size, 1)
    miner = as_pml_miner(ClosestNegative("semi_hard"))
    assert isinstance(miner, BaseMiner)
    found = set(zip(*(part.tolist() for part in miner(vectors, labels)), strict=True))
    cosines, expected = vectors @ vectors.T, set()
    for a in range(len(labels)):
        for p in range(len(labels)):
            if a == p or labels[a] != labels[p]:
                continue
            farther = [
                n
                for n in range(len(labels))
                if labels[n] != labels[a] and cosines[a, n] < cosines[a, p]
            ]
            if farther:
                expected.add((a, p, max(farther, key=lambda n: cosines[a, n].item())))
    assert found == expected
    theirs = TripletMarginMiner(9.0, "semihard", distance=CosineSimilarity())(vectors, labels)
    assert found <= set(zip(*(part.tolist() for part in theirs), strict=True))
    leaf = vectors.clone().requires_grad_()
    TripletMarginLoss()(leaf, labels, miner(leaf, labels)).backward()
    assert leaf.grad is not None


def test_ours_with_reference_embeddings_and_chance() -> None:
    vectors, labels = labelled(24, 4, 8, 0)
    miner = as_pml_miner(DistanceWeighted(nonzero_loss_cutoff=2.0))
    first, second = (miner(vectors, labels, vectors[:12], labels[:12]) for _ in range(2))
    for a, p, n in (first, second):
        assert (labels[a] == labels[:12][p]).all()
        assert (labels[a] != labels[:12][n]).all()
    assert first[2].tolist() != second[2].tolist()  # each call is a step
    again = as_pml_miner(DistanceWeighted(nonzero_loss_cutoff=2.0))
    assert again(vectors, labels, vectors[:12], labels[:12])[2].tolist() == first[2].tolist()
    assert len(as_pml_miner(Band(0, 3))(vectors, labels)) == 3


# --- what is wrong --------------------------------------------------------------------------------


def test_what_cannot_be_is_told(monkeypatch: pytest.MonkeyPatch, train: Train) -> None:
    vectors, labels = labelled(24, 4, 8, 0)
    for call, message in [
        (lambda: Pml("TripletMarginLos"), "did you mean 'TripletMarginLoss'"),
        (lambda: Pml("CrossBatchMemory"), "objective.loss=CrossBatchMemory: it wraps another loss"),
        (lambda: Pml(distance="Lp"), "objective.distance=Lp"),
        (lambda: Pml(reducer={"name": "MeanReducr"}), "did you mean 'MeanReducer'"),
        (lambda: objective(labels, 8, arguments={"margn": 1}), "margn"),
        (lambda: PmlMiner("MultiSimilarity"), "did you mean 'MultiSimilarityMiner'"),
        (lambda: PmlMiner("BatchHardMiner", {"epsilon": 3}), "epsilon"),
        (lambda: as_pml_miner(Ohem(3)), "Ohem mines a example"),  # type: ignore[arg-type]
        (lambda: as_pml_miner(Smooth())(vectors, labels), "a triplet has one"),
        (lambda: train("miner=pml", "dataset=digits", "objective=cross_entropy", "model=mlp",
                       "miner.per_class=8"), "objective=pml alone takes"),
        (lambda: train("objective=pml", "objective.loss=DynamicSoftMarginLoss", *MODEL),
         "DynamicSoftMarginLoss gives one loss for the whole batch"),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=message) as told:
            call()
        assert "\n" not in str(told.value)
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    for make in (lambda: Pml("TripletMarginLoss"), lambda: PmlMiner("BatchHardMiner")):
        with pytest.raises(UserError, match=r"pip install 'minesweep\[pml\]'"):
            make()


def test_no_pair_is_left_and_nothing_breaks() -> None:
    labels = torch.arange(8)  # each alone: no positives
    leaf = torch.randn(8, 4, requires_grad=True)
    batch = Batch(leaf, labels, labels)
    for miner in (All(), PmlMiner("BatchHardMiner")):
        outcome = objective(labels, 4, loss="TripletMarginLoss")(nn.Identity(), batch, miner, 0)
        outcome.loss.backward()
        assert outcome.loss == 0


# --- every name -----------------------------------------------------------------------------------


def test_the_table_names_every_loss_and_miner() -> None:
    rows = (ROOT / "docs" / "how-to" / "pml.md").read_text()
    for kind in ("losses", "miners"):
        for name in all_names(kind):
            assert f"| `{name}` |" in rows, name
    assert set(DEVIANT) <= {*all_names("losses"), *all_names("miners")}


@pytest.mark.slow
def test_the_table_is_what_happens(tmp_path: Path) -> None:
    tried: Names = table(tmp_path)
    page = (ROOT / "docs" / "how-to" / "pml.md").read_text()
    for line in tried.lines():
        assert line in page
