"""The triplet loss, its miners in the batch, and the siamese LSTM."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from minesweep.datasets.base import Batch
from minesweep.datasets.quora import drop_shared, duplicate_groups
from minesweep.datasets.text import encode
from minesweep.miners.base import Miner, Pool, uniform_batch
from minesweep.miners.closest_negative import ClosestNegative
from minesweep.miners.in_batch import InBatch
from minesweep.miners.smooth import Smooth
from minesweep.models.lstm import PackedLSTM
from minesweep.models.siamese_lstm import SiameseLSTM
from minesweep.objectives.terms import Hinge, Similarities
from minesweep.objectives.triplet import Triplet

V1 = [[0.26726124, 0.53452248, 0.80178373], [0.5178918, 0.57543534, 0.63297887]]
V2 = [[0.26726124, 0.53452248, 0.80178373], [-0.5178918, -0.57543534, -0.63297887]]
LECTURE = [
    [0.9, -0.8, 0.3, -0.5],
    [-0.4, 0.5, 0.1, -0.1],
    [0.3, 0.1, -0.4, -0.8],
    [-0.5, -0.2, -0.7, 0.5],
]


def triplet(**options: object) -> Triplet:
    return Triplet({"mean": Hinge("mean"), "hard": Hinge("hard")}, **options)  # type: ignore[arg-type]


def pool(labels: Tensor, batch_size: int = 8, steps: int = 100, **further: object) -> Pool:
    return Pool(len(labels), labels, batch_size, 0, steps, encode=lambda rows: rows, **further)  # type: ignore[arg-type]


def ready(miner: Miner, steps: int = 100) -> Miner:
    miner.setup(pool(torch.arange(64), steps=steps))
    return miner


@pytest.mark.parametrize(
    ("mask", "reduction", "value"),
    [("none", "mean", 0.5), ("harder_than_positive", "sum", 0.7035077)],
)
def test_check_values_of_the_assignment(mask: str, reduction: str, value: float) -> None:
    # The rows of v2 v1^T are the anchors there, so v2 is the first tower here.
    batch = Batch(torch.tensor(V2 + V1), torch.arange(2), torch.arange(2))
    outcome = triplet(reduction=reduction)(nn.Identity(), batch, ready(ClosestNegative(mask)), 0)
    assert outcome.loss.item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    ("mask", "value"), [("harder_than_positive", 0.5166667), ("none", 1.4666667)]
)
def test_check_values_of_the_lecture(mask: str, value: float) -> None:
    scores = torch.tensor(LECTURE)
    valid, positive = ~torch.eye(4, dtype=torch.bool), scores.diagonal()
    weights = ready(ClosestNegative(mask)).select(scores, step=0, valid=valid, positive=positive)
    losses = triplet().losses(Similarities(scores, positive, valid, weights))  # type: ignore[arg-type]
    assert sum(losses.values()).sum().item() == pytest.approx(value, abs=1e-6)  # type: ignore[union-attr]


@st.composite
def similarity(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    rows, columns = draw(st.integers(1, 6)), draw(st.integers(1, 7))
    # Few distinct values, so that equal scores and equality with the positive occur.
    values = st.integers(-5, 5).map(lambda value: value / 5)
    scores = draw(st.lists(values, min_size=rows * columns, max_size=rows * columns))
    valid = draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns))
    positive = draw(st.lists(values, min_size=rows, max_size=rows))
    shape = (rows, columns)
    return torch.tensor(scores).view(shape), torch.tensor(valid).view(shape), torch.tensor(positive)


@settings(deadline=None, max_examples=150)
@given(similarity(), st.sampled_from(["harder_than_positive", "none"]))
def test_closest_negative_is_the_naive_loop(case: tuple[Tensor, Tensor, Tensor], mask: str) -> None:
    scores, valid, positive = case
    weights = ready(ClosestNegative(mask)).select(scores, step=3, valid=valid, positive=positive)
    for row in range(len(scores)):
        negatives = [j for j in range(scores.shape[1]) if valid[row, j]]
        for j in range(scores.shape[1]):
            mean = 1 / len(negatives) if j in negatives else 0
            assert weights["mean"][row, j] == pytest.approx(mean)  # type: ignore[index]
        seen = [j for j in negatives if mask == "none" or scores[row, j] <= positive[row]]
        best = max(seen, key=lambda j: (scores[row, j].item(), -j), default=None)
        expected = [float(j == best) for j in range(scores.shape[1])]
        assert weights["hard"][row].tolist() == expected  # type: ignore[index]


@settings(deadline=None, max_examples=150)
@given(similarity(), st.floats(0.01, 0.99))
def test_the_annealed_mask_lies_between_the_two(
    case: tuple[Tensor, Tensor, Tensor], share: float
) -> None:
    scores, valid, positive = case
    miner = ClosestNegative("annealed", anneal=1.0)
    ready(miner, steps=1000)
    step = round(share * 1000)
    got = miner.select(scores, step=step, valid=valid, positive=positive)["hard"]
    chance = torch.rand(len(scores), generator=miner.generator(step))
    for row in range(len(scores)):
        negatives = [j for j in range(scores.shape[1]) if valid[row, j]]
        ranked = sorted(negatives, key=lambda j: (-scores[row, j].item(), j))
        violated = sum(scores[row, j] > positive[row] for j in negatives)
        hidden = int(violated - (miner.admitted(step) * violated + chance[row]).floor())
        expected = [float(ranked[hidden:][:1] == [j]) for j in range(scores.shape[1])]
        assert got[row].tolist() == expected


def test_the_annealed_mask_starts_masked_and_ends_unmasked() -> None:
    scores = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    context = {"valid": ~torch.eye(16, dtype=torch.bool), "positive": scores.diagonal()}
    annealed = ready(ClosestNegative("annealed", anneal=0.5))
    for step, mask in ((0, "harder_than_positive"), (50, "none"), (99, "none")):
        expected = ready(ClosestNegative(mask)).select(scores, step=step, **context)["hard"]  # type: ignore[index,arg-type]
        assert annealed.select(scores, step=step, **context)["hard"].equal(expected)  # type: ignore[index,arg-type]
    assert [annealed.admitted(step) for step in (0, 25, 50, 99)] == [0, 0.5, 1, 1]  # type: ignore[operator]


def test_smooth_has_the_gradient_of_logsumexp_and_tends_to_the_closest_negative() -> None:
    scores = torch.randn(8, 8, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    valid, positive = ~torch.eye(8, dtype=torch.bool), scores.diagonal()
    leaf = scores.masked_fill(~valid, -torch.inf).requires_grad_()
    (0.3 * (leaf / 0.3).logsumexp(1)).sum().backward()
    weights = ready(Smooth(0.3)).select(scores, valid=valid, positive=positive)["hard"]  # type: ignore[index]
    torch.testing.assert_close(weights, leaf.grad)
    cold = ready(Smooth(1e-4)).select(scores, valid=valid, positive=positive)["hard"]  # type: ignore[index]
    closest = ready(ClosestNegative("none")).select(scores, valid=valid, positive=positive)["hard"]  # type: ignore[index]
    torch.testing.assert_close(cold, closest)


@pytest.mark.parametrize("directions", ["first", "both"])
@pytest.mark.parametrize(
    "miner", [ClosestNegative("none"), ClosestNegative(), ClosestNegative("annealed"), Smooth(1.0)]
)
def test_duplicates_are_never_negatives(miner: InBatch, directions: str) -> None:
    labels = torch.tensor([0, 1, 0, 2, 1, 3])
    inputs = torch.randn(12, 4, generator=torch.Generator().manual_seed(2))
    outcome = triplet(directions=directions)(
        nn.Identity(), Batch(inputs, labels, torch.arange(6)), ready(miner), 40
    )
    same = (labels[:, None] == labels).repeat(2 if directions == "both" else 1, 1)
    for weights in outcome.weights.values():  # type: ignore[union-attr]
        assert weights[same].abs().sum() == 0
        assert weights[~same].sum() > 0


def test_the_second_direction_is_the_loss_of_the_swapped_pairs() -> None:
    inputs = torch.randn(10, 4, generator=torch.Generator().manual_seed(3))
    batch = Batch(inputs, torch.arange(5), torch.arange(5))
    swapped = Batch(inputs.roll(5, 0), torch.arange(5), torch.arange(5))
    miner = ready(ClosestNegative())
    one, other = (triplet()(nn.Identity(), b, miner, 0).loss for b in (batch, swapped))
    both = triplet(directions="both")(nn.Identity(), batch, miner, 0).loss
    torch.testing.assert_close(both, (one + other) / 2)


def test_duplicate_groups_are_the_transitive_closure() -> None:
    groups = duplicate_groups(torch.tensor([[0, 1], [2, 3], [5, 1], [7, 8], [3, 9]]).numpy())
    assert groups[0] == groups[2]
    assert groups[1] == groups[4]
    assert len({groups[0], groups[1], groups[3]}) == 3


def test_drop_shared_leaves_no_question_in_two_parts() -> None:
    draws = torch.Generator().manual_seed(4)
    questions = torch.randint(0, 60, (60, 2), generator=draws).numpy()
    parts = [part.numpy() for part in torch.arange(60).split(20)]
    train, val, test = drop_shared(questions, parts)
    used = [set(questions[part].flatten().tolist()) for part in (train, val, test)]
    assert not used[0] & used[1]
    assert not used[0] & used[2]
    assert not used[1] & used[2]
    assert test.tolist() == parts[2].tolist()
    dropped = set(parts[1].tolist()) - set(val.tolist())
    assert dropped
    assert all(used[2] & set(questions[row].tolist()) for row in dropped)


# --- the siamese LSTM ------------------------------------------------------------------------


def packed(lengths: list[int], width: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    going = torch.tensor(sorted(lengths, reverse=True)) > torch.arange(max(lengths))[:, None]
    return torch.randn(sum(lengths), width, generator=draws, dtype=torch.double), going.sum(1)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=6))
def test_the_lstm_and_its_gradients_are_those_of_torch(lengths: list[int]) -> None:
    torch.manual_seed(0)
    ours = PackedLSTM(3, 4).double()
    data, sizes = packed(lengths, 3, torch.Generator().manual_seed(5))
    found = []
    for torchs in (False, True):
        ours.zero_grad()
        x = data.clone().requires_grad_()
        sentences = PackedSequence(x, sizes)
        outputs = ours(sentences)[0].data if torchs else ours.outputs(sentences)
        outputs.pow(3).sum().backward()
        found.append([outputs.detach(), x.grad, *(weight.grad for weight in ours.parameters())])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_a_sentence_has_the_same_vector_in_any_batch() -> None:
    torch.manual_seed(0)
    model = SiameseLSTM(16, input_shape=(50,), num_classes=1)
    sentences = [[5, 6, 7], [9], list(range(2, 40)), [5, 6, 7, 8]]
    alone = model(encode(sentences[:1], 64))[0]
    for batch in ([0, 1], [1, 0, 2], [3, 2, 1, 0]):
        together = model(encode([sentences[i] for i in batch], 64))[batch.index(0)]
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    assert alone.norm().item() == pytest.approx(1)


def test_the_assignments_mean_depends_on_the_batch() -> None:
    torch.manual_seed(0)
    model = SiameseLSTM(16, mean="padded", input_shape=(50,), num_classes=1)
    rests: tuple[list[list[int]], ...] = ([], [list(range(2, 40))])
    alone, beside_long = (model(encode([[5, 6, 7], *rest], 64))[0] for rest in rests)
    assert (alone @ beside_long).item() < 0.99
    # Padded to the power of two: 5 and 8 tokens beside it make no difference.
    five, eight = (model(encode([[5, 6, 7], [4] * n], 64))[0] for n in (5, 8))
    torch.testing.assert_close(five, eight)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 7), st.integers(1, 5), st.integers(0, 30))
def test_bucketed_batches_hold_each_row_once_an_epoch(n: int, bucket: int, extra: int) -> None:
    size = 4 * n + extra
    lengths = torch.arange(size) * 7 % 11
    rows = pool(torch.zeros(size), n, lengths=lengths, bucket=bucket)
    batches = [uniform_batch(rows, step) for step in range(size // n)]
    assert all(len(batch) == n for batch in batches)
    plain = pool(torch.zeros(size), n)
    drawn = torch.cat([uniform_batch(plain, step) for step in range(size // n)])
    assert sorted(torch.cat(batches).tolist()) == sorted(drawn.tolist())
    again = [uniform_batch(rows, step) for step in reversed(range(size // n))][::-1]
    assert all(one.equal(other) for one, other in zip(batches, again, strict=True))
    if bucket >= size // n:
        spans = sorted((lengths[b].min().item(), lengths[b].max().item()) for b in batches)
        assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_class_balanced_batches() -> None:
    labels = torch.arange(10).repeat_interleave(9)
    rows, miner = pool(labels, 12), ClosestNegative(per_class=3)
    miner.setup(rows)
    for step in range(20):
        batch = miner.propose(rows, step)
        assert len(set(batch.tolist())) == 12
        assert sorted(labels[batch].unique(return_counts=True)[1].tolist()) == [3, 3, 3, 3]
    assert not miner.propose(rows, 0).equal(miner.propose(rows, 1))
    assert miner.propose(rows, 5).equal(miner.propose(rows, 5))
