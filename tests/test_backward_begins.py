"""Rows that come to depend on each other are seen at that step, before the optimizer uses it."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from backward_models import CLASSES, assert_equal
from torch import Tensor, nn
from torch.nn import functional

from minesweep.backward.two_passes import TwoPasses
from minesweep.datasets.base import Batch
from minesweep.errors import UserError
from minesweep.miners import Ohem
from minesweep.objectives import CrossEntropy

WIDTH, N = 12, 32


class Begins(nn.Module):
    """Row-wise until ``begun``; what it does then is added to what a layer is given."""

    def __init__(self, then: Callable[[Tensor], Tensor], at: str) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(WIDTH, 16), nn.Linear(16, CLASSES)
        self.then, self.at, self.begun = then, at, False

    def forward(self, rows: Tensor) -> Tensor:
        if self.begun and self.at == "inputs":
            rows = self.then(rows)
        hidden = self.first(rows).relu()
        if self.begun and self.at == "hidden":
            hidden = self.then(hidden)
        outputs = self.last(hidden)
        return self.then(outputs) if self.begun and self.at == "outputs" else outputs


def centred(rows: Tensor) -> Tensor:
    return rows - rows.mean(0)


def branching(rows: Tensor) -> Tensor:
    """All rows together are above 0, and the hard ones alone are below it or the other way."""
    return 3 * rows if rows.sum() > 0.3 * rows.abs().sum() else rows


def context(rows: Tensor) -> Tensor:
    """What a layer makes of the mean of all rows: nothing in it has a row."""
    return rows + (rows.mean(0, keepdim=True) @ torch.eye(rows.shape[1]))


def rolled(rows: Tensor) -> Tensor:
    return rows + rows.roll(1, 0)


def batch_at(step: int) -> Batch:
    draws = torch.Generator().manual_seed(step)
    inputs = torch.randn(N, WIDTH, generator=draws)
    inputs[:, 0] += 2
    return Batch(inputs, torch.arange(N) % CLASSES, torch.arange(N))


def by_python(rows: Tensor) -> Tensor:
    return rows * random.random()


@pytest.mark.parametrize("at", ["inputs", "hidden", "outputs"])
@pytest.mark.parametrize("then", [centred, rolled, context, by_python])
@pytest.mark.parametrize(("begins", "k"), [(17, 8), (1025, 8), (3, 1), (3, 31)])
def test_at_the_step_at_which_it_begins(
    then: Callable[[Tensor], Tensor], at: str, begins: int, k: int
) -> None:
    if then is rolled and k == 31:
        pytest.skip("one row alone has another neighbour, and it need not be a sentinel")
    torch.manual_seed(0)
    model, miner, objective = Begins(then, at), Ohem(k=k), CrossEntropy(backward="rows")
    # Other steps than those around it change nothing: 1,025 of them are not needed.
    for step in [0, 1, 2, *range(max(3, begins - 5), begins)]:
        objective(model, batch_at(step), miner, step).loss.backward()
    model.begun = True
    with pytest.raises(UserError, match=r"backward=rows: .* changes with the other rows .*=full"):
        objective(model, batch_at(begins), miner, begins)


def test_a_branch_that_the_batch_decides() -> None:
    """Refused wherever the selected rows would take the other one, and exact elsewhere."""
    torch.manual_seed(0)
    model, refused = Begins(branching, "inputs"), 0
    model.begun = True
    rows, full = CrossEntropy(backward="rows"), CrossEntropy(backward="full")
    for step in range(40):
        batch = batch_at(step)
        batch.inputs[:, 0] += (step % 5) - 2
        try:
            found = _gradients(model, batch, rows, step)
        except UserError:
            refused += 1
        else:
            assert_equal(found, _gradients(model, batch, full, step), 1e-5)
    assert 0 < refused < 40


def _gradients(model: nn.Module, batch: Batch, objective: CrossEntropy, step: int) -> dict:
    model.zero_grad()
    objective(model, batch, Ohem(k=4), step).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def test_batchnorm_that_is_unfrozen_later() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(WIDTH, 8), nn.BatchNorm1d(8), nn.Linear(8, CLASSES))
    model[1].eval()
    objective = CrossEntropy(backward="rows")
    for step in range(17):
        objective(model, batch_at(step), Ohem(k=8), step)
    model.train()
    with pytest.raises(UserError, match=r"its buffer 1.\w+ changes|BatchNorm in train mode"):
        objective(model, batch_at(17), Ohem(k=8), 17)


@pytest.mark.parametrize("backward", ["again", "auto", "rows"])
def test_batchnorm_of_one_selected(backward: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(WIDTH, 8), nn.BatchNorm1d(8), nn.Linear(8, CLASSES))
    objective, batch = CrossEntropy(backward=backward), batch_at(0)
    if backward == "auto":
        objective(model, batch, Ohem(k=1), 0).loss.backward()
        assert objective.get_extra_state() == {"way": "full"}
        return
    with pytest.raises(UserError, match=r"objective\.backward=full is right") as raised:
        objective(model, batch, Ohem(k=1), 0)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.gpu
def test_on_a_gpu_it_is_raised_as_the_backward_pass_ends() -> None:
    passes, model = TwoPasses(remember=True), Begins(centred, "inputs").cuda()
    for step in range(4):
        inputs = batch_at(step).inputs.cuda()
        model.begun = step == 3
        outputs = passes.score(model, inputs, N, step)
        part = passes.learn(model, inputs, outputs, torch.arange(8, device="cuda"))
        loss = functional.cross_entropy(part, torch.arange(8, device="cuda") % CLASSES)
        if not model.begun:
            loss.backward()
    with pytest.raises(UserError, match="changes with the other rows"):
        loss.backward()
