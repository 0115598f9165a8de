"""Learning from the hard examples in a loop of one's own."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from backward_models import CLASSES, IMAGES, MODELS, assert_equal, batch_of
from torch import Tensor, nn
from torch.nn import functional

from minesweep import HardExamples, hard_examples_loss
from minesweep.errors import UserError
from minesweep.miners import All, Ohem, RandomK, SelectiveBackprop
from minesweep.models.mlp import MLP
from minesweep.objectives import CrossEntropy

WAYS = ("auto", "rows", "again", "full")


def losses_of(labels: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda outputs: functional.cross_entropy(outputs, labels, reduction="none")


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def topk_gradients(model: nn.Module, inputs: Any, labels: Tensor, k: int) -> dict[str, Tensor]:
    """Of the mean of the k largest losses, by torch alone."""
    return gradients(model, losses_of(labels)(model(inputs)).topk(k).values.mean())


@pytest.mark.parametrize("way", WAYS)
def test_the_gradient_is_that_of_the_k_largest_losses(way: str) -> None:
    torch.manual_seed(0)
    model, batch = MLP([40], **IMAGES).double(), batch_of(dtype=torch.float64)
    hard = HardExamples(Ohem(k=5), way)
    for _ in range(3):
        found = gradients(model, hard(model, batch.inputs, losses_of(batch.labels)))
        assert_equal(found, topk_gradients(model, batch.inputs, batch.labels, 5), 1e-12)
    assert hard.way == ("rows" if way == "auto" else way)
    assert hard.step == 3
    alone = hard_examples_loss(model, batch.inputs, losses_of(batch.labels), Ohem(k=5))
    assert_equal(gradients(model, alone), found, 1e-12)


@pytest.mark.parametrize("name", ["mlp", "vit", "resnet with GroupNorm", "time first"])
@pytest.mark.parametrize("miner", [Ohem(k=5), SelectiveBackprop(beta=2), All()])
def test_it_is_the_trainers_own_step(name: str, miner: Any) -> None:
    torch.manual_seed(0)
    model, batch = MODELS[name](), batch_of()
    hard, objective = HardExamples(copy.deepcopy(miner)), CrossEntropy()
    for step in range(3):
        torch.manual_seed(step)
        own = gradients(model, objective(model, batch, miner, step).loss)
        torch.manual_seed(step)
        found = gradients(model, hard(model, batch.inputs, losses_of(batch.labels)))
        assert_equal(found, own, 1e-5)
        assert hard.way == objective.get_extra_state()["way"]


class TwoTowers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image, self.number = nn.Linear(12, 8), nn.Linear(4, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, image: Tensor, number: Tensor, scale: float | Tensor = 1.0) -> Any:
        hidden = self.image(image).relu() + self.number(number) * scale
        return {"logits": self.head(hidden), "hidden": hidden, "norm": hidden.norm(), "none": None}


@pytest.mark.parametrize("scale", [2.0, torch.tensor(2.0)])
@pytest.mark.parametrize("way", WAYS)
def test_inputs_and_outputs_of_several_parts(way: str, scale: Any) -> None:
    torch.manual_seed(0)
    model, labels = TwoTowers(), torch.arange(16) % CLASSES
    image, number = torch.randn(16, 12), torch.randn(16, 4)

    def losses(outputs: dict[str, Tensor]) -> Tensor:
        return losses_of(labels)(outputs["logits"]) + 0.1 * outputs["hidden"].square().mean(1)

    expected = gradients(model, losses(model(image, number, scale)).topk(3).values.mean())
    named = {"number": number, "image": image, "scale": scale}
    if way in ("auto", "rows"):
        # The norm of all rows is another one with fewer of them.
        with pytest.raises(UserError, match=r"backward=rows: .* changes .*backward=full is right"):
            HardExamples(Ohem(k=3), "rows")(model, named, losses)
    quiet = Quiet(model)
    for inputs in ((image, number, scale), named):
        found = gradients(model, HardExamples(Ohem(k=3), way)(quiet, inputs, losses))
        assert_equal(found, expected, 1e-5)


class Quiet(nn.Module):
    """Without the output that all rows share."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: Any, **named: Any) -> Any:
        outputs = self.inner(*inputs, **named)
        return {key: value for key, value in outputs.items() if key != "norm"}


