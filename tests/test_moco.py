"""Momentum contrast: heads, queue, masks, losses, metrics; the faults of published code."""

from __future__ import annotations

import copy
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from two_views import TwoViews

from minesweep.datasets.base import Batch
from minesweep.miners.base import Pool
from minesweep.miners.mochi import Mochi
from minesweep.miners.queue import Queue
from minesweep.models.encoder import Encoder
from minesweep.objectives.moco import MoCo
from minesweep.objectives.queue import NOBODY, KeyQueue

# --- the encoder ----------------------------------------------------------------------------------

FAMILIES = [
    "resnet10t",
    "vit_tiny_patch16_224",
    "convnext_atto",
    "efficientnet_b0",
    "mobilenetv3_small_050",
]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_head_is_in_the_forward_pass_of_every_family(name: str) -> None:
    """The published fault: a head that was attached, and used in two families of five."""
    torch.manual_seed(0)
    model = Encoder(name, 16, 24, input_shape=(3, 32, 32), num_classes=7).eval()
    images = torch.rand(2, 3, 32, 32)
    outputs = model(images)
    assert outputs.shape == (2, 16)
    features = model.embed(images)
    torch.testing.assert_close(outputs, model.head(features))
    outputs.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.head.parameters())
    # No other layer stands where the classifier was: DDP, too, wants every weight in use.
    assert all(p.grad is not None for p in model.parameters())


def test_the_head_is_as_wide_as_the_features_unless_told() -> None:
    shapes = [
        [layer.weight.shape for layer in Encoder(
            "test_resnet", 8, hidden, input_shape=(1, 32, 32), num_classes=7
        ).head if isinstance(layer, nn.Linear)]
        for hidden in (None, 5)
    ]  # fmt: skip
    width = shapes[0][0][1]
    assert shapes == [[(width, width), (8, width)], [(5, width), (8, 5)]]


# --- the queue ------------------------------------------------------------------------------------


@given(st.integers(1, 12), st.lists(st.integers(1, 30), max_size=12))
@settings(max_examples=60, deadline=None)
def test_the_queue_holds_the_last_keys_whatever_the_batch(size: int, batches: list[int]) -> None:
    queue, last = KeyQueue(size, 3, seed=0), [NOBODY] * size
    pointer = total = 0
    for count in batches:
        rows = torch.arange(total, total + count)
        queue.push(rows[:, None].expand(-1, 3).float(), rows, rows % 5)
        for row in rows.tolist():
            last[pointer] = row
            pointer = (pointer + 1) % size
        total += count
    assert queue.rows.tolist() == last
    assert queue.pointer == pointer
    assert queue.filled == min(total, size)
    written = queue.rows != NOBODY
    assert torch.equal(queue.features[written][:, 0], queue.rows[written].float())
    assert torch.equal(queue.labels[written], queue.rows[written] % 5)
    torch.testing.assert_close(
        queue.features[~written].norm(dim=1), torch.ones(int((~written).sum()))
    )


def test_the_queue_is_in_the_checkpoint() -> None:
    """The published fault: the pointer was a Python int, and was lost."""
    queue = KeyQueue(5, 3, seed=0)
    queue.push(torch.ones(3, 3), torch.arange(3), torch.arange(3))
    other = KeyQueue(5, 3, seed=1)
    other.load_state_dict(queue.state_dict())
    for item in (queue, other):
        item.push(torch.zeros(4, 3), torch.arange(3, 7), torch.arange(4))
    assert all(torch.equal(a, b) for a, b in zip(queue.buffers(), other.buffers(), strict=True))
    assert queue.pointer == 2


# --- the objective --------------------------------------------------------------------------------

SIZE, DIM, K = 60, 6, 21


class World:
    """A model, a pool, an objective and a miner that have been set up together."""

    def __init__(self, miner: Queue | None = None, net: nn.Module | None = None, **moco: Any):
        torch.manual_seed(0)
        self.data = TwoViews(limit=SIZE).load(Path())
        self.data.train = self.data.train.for_run(seed=0, views=2)
        layers = nn.Flatten(), nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, DIM)
        self.model = net or nn.Sequential(*layers)
        self.objective = MoCo(**{"queue_size": K, **moco})
        self.miner = miner or Queue()
        labels = self.data.train.labels
        pool = Pool(SIZE, labels, 8, 0, 50, self.encode)
        self.objective.setup(self.model, pool, self.data)
        self.miner.setup(pool)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05)
        self.step = 0

    @torch.no_grad()
    def encode(self, rows: Tensor) -> Tensor:
        outputs = self.model.eval()(self.data.train.fetch(rows).inputs)
        self.model.train()
        return outputs

    def batch(self, *rows: int) -> Batch:
        return self.data.train.draw(torch.tensor(rows or range(8)), self.step)

    def score(self, *rows: int) -> Any:
        for turn in self.objective._fresh:
            turn.clear()
        return self.objective(self.model, self.batch(*rows), self.miner, self.step)

    def train(self, steps: int, size: int = 8) -> None:
        for _ in range(steps):
            rows = [(self.step * size + i) % SIZE for i in range(size)]
            outcome = self.score(*rows)
            self.optimizer.zero_grad()
            outcome.loss.backward()
            self.optimizer.step()
            self.objective.after_step()
            self.step += 1


