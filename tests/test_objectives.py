"""Losses and reductions, against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from minesweep.datasets.base import Batch
from minesweep.miners import All, Ohem
from minesweep.objectives import L2, CrossEntropy

# softmax of log p is p: logits whose probabilities are plain to read.
PROBABILITIES = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.25, 0.25, 0.5]])
LABELS = torch.tensor([0, 0, 2])


def test_cross_entropy_of_each_example() -> None:
    losses = CrossEntropy().losses(PROBABILITIES.log(), LABELS)
    assert losses.tolist() == pytest.approx([-math.log(0.7), -math.log(0.1), -math.log(0.5)])


def test_l2_of_each_example() -> None:
    losses = L2().losses(PROBABILITIES.log(), LABELS)
    by_hand = [
        0.5 * (0.3**2 + 0.2**2 + 0.1**2),
        0.5 * (0.9**2 + 0.1**2 + 0.8**2),
        0.5 * (0.25**2 + 0.25**2 + 0.5**2),
    ]
    assert losses.tolist() == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("reduction", "expected"), [("mean", 4.0), ("sum", 8.0), ("sum_over_n", 2.0)]
)
def test_reduction_over_the_selected(reduction: str, expected: float) -> None:
    losses, weights = torch.tensor([1.0, 3.0, 5.0, 2.0]), torch.tensor([0.0, 1.0, 1.0, 0.0])
    assert CrossEntropy(reduction).reduce(losses, weights).item() == expected


def test_nothing_selected_is_a_loss_of_zero() -> None:
    assert CrossEntropy().reduce(torch.tensor([1.0, 2.0]), torch.zeros(2)).item() == 0


def test_the_gradient_is_that_of_the_selected_examples_alone() -> None:
    torch.manual_seed(0)
    model, labels = nn.Linear(4, 3), torch.tensor([0, 1, 2, 0, 1])
    batch = Batch(torch.randn(5, 4), labels, torch.arange(5))
    outcome = CrossEntropy().forward(model, batch, Ohem(k=2), step=0)
    outcome.loss.backward()
    mined = model.weight.grad.clone()
    model.weight.grad = None
    hardest = outcome.scores.topk(2).indices
    nn.functional.cross_entropy(model(batch.inputs[hardest]), labels[hardest]).backward()
    torch.testing.assert_close(mined, model.weight.grad)


def test_evaluation_does_not_depend_on_the_chunks() -> None:
    from minesweep.datasets.base import Split

    torch.manual_seed(0)
    split = Split(torch.randn(23, 4), torch.randint(3, (23,)))
    model, objective = nn.Linear(4, 3), CrossEntropy()
    whole, parts = (objective.evaluate(model, split, chunk) for chunk in (100, 5))
    assert parts == pytest.approx(whole)
    outputs = model(split.inputs)
    assert whole["accuracy"] == (outputs.argmax(1) == split.labels).double().mean().item()


def test_library_use_in_a_loop_of_ones_own() -> None:
    """The README's ten lines."""
    torch.manual_seed(0)
    inputs, labels = torch.randn(256, 10), torch.arange(256) % 3
    inputs[:, :3] += 3 * nn.functional.one_hot(labels, 3)
    model = nn.Linear(10, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    miner, objective = Ohem(k=64), CrossEntropy()
    for step in range(60):
        losses = objective.losses(model(inputs), labels)
        weights = miner.select(losses.detach(), step=step)
        optimizer.zero_grad()
        objective.reduce(losses, weights).backward()
        optimizer.step()
    before = math.log(3)
    assert objective.losses(model(inputs), labels).mean().item() < before / 2


def test_mining_that_is_off_selects_everything() -> None:
    from minesweep.miners import Pool

    batch = Batch(torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2]), torch.arange(6))
    miner = Ohem(k=2, start=0.5)
    miner.setup(Pool(6, batch.labels, 6, 0, 10, lambda rows: rows))
    model = nn.Linear(4, 3)
    selected = [CrossEntropy()(model, batch, miner, step).weights.sum() for step in (0, 4, 5, 9)]
    assert selected == [6, 6, 2, 2]
    assert CrossEntropy()(model, batch, All(), 0).weights.sum() == 6
