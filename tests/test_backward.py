"""Backward over the selected rows only: the gradient of the whole graph, or a refusal."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from backward_models import CLASSES, IMAGES, MODELS, assert_equal, batch_of, gradients, timm
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from minesweep.backward.choice import choose
from minesweep.datasets.base import Batch
from minesweep.errors import UserError
from minesweep.miners import Ohem, SelectiveBackprop
from minesweep.miners.base import Miner
from minesweep.models.mlp import MLP
from minesweep.models.siamese_lstm import SiameseLSTM
from minesweep.objectives import L2, CrossEntropy
from minesweep.objectives.contrastive import Contrastive


@pytest.mark.parametrize("name", MODELS)
def test_the_gradient_is_that_of_the_whole_graph(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]()
    for dtype, tolerance in [(torch.float32, 1e-6), (torch.float64, 1e-14)]:
        model, batch = model.to(dtype), batch_of(dtype=dtype)
        assert_equal(gradients(model, "rows", batch), gradients(model, "full", batch), tolerance)


@pytest.mark.parametrize("name", MODELS)
def test_one_selected(name: str) -> None:
    torch.manual_seed(0)
    model, batch = MODELS[name]().double(), batch_of(6, torch.float64)
    found = [gradients(model, way, batch, Ohem(k=1)) for way in ("rows", "full")]
    assert_equal(*found, 1e-12)


@given(
    n=st.integers(2, 40),
    share=st.floats(0.01, 1),
    widths=st.lists(st.integers(1, 40), max_size=4),
    seed=st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_any_n_k_and_depth(n: int, share: float, widths: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    # Widths may equal n or k: then shapes alone do not say which dimension the rows are.
    model = MLP([*widths, n], **IMAGES).double()
    batch, miner = batch_of(n, torch.float64), Ohem(k=max(1, round(share * n)))
    assert_equal(*(gradients(model, way, batch, miner) for way in ("rows", "full")), 1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum", "sum_over_n"])
def test_loss_scores_and_weights_are_those_of_full_to_the_bit(reduction: str) -> None:
    torch.manual_seed(0)
    model, batch = MLP([40], **IMAGES), batch_of()
    rows, full = (
        L2(reduction, backward=way)(model, batch, Ohem(k=5), 0) for way in ("rows", "full")
    )
    assert rows.loss.item() == full.loss.item()
    assert torch.equal(rows.scores, full.scores)
    assert torch.equal(rows.weights, full.weights)
    assert rows.metrics == full.metrics


class Nothing(Miner):
    def select(self, scores: Tensor, **context: Any) -> Tensor:
        return torch.zeros_like(scores)


def test_a_number_that_is_not_known_before_and_none() -> None:
    torch.manual_seed(0)
    model, batch = MLP([40], **IMAGES).double(), batch_of(32, torch.float64)
    rows, full = (
        gradients(model, way, batch, SelectiveBackprop(beta=2)) for way in ("rows", "full")
    )
    assert_equal(rows, full, 1e-12)
    nothing = gradients(model, "rows", batch, Nothing())
    assert all(gradient.eq(0).all() for gradient in nothing.values())


def test_weights_that_are_not_one() -> None:
    class Soft(Miner):
        def select(self, scores: Tensor, **context: Any) -> Tensor:
            return scores.softmax(0) * (scores > scores.mean())

    model, batch = MLP([40], **IMAGES).double(), batch_of(32, torch.float64)
    assert_equal(*(gradients(model, way, batch, Soft()) for way in ("rows", "full")), 1e-12)


@pytest.mark.parametrize("policy", ["fixed", "relative"])
def test_pairs_and_a_loss_that_looks_at_the_batch(policy: str) -> None:
    class HalfOfThePairs(Ohem):
        candidate = "pair"

    def contrastive(backward: str) -> Contrastive:
        objective = Contrastive(margin=2.0, margin_policy=policy)
        objective.backward = backward
        return objective

    torch.manual_seed(0)
    model = MODELS["vit"]().double()
    pairs = torch.stack([torch.arange(8), torch.arange(8).flip(0)], 1)
    batch = Batch(batch_of(16, torch.float64).inputs, pairs % 3, pairs)
    found = [
        gradients(model, way, batch, HalfOfThePairs(k=3), contrastive) for way in ("rows", "full")
    ]
    assert_equal(*found, 1e-12)


def test_sentences() -> None:
    from minesweep.datasets.text import Tokens

    draws = torch.Generator().manual_seed(0)
    ids = torch.randint(2, 30, (16, 9), generator=draws, dtype=torch.int32)
    lengths = torch.randint(1, 10, (16,), generator=draws)
    batch = Batch(Tokens(ids, lengths), torch.arange(16) % CLASSES, torch.arange(16))
    model = nn.Sequential(SiameseLSTM(8, input_shape=(30,), num_classes=2), nn.Linear(8, CLASSES))
    assert_equal(*(gradients(model, way, batch) for way in ("rows", "full")), 2e-6)


# --- where rows depend on each other -------------------------------------------------------------


class Centred(nn.Linear):
    def forward(self, rows: Tensor) -> Tensor:
        return super().forward(rows - rows.mean(0))


class Gated(nn.Module):
    """Adds nothing of the other rows at first, but learns how much."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.head = nn.Parameter(torch.zeros(())), nn.Linear(3072, CLASSES)

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(rows + self.gate * rows.mean(0))