@torch.no_grad()
def naive_losses(world: World, batch: Batch) -> list[float]:
    """Algorithm 1 of MoCo with the own image masked, one query at a time."""
    found = []
    queue, tau = world.objective.queue, world.objective.temperature
    for view, other, row in zip(*batch.inputs, batch.rows, strict=True):
        query = functional.normalize(world.model(view[None])[0], dim=0)
        key = functional.normalize(world.objective.key(other[None])[0], dim=0)
        terms = [float(query @ key)]
        terms += [
            float(query @ feature)
            for feature, owner in zip(queue.features, queue.rows, strict=True)
            if owner != row
        ]
        found.append(-terms[0] / tau + math.log(sum(math.exp(term / tau) for term in terms)))
    return found


def test_the_loss_is_that_of_a_naive_loop() -> None:
    world = World()
    world.train(5)
    rows = (33, 1, 34, 2)  # two of them are in the queue
    assert {33, 34} <= set(world.objective.queue.rows.tolist())
    expected = naive_losses(world, world.batch(*rows))
    outcome = world.score(*rows)
    assert outcome.scores.tolist() == pytest.approx(expected, rel=1e-5)
    assert outcome.loss.item() == pytest.approx(sum(expected) / 4, rel=1e-5)


def test_the_symmetric_loss_is_the_mean_of_both_turns() -> None:
    world = World(symmetric=True)
    world.train(3)
    batch = world.batch()
    turned = Batch(batch.inputs.flip(0), batch.labels, batch.rows)
    both = torch.tensor([naive_losses(world, batch), naive_losses(world, turned)])
    outcome = world.score()
    torch.testing.assert_close(outcome.scores, both.mean(0))
    before = world.objective.queue.pointer.item()
    world.objective.after_step()
    assert world.objective.queue.pointer == (before + 16) % K


def test_the_own_image_is_no_negative() -> None:
    """An entry of the query's own image gets no gradient, every other one does."""
    world = World()
    world.train(3)
    features = world.objective.queue.features.requires_grad_()
    row = int(world.objective.queue.rows[4])
    world.score(row).loss.backward()
    assert features.grad is not None
    own = world.objective.queue.rows == row
    assert own[4]
    assert ((features.grad != 0).any(1) == ~own).all()


def test_the_key_encoder_follows_and_is_not_trained() -> None:
    world = World(momentum=0.9)
    assert all(
        torch.equal(a, b)
        for a, b in zip(world.model.parameters(), world.objective.key.parameters(), strict=True)
    )
    assert not any(p.requires_grad for p in world.objective.parameters())
    world.train(1)
    before = [p.clone() for p in world.objective.key.parameters()]
    world.train(1)
    for old, now, query in zip(
        before, world.objective.key.parameters(), world.model.parameters(), strict=True
    ):
        torch.testing.assert_close(now, 0.9 * old + 0.1 * query)
        assert not torch.equal(now, query)


def test_keys_enter_the_queue_after_the_step() -> None:
    world = World()
    keys = functional.normalize(world.objective.key(world.batch().inputs[1]), dim=1)
    world.score()
    assert world.objective.queue.filled == 0
    world.objective.after_step()
    torch.testing.assert_close(world.objective.queue.features[:8], keys)
    assert world.objective.queue.rows[:9].tolist() == [*range(8), NOBODY]
    assert torch.equal(world.objective.queue.labels[:8], world.batch().labels)


def test_weights_of_a_miner_multiply_the_terms_of_the_sum() -> None:
    class Halves(Queue):
        def select(self, scores: Tensor, **context: Any) -> Tensor:
            weights = torch.full_like(scores, 0.5)
            weights[:, ::2] = 0
            return weights

    world = World(Halves())
    outcome = world.score(40, 41)
    tau, queue = world.objective.temperature, world.objective.queue
    view, other = world.batch(40, 41).inputs
    query = functional.normalize(world.model(view), dim=1)
    positive = (query * functional.normalize(world.objective.key(other), dim=1)).sum(1) / tau
    rest = 0.5 * ((query @ queue.features[1::2].T) / tau).exp().sum(1)
    torch.testing.assert_close(outcome.scores, (positive.exp() + rest).log() - positive)


