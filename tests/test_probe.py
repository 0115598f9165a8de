"""kNN, linear probe, alignment and uniformity, against loops and scikit-learn."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Train, on_digits
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from minesweep.datasets.base import Data, Split
from minesweep.datasets.digits import Digits
from minesweep.errors import UserError
from minesweep.evaluation import probe as module
from minesweep.evaluation.missing import NotComputable, tell
from minesweep.evaluation.probe import (
    accuracy,
    alignment,
    knn_accuracy,
    linear_probe,
    uniformity,
)


def features(seed: int, count: int, classes: int = 4, dim: int = 6) -> tuple[Tensor, Tensor]:
    """Clusters that overlap; labels from 0."""
    draws = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, dim, generator=torch.Generator().manual_seed(99))
    labels = torch.randint(classes, (count,), generator=draws)
    return centres[labels] + torch.randn(count, dim, generator=draws), labels


def naive_knn(train, train_labels, test, k, temperature):  # type: ignore[no-untyped-def]
    predicted = []
    for query in test.double().numpy():
        cosines = [
            float(query @ row / np.linalg.norm(query) / np.linalg.norm(row))
            for row in train.double().numpy()
        ]
        nearest = sorted(range(len(cosines)), key=lambda row: -cosines[row])[:k]
        votes: dict[int, float] = {}
        for row in nearest:
            label = int(train_labels[row])
            votes[label] = votes.get(label, 0.0) + math.exp(cosines[row] / temperature)
        predicted.append(max(votes, key=lambda label: votes[label]))
    return predicted


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.sampled_from([0.03, 0.07, 1.0]))
def test_knn_is_the_loop(seed: int, k: int, temperature: float) -> None:
    (train, train_labels), (test, labels) = features(seed, 50), features(seed + 1, 20)
    predicted = torch.tensor(naive_knn(train, train_labels, test, k, temperature))
    found = knn_accuracy(train, train_labels, test, labels, k, temperature)
    assert found.plain == pytest.approx((predicted == labels).double().mean().item())
    each = [(predicted == labels)[labels == c].double().mean().item() for c in labels.unique()]
    assert found.balanced == pytest.approx(sum(each) / len(each))


def test_knn_of_one_vote_and_of_even_votes_is_scikit_learns() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    (train, train_labels), (test, labels) = features(0, 300), features(1, 100)
    for k, temperature in ((1, 0.07), (15, 1e6)):
        reference = KNeighborsClassifier(k, metric="cosine").fit(train, train_labels)
        expected = reference.score(test, labels)
        assert knn_accuracy(train, train_labels, test, labels, k, temperature).plain == (
            pytest.approx(expected, abs=0.011)  # a tie of votes may go either way
        )


def test_knn_in_blocks_is_knn_at_once_and_scale_does_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (train, train_labels), (test, labels) = features(0, 300), features(1, 100)
    whole = knn_accuracy(train, train_labels, test, labels)
    monkeypatch.setattr(module, "BLOCK", 1000)
    scaled = train * torch.rand(len(train), 1).add(0.1)
    assert knn_accuracy(scaled, train_labels, test * 7, labels) == whole
    assert knn_accuracy(train, train_labels, test, labels, temperature=1e-3).plain > 0.3


def test_balanced_accuracy_is_scikit_learns() -> None:
    from sklearn.metrics import accuracy_score, balanced_accuracy_score

    labels = torch.tensor([0] * 90 + [3] * 10)
    predicted = torch.zeros(100, dtype=torch.long)
    predicted[[5, 95]] = 3
    found = accuracy(predicted, labels)
    assert found.plain == pytest.approx(accuracy_score(labels, predicted))
    assert found.balanced == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert found.balanced < 0.6 < found.plain


def test_the_linear_probe_is_logistic_regression_of_standardised_features() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, val, test = features(0, 400), features(1, 100), features(2, 200)
    scaled = [(x * torch.tensor([1.0, 100, 0.01, 1, 1, 5]) + 3, y) for x, y in (train, val, test)]
    probe = linear_probe(*scaled[0], *scaled[1], iterations=2000)
    reference = make_pipeline(
        StandardScaler(), LogisticRegression(C=probe.strength, max_iter=2000)
    ).fit(scaled[0][0].numpy(), scaled[0][1].numpy())
    expected = torch.from_numpy(reference.predict(scaled[2][0].numpy()))
    assert (probe.predict(scaled[2][0]) == expected).double().mean() > 0.985
    assert probe.accuracy(*scaled[2]).plain > 0.6


def test_the_strength_is_chosen_on_validation_data() -> None:
    # More dimensions than examples and noisy labels: strong ones generalise.
    draws = torch.Generator().manual_seed(0)

    def noisy(count: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(count, 100, generator=draws)
        labels = (x[:, :4].sum(1) > 0).long()
        noise = torch.rand(count, generator=draws) < 0.1
        return x, torch.where(noise, 1 - labels, labels)

    train, val = noisy(120), noisy(400)
    found = {c: linear_probe(*train, *val, strengths=[c]).accuracy(*val) for c in (0.01, 1e3)}
    assert found[0.01].plain > found[1e3].plain + 0.02
    assert linear_probe(*train, *val, strengths=[1e3, 0.01]).strength == 0.01
    # The weakest fits the training data best: that is not what it is chosen on.
    assert linear_probe(*train, *train, strengths=[1e3, 0.01]).strength == 1e3


def test_the_probe_is_deterministic_and_takes_two_classes_and_constant_features() -> None:
    (train, train_labels), (val, labels) = features(0, 80, classes=2), features(1, 40, classes=2)
    train[:, 0], val[:, 0] = 2.0, 3.0
    probes = [linear_probe(train, train_labels, val, labels) for _ in range(2)]
    assert np.array_equal(probes[0].classifier.coef_, probes[1].classifier.coef_)
    assert probes[0].strength == probes[1].strength
    assert probes[0].accuracy(val, labels).plain > 0.7


@given(st.integers(0, 10**6), st.integers(2, 40))
@settings(max_examples=25, deadline=None)
def test_alignment_and_uniformity_are_the_loops(seed: int, count: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, count, 5, generator=draws, dtype=torch.double)
    units = [x / x.norm(dim=1, keepdim=True) for x in (first, second)]
    squares = [float((a - b) @ (a - b)) for a, b in zip(*units, strict=True)]
    assert alignment(first, 3 * second) == pytest.approx(sum(squares) / count, abs=1e-5)
    pairs = [
        math.exp(-2 * float((a - b) @ (a - b)))
        for row, a in enumerate(units[0])
        for b in units[0][:row]
    ]
    expected = math.log(sum(pairs) / len(pairs))
    assert uniformity(5 * first) == pytest.approx(expected, abs=1e-4)


def test_the_ends_of_uniformity(monkeypatch: pytest.MonkeyPatch) -> None:
    same = torch.ones(50, 8)
    assert uniformity(same) == pytest.approx(0, abs=1e-5)
    assert alignment(same, same) == 0
    spread = torch.randn(500, 256)
    assert uniformity(spread) == pytest.approx(-4, abs=0.1)
    whole = uniformity(spread)
    monkeypatch.setattr(module, "BLOCK", 3001)  # blocks of six rows
    assert uniformity(spread) == pytest.approx(whole, abs=1e-6)


def test_autocast_changes_nothing() -> None:
    (train, train_labels), (test, labels) = features(0, 300), features(1, 100)
    whole = knn_accuracy(train, train_labels, test, labels), uniformity(train)
    with torch.autocast("cpu", torch.bfloat16):
        assert (knn_accuracy(train, train_labels, test, labels), uniformity(train)) == whole


# --- what has no answer ---------------------------------------------------------------------------


def test_one_class_an_empty_bank_and_nothing_to_classify_are_told_in_one_line() -> None:
    x, y = features(0, 30)
    one = torch.zeros_like(y)
    for classify in (knn_accuracy, linear_probe):
        for train, labels, test, their, message in [
            (x, one, x, y, "needs training features of two classes or more, and got 30 of 1"),
            (x[:0], y[:0], x, y, "two classes or more, and got 0 of 0"),
            (x, y, x[:0], y[:0], "has nothing to classify"),
        ]:
            with pytest.raises(NotComputable, match=message) as told:
                classify(train, labels, test, their)
            assert "\n" not in str(told.value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_features_that_are_not_finite_are_told_in_one_line(value: float) -> None:
    x, y = features(0, 30)
    bad = x.clone()
    bad[[3, 7], 0] = value
    for classify in (knn_accuracy, linear_probe):
        for train, test in ((bad, x), (x, bad)):
            with pytest.raises(UserError, match="2 of 30 features are not finite"):
                classify(train, y, test, y)


def test_more_votes_than_rows_are_all_rows() -> None:
    (x, y), (test, labels) = features(0, 7), features(1, 20)
    assert knn_accuracy(x, y, test, labels, k=200) == knn_accuracy(x, y, test, labels, k=7)


def test_uniformity_and_alignment_of_zero_vectors_and_of_one() -> None:
    assert math.isnan(uniformity(torch.ones(1, 3)))
    assert alignment(torch.zeros(2, 3), torch.ones(2, 3)) == 2


def test_moco_leaves_out_both_accuracies_of_one_class(
    train: Train, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    load = Digits.load

    def one_class(self: Digits, data_dir: Path) -> Data:
        data = load(self, data_dir)
        return replace(data, train=Split(data.train.inputs, torch.zeros_like(data.train.labels)))

    monkeypatch.setattr(Digits, "load", one_class)
    tell.cache_clear()
    chosen = ["miner=queue", *on_digits("queue"), "objective.linear=true", "dataset.split_seed=6"]
    summary = train(*chosen, "trainer.max_steps=10")
    assert not [name for name in summary if "accuracy" in name and not name.startswith("train/")]
    assert summary["val/alignment"] >= 0
    told = [r.message for r in caplog.records if r.message.startswith("an accuracy is missing")]
    assert len(told) == 2  # kNN's and the linear classifier's