class Counting(nn.Linear):
    def __init__(self) -> None:
        super().__init__(3072, CLASSES)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, rows: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(rows)


class Careless(nn.Linear):
    def __init__(self, draw: Callable[[Tensor], Any]) -> None:
        super().__init__(3072, CLASSES)
        self.draw = draw

    def forward(self, rows: Tensor) -> Tensor:
        return super().forward(rows + 0.1 * self.draw(rows))


ENTANGLED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "BatchNorm": (lambda: timm("resnet18"), "BatchNorm in train mode"),
    "BatchNorm1d": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 8), nn.BatchNorm1d(8), nn.Linear(8, 5)),
        "BatchNorm in train mode",
    ),
    "batch statistics in evaluation mode": (
        lambda: nn.Sequential(
            nn.BatchNorm2d(3, track_running_stats=False).eval(), nn.Flatten(), nn.Linear(3072, 5)
        ),
        "BatchNorm in train mode",
    ),
    "a layer of one's own": (
        lambda: nn.Sequential(nn.Flatten(), Centred(3072, CLASSES)),
        "changes with the other rows",
    ),
    "a buffer": (lambda: nn.Sequential(nn.Flatten(), Counting()), "its buffer 1.calls changes"),
    "a gate that is still shut": (
        lambda: nn.Sequential(nn.Flatten(), Gated()),
        "gradient of a row is another one",
    ),
    "a permutation": (
        lambda: nn.Sequential(nn.Flatten(), Careless(lambda rows: rows[torch.randperm(len(rows))])),
        "random numbers that cannot be had again",
    ),
    "Python's generator": (
        lambda: nn.Sequential(nn.Flatten(), Careless(lambda rows: random.random())),
        "the generator of Python or NumPy",
    ),
}


@pytest.mark.parametrize("name", ENTANGLED)
def test_it_refuses_what_is_not_row_wise_and_auto_goes_another_way(name: str) -> None:
    make, reason = ENTANGLED[name]
    torch.manual_seed(0)
    model, batch = make(), batch_of()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    chance = (torch.get_rng_state(), random.getstate())
    choice = choose(model, batch.inputs, 16, 12)
    assert choice.way == "full"
    assert reason in choice.reason
    assert choose(model, batch.inputs, 16, 2).way == "again"
    # Trying it out leaves no trace.
    assert torch.equal(torch.get_rng_state(), chance[0])
    assert random.getstate() == chance[1]
    assert all(torch.equal(model.state_dict()[key], value) for key, value in state.items())
    with pytest.raises(UserError, match=f"backward=rows: .*{reason}.*backward=full is right"):
        gradients(model, "rows", batch)