def test_mixes_join_the_sum_and_their_share_is_told() -> None:
    class Fixed(Queue):
        def extend(
            self, query: Tensor, negatives: Tensor, scores: Tensor, **context: Any
        ) -> Tensor:
            return torch.full((len(query), 2), 0.7)

    plain, world = World(), World(Fixed())
    without, outcome = plain.score(), world.score()
    positive = outcome.metrics["train/positive_similarity"]
    assert positive == without.metrics["train/positive_similarity"]
    tau = world.objective.temperature
    query, key = (functional.normalize(f(v), dim=1) for f, v in zip(
        (world.model, world.objective.key), world.batch().inputs, strict=True))  # fmt: skip
    peak = ((query * key).sum(1) / tau).exp()
    extra = 2 * math.exp(0.7 / tau)
    total = without.scores.exp() * peak
    torch.testing.assert_close(outcome.scores, ((total + extra) / peak).log())
    share = (extra / (total + extra)).mean().item()
    found = outcome.metrics["mining/synthetic_softmax_share"].item()
    assert found == pytest.approx(share, rel=1e-5)
    assert without.metrics["mining/synthetic_softmax_share"] == 0


def test_the_pretext_accuracy_does_not_jump_when_mixing_starts() -> None:
    """The published fault: mixes were among the classes, so that curves could not be compared."""
    found = []
    for miner in (Queue(), Mochi(10, 300, 300)):
        world = World(miner)
        world.train(0)
        found.append(world.score().metrics)
    assert found[1]["mining/synthetic_softmax_share"] > 0.5
    for name in ("train/pretext_accuracy", "train/pretext_accuracy_5", "train/positive_rank"):
        assert torch.equal(found[0][name], found[1][name])


def test_collapsed_embeddings_have_no_accuracy() -> None:
    world = World()
    world.train(3)
    for module in (world.model, world.objective.key):
        last = module[-1]
        last.weight.data.zero_()
        last.bias.data.fill_(1)
    for rows in (range(10), range(10, 20), range(20, 30)):
        world.score(*rows)
        world.objective.after_step()
    metrics = world.score(50, 51, 52).metrics
    assert metrics["train/positive_similarity"].item() == pytest.approx(1)
    assert metrics["train/pretext_accuracy"] == 0
    assert metrics["train/positive_rank"] == 1 + K


def test_false_negatives_are_counted_among_real_entries_of_other_images() -> None:
    world = World()
    assert world.score().metrics["mining/false_negative_share"].isnan()
    world.train(1)
    batch, queue = world.batch(0, 9), world.objective.queue
    share = world.score(0, 9).metrics["mining/false_negative_share"].item()
    pairs = [
        bool(queue.labels[j] == batch.labels[i])
        for i in range(2)
        for j in range(8)
        if queue.rows[j] != batch.rows[i]
    ]
    assert share == pytest.approx(sum(pairs) / len(pairs))


def test_mining_that_is_off_is_plain_moco() -> None:
    world, plain = World(Mochi(10, 5, 5, start=0.5, oracle=True)), World()
    assert torch.equal(world.score().scores, plain.score().scores)
    world.step = plain.step = 25
    assert not torch.equal(world.score().scores, plain.score().scores)


class Net(nn.Sequential):
    """With BatchNorm, whose statistics tell the groups apart."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 12), nn.BatchNorm1d(12), nn.Linear(12, DIM))


def test_groups_are_normalised_apart_and_the_keys_are_shuffled() -> None:
    world = World(net=Net(), groups=2)
    view, other = world.batch().inputs
    query = functional.normalize(
        torch.cat([copy.deepcopy(world.model)(part) for part in view.chunk(2)]), dim=1
    )
    unshuffled = functional.normalize(
        torch.cat([copy.deepcopy(world.objective.key)(part) for part in other.chunk(2)]), dim=1
    )
    torch.testing.assert_close(world.objective._embed(world.model, view), query)
    keys = world.objective._keys(other, step=0)
    assert not torch.allclose(keys, unshuffled)
    # Each image's key in its own place, by the statistics of four images that were drawn.
    matches = 0
    for rows in itertools.combinations(range(8), 4):
        group = functional.normalize(copy.deepcopy(world.objective.key)(other[list(rows)]), dim=1)
        matches += torch.allclose(keys[list(rows)], group, atol=1e-6)
    assert matches == 2
    # Without BatchNorm, or in one group, the order changes nothing and nothing is shuffled.
    for same in (World(groups=2), World(net=Net())):
        encoder = copy.deepcopy(same.objective.key)
        plain = functional.normalize(encoder(same.batch().inputs[1]), dim=1)
        torch.testing.assert_close(same.objective._keys(same.batch().inputs[1], 3), plain)


@pytest.mark.parametrize("miner", [Queue(), Mochi(8, 8, 8)])
def test_it_learns(miner: Queue) -> None:
    world = World(miner, momentum=0.9)
    world.train(4)
    before = world.score(*range(40)).loss.item()
    world.train(120)
    assert world.score(*range(40)).loss.item() < 0.8 * before
    assert world.objective.queue.filled == K