def test_gradients_add_up_and_autocast_is_kept() -> None:
    torch.manual_seed(0)
    model, hard = MLP([40], **IMAGES), HardExamples(Ohem(k=5), "rows")
    batches = [batch_of(16), batch_of(12)]
    expected = [topk_gradients(model, b.inputs, b.labels, 5) for b in batches]
    model.zero_grad()
    for batch in batches:
        (hard(model, batch.inputs, losses_of(batch.labels)) / 2).backward()
    for name, parameter in model.named_parameters():
        mean = (expected[0][name] + expected[1][name]) / 2
        torch.testing.assert_close(parameter.grad, mean, rtol=1e-4, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        loss = hard(model, batches[0].inputs, losses_of(batches[0].labels))
    assert_equal(gradients(model, loss), expected[0], 0.1)


def in_processes(rank: int, processes: int, store: str) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=processes
    )
    torch.manual_seed(0)
    model, images = MLP([40], **IMAGES), torch.randn(processes, 16, 3, 32, 32)
    labels = torch.arange(16) % CLASSES
    each = [topk_gradients(model, part, labels, 5) for part in images]
    mean = {name: sum(part[name] for part in each) / processes for name in each[0]}
    wrapped, hard = nn.parallel.DistributedDataParallel(model), HardExamples(Ohem(k=5))
    for inputs in (images[rank], (images[rank],)):
        found = gradients(wrapped, hard(wrapped, inputs, losses_of(labels)))
        assert_equal({n.removeprefix("module."): g for n, g in found.items()}, mean, 1e-5)
    assert hard.way == "rows"
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


def test_a_compiled_model_goes_another_way_or_is_refused() -> None:
    torch.manual_seed(0)
    model, batch = MLP([40], **IMAGES), batch_of()
    expected = topk_gradients(model, batch.inputs, batch.labels, 2)
    compiled, losses = torch.compile(model, backend="eager"), losses_of(batch.labels)
    with pytest.raises(UserError, match=r"^backward=rows cannot look into a compiled model"):
        HardExamples(Ohem(k=2), "rows")(compiled, batch.inputs, losses)
    hard = HardExamples(Ohem(k=2))
    assert_equal(gradients(model, hard(compiled, batch.inputs, losses)), expected, 1e-5)
    assert hard.way == "again"


def test_nothing_of_a_step_outlives_it() -> None:
    model, batch, hard = MLP([40], **IMAGES), batch_of(), HardExamples(Ohem(k=5))
    losses = losses_of(batch.labels)
    for _ in range(3):
        inputs = batch.inputs.clone()
        loss = hard(model, inputs, losses)
        loss.backward()
    held = [weakref.ref(value) for value in (inputs, loss, losses)]
    del inputs, loss, losses
    gc.collect()
    assert [reference() for reference in held] == [None] * 3


def test_the_state_continues_a_run() -> None:
    torch.manual_seed(0)
    batch = batch_of()
    losses = losses_of(batch.labels)

    def run(model: nn.Module, hard: HardExamples, steps: int) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(steps):
            optimizer.zero_grad()
            hard(model, batch.inputs, losses).backward()
            optimizer.step()

    model, hard = MLP([40], **IMAGES), HardExamples(RandomK(k=5))
    run(model, hard, 3)
    resumed, again = copy.deepcopy(model), HardExamples(RandomK(k=5))
    again.load_state_dict(copy.deepcopy(hard.state_dict()))
    assert (again.step, again.way) == (3, "rows")
    run(model, hard, 4)
    run(resumed, again, 4)
    for one, other in zip(model.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_it_logs_plain_numbers() -> None:
    torch.manual_seed(0)
    model, batch, hard = MLP([40], **IMAGES), batch_of(), HardExamples(Ohem(k=5))
    assert hard.log() == {}
    loss = hard(model, batch.inputs, losses_of(batch.labels))
    scores = losses_of(batch.labels)(model(batch.inputs)).sort(descending=True).values
    expected = {
        "samples/n": 16.0,
        "samples/k": 5.0,
        "loss/batch": scores.mean().item(),
        "loss/selected": loss.item(),
        "loss/selected_min": scores[4].item(),
        "loss/selected_max": scores[0].item(),
    }
    assert hard.log() == pytest.approx(expected, rel=1e-5)
    assert all(type(value) in (int, float) for value in hard.log().values())


def test_wrong_use_is_answered_in_one_line() -> None:
    from minesweep.miners.closest_negative import ClosestNegative

    model, batch = MLP([40], **IMAGES), batch_of()
    with pytest.raises(UserError, match=r"mines batch_negative.*take Ohem"):
        HardExamples(ClosestNegative())
    with pytest.raises(UserError, match=r"backward=row\b.*'rows'"):
        HardExamples(Ohem(k=5), "row")
    mean = nn.CrossEntropyLoss()
    with pytest.raises(UserError, match=r"shape \[\] for 16 examples.*reduction='none'"):
        HardExamples(Ohem(k=5))(model, batch.inputs, lambda o: mean(o, batch.labels))
    with pytest.raises(UserError, match="hold no tensor"):
        HardExamples(Ohem(k=5))(model, {}, losses_of(batch.labels))
    with pytest.raises(UserError, match=r"k=50 .*n=16"):
        HardExamples(Ohem(k=50))(model, batch.inputs, losses_of(batch.labels))
    centred = nn.BatchNorm2d(3)
    with pytest.raises(UserError, match=r"^backward=rows: .* BatchNorm .*; backward=full is right"):
        HardExamples(Ohem(k=5), "rows")(
            nn.Sequential(centred, model), batch.inputs, losses_of(batch.labels)
        )