def test_a_model_of_one_batch_size() -> None:
    model = nn.Sequential(nn.Flatten(), Careless(lambda rows: 1 / (len(rows) // 8)))
    batch = batch_of()
    assert "(ZeroDivisionError: division by zero)" in choose(model, batch.inputs, 16, 2).reason
    gradients(model, "auto", batch)
    for way in ("rows", "again"):
        said = rf"={way}: .*not on \d of them \(ZeroDivisionError: .*objective.backward=full"
        with pytest.raises(UserError, match=said):
            gradients(model, way, batch)


# --- beside other things -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp", "vit with chance", "resnet with GroupNorm"])
def test_autocast(name: str) -> None:
    torch.manual_seed(0)
    model, batch = MODELS[name](), batch_of()
    found = {}
    for way in ("rows", "full", "again"):
        with torch.autocast("cpu", torch.bfloat16):
            torch.manual_seed(3)
            model.zero_grad()
            loss = CrossEntropy(backward=way)(model, batch, Ohem(k=5), 0).loss
        loss.backward()
        found[way] = {key: p.grad.clone() for key, p in model.named_parameters()}
    assert_equal(found["rows"], found["full"], 0.05)
    assert all(gradient.dtype == torch.float32 for gradient in found["again"].values())


def test_gradients_add_up_over_batches() -> None:
    torch.manual_seed(0)
    model, objective = MLP([40], **IMAGES), CrossEntropy(backward="rows")
    batches = [batch_of(16), batch_of(12)]
    apart = [gradients(model, "rows", batch) for batch in batches]
    model.zero_grad()
    for step, batch in enumerate(batches):
        objective(model, batch, Ohem(k=5), step).loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, apart[0][name] + apart[1][name])


def in_processes(rank: int, processes: int, store: str) -> None:
    """Each process mines in its own batch; the gradient is the mean of both."""
    from torch.nn.parallel import DistributedDataParallel

    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=processes
    )
    torch.manual_seed(0)
    model, draws = MLP([40], **IMAGES), torch.Generator().manual_seed(5)
    images = torch.randn(processes, 16, 3, 32, 32, generator=draws)
    batches = [Batch(part, torch.arange(16) % CLASSES, torch.arange(16)) for part in images]
    each = [gradients(model, "full", batch) for batch in batches]
    mean = {name: sum(part[name] for part in each) / processes for name in each[0]}
    model.zero_grad()
    wrapped, objective = DistributedDataParallel(model), CrossEntropy()
    for step in range(2):
        wrapped.zero_grad()
        objective(wrapped, batches[rank], Ohem(k=5), step).loss.backward()
        found = {name: p.grad.clone() for name, p in model.named_parameters()}
        assert_equal(found, mean, 2e-6)
    assert objective.get_extra_state() == {"way": "rows"}
    # One that outlives its group can wait for ever for Gloo's threads, with the GIL in its hands.
    del wrapped
    gc.collect()
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_distributed_data_parallel(processes: int, tmp_path: Any) -> None:
    store = str(tmp_path / "store")
    if processes == 1:
        in_processes(0, 1, store)
    else:
        torch.multiprocessing.spawn(in_processes, (processes, store), processes)


def test_a_compiled_model_is_refused_and_auto_goes_another_way() -> None:
    torch.manual_seed(0)
    model, batch = MLP([40], **IMAGES), batch_of()
    expected = gradients(model, "full", batch)
    model.compile(backend="eager")
    with pytest.raises(UserError, match=r"compiled model: take again, full or auto"):
        gradients(model, "rows", batch)
    assert choose(model, batch.inputs, 16, 2).way == "again"
    assert "torch.compile" in choose(model, batch.inputs, 16, 12).reason
    for way in ("auto", "again"):
        assert_equal(gradients(model, way, batch), expected, 2e-6)


def test_a_part_that_is_compiled_is_looked_through() -> None:
    """A user's own compiled layer inside: found, or right."""
    torch.manual_seed(0)
    model, batch = MLP([40], **IMAGES), batch_of()
    expected = gradients(model, "full", batch)
    model[1].compile(backend="eager")
    with pytest.raises(UserError, match="compiled model"):
        gradients(model, "rows", batch)
    assert_equal(gradients(model, "auto", batch), expected, 2e-6)
