"""MoCHi's mixes against a naive loop over vectors, its masks, its start, its oracle."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import yaml
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import Tensor
from torch.nn import functional

from minesweep.config.compose import compose
from minesweep.errors import UserError
from minesweep.miners.base import Pool
from minesweep.miners.mochi import Mochi
from minesweep.miners.queue import Queue
from minesweep.seeding import uniform
from minesweep.training.schedules import cosine

B, K, DIM, SEED = 5, 40, 8, 3


def unit(count: int, dim: int = DIM, seed: int = 0) -> Tensor:
    return functional.normalize(
        torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)), dim=1
    )


def ready(miner: Queue, steps: int = 10) -> Any:
    miner.setup(Pool(100, torch.zeros(100, dtype=torch.long), B, SEED, steps, lambda rows: rows))
    return miner


ROWS = torch.tensor([7, 3, 99, 0, 41])


def extended(
    miner: Mochi, query: Tensor, queue: Tensor, mask: Tensor | None = None, step: int = 0
) -> Tensor | None:
    scores = query @ queue.T
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return miner.extend(query, queue, scores, step=step, rows=ROWS[: len(query)])


def mixes(
    miner: Mochi, query: Tensor, queue: Tensor, mask: Tensor | None = None, step: int = 0
) -> Tensor:
    """``[B, s1 + s2, dim]``: the mixes, which are the gradients of their similarities."""
    query = query.clone().requires_grad_()
    scores = extended(miner, query, queue, mask, step)
    assert scores is not None
    found = [torch.autograd.grad(scores[:, i].sum(), query, retain_graph=True)[0]
             for i in range(scores.shape[1])]  # fmt: skip
    return torch.stack(found, 1)


def naive(miner: Mochi, query: Tensor, queue: Tensor, mask: Tensor, step: int = 0) -> Tensor:
    """The same by the book: a loop over queries and mixes, in vectors."""
    found = []
    for row, q, allowed in zip(ROWS, query, mask, strict=True):
        order = sorted(allowed.nonzero().flatten().tolist(), key=lambda i: -float(q @ queue[i]))
        top = queue[order[: miner.n_hard]]
        count = len(top)
        mixed = []
        draws = uniform(SEED, f"mix 1/{step}/0", row[None], 3 * miner.s1)[0].view(3, -1)
        for alpha, u, v in draws.T.tolist():
            i = int(u * count)
            j = (i + 1 + int(v * (count - 1))) % count
            assert i != j
            mixed.append(alpha * top[i] + (1 - alpha) * top[j])
        draws = uniform(SEED, f"mix 2/{step}/0", row[None], 2 * miner.s2)[0].view(2, -1)
        for share, u in draws.T.tolist():
            beta = share / 2
            mixed.append(beta * q + (1 - beta) * top[int(u * count)])
        found.append(functional.normalize(torch.stack(mixed), dim=1))
    return torch.stack(found)


@given(
    st.integers(0, 10_000),
    st.sampled_from([2, 3, 7, 39, 40, 1000]),
    st.integers(1, 6),
    st.integers(1, 6),
)
@settings(max_examples=40, deadline=None)
def test_the_mixes_are_those_of_a_naive_loop(seed: int, n_hard: int, s1: int, s2: int) -> None:
    query, queue = unit(B, seed=seed), unit(K, seed=seed + 1)
    mask = torch.rand(B, K, generator=torch.Generator().manual_seed(seed)) < 0.7
    mask[:, :2] = True
    miner = ready(Mochi(n_hard, s1, s2))
    expected = naive(miner, query, queue, mask, step=seed % 7)
    found = mixes(miner, query, queue, mask, step=seed % 7)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)
    similarities = extended(miner, query, queue, mask, step=seed % 7)
    by_hand = torch.einsum("bd,bsd->bs", query, expected)
    torch.testing.assert_close(similarities, by_hand, atol=2e-6, rtol=0)


def test_each_query_mixes_its_own_hardest() -> None:
    """The published fault: all queries mixed the hardest of query 0."""
    # Query b is most similar to its own two entries, which live in dimensions of their own.
    query = torch.eye(4, 12)
    queue = torch.zeros(8, 12)
    for b in range(4):
        for half in range(2):
            queue[2 * b + half, b] = 1
            queue[2 * b + half, 4 + 2 * b + half] = 1
    queue = functional.normalize(queue, dim=1)
    found = mixes(ready(Mochi(n_hard=2, s1=16, s2=16)), query, queue)
    for b in range(4):
        own = torch.zeros(12, dtype=torch.bool)
        own[[b, 4 + 2 * b, 5 + 2 * b]] = True
        assert (found[b][:, ~own] == 0).all()
        # Every mix of type 1 is of both entries: never one with itself.
        assert (found[b, :16][:, [4 + 2 * b, 5 + 2 * b]] > 0).all()


def test_mixes_have_unit_length_and_no_gradient_of_their_own() -> None:
    query, queue = unit(B), unit(K, seed=1)
    found = mixes(ready(Mochi(10, 30, 30)), query, queue)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(B, 60))
    # The gradient of the query alone: the queue gets none through the lengths.
    queue.requires_grad_()
    scores = extended(ready(Mochi(10, 30, 0)), query, queue.detach())
    assert scores is not None
    assert not scores.requires_grad


def test_type_2_leans_to_the_negative() -> None:
    query, queue = unit(B), unit(K, seed=1)
    found = mixes(ready(Mochi(1, 0, 200)), query, queue)
    nearest = queue[(query @ queue.T).argmax(1)]
    to_negative = (found * nearest[:, None]).sum(-1)
    to_query = (found * query[:, None]).sum(-1)
    assert (to_negative >= to_query - 1e-6).all()
    shares = ready(Mochi(1, 0, 200, beta_range=[0.0, 0.0]))
    torch.testing.assert_close(mixes(shares, query, queue), nearest[:, None].expand(-1, 200, -1))


@pytest.mark.parametrize(
    ("starts", "widths"),
    [((0, 0), [5, 5, 5]), ((1, 2), [None, 2, 5]), ((2, 0), [3, 3, 5])],
)
def test_mixing_starts_at_its_step_and_0_is_the_first(starts: Any, widths: list[Any]) -> None:
    miner = ready(Mochi(10, 2, 3, *starts))
    found = [extended(miner, unit(B), unit(K, seed=1), step=step) for step in range(3)]
    assert [None if part is None else part.shape[1] for part in found] == widths


def test_what_is_masked_is_never_mixed() -> None:
    query, queue = unit(B), unit(K, seed=1)
    mask = torch.zeros(B, K, dtype=torch.bool)
    for b in range(B):
        mask[b, 8 * b : 8 * b + 8] = True
    found = mixes(ready(Mochi(20, 12, 0)), query, queue, mask)
    for b in range(B):
        basis = queue[mask[b]]
        # Each is of two of the eight, with weights that are not negative.
        pairs = [(i, j) for i in range(8) for j in range(i)]
        gaps = torch.stack([_gap(found[b], basis[i], basis[j]) for i, j in pairs])
        assert gaps.amin(0).max() < 1e-5


def _gap(mixed: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """How far each mix is from the cone of x and y."""
    shares = mixed @ torch.linalg.pinv(torch.stack([x, y]))
    return (mixed - shares.clamp(min=0) @ torch.stack([x, y])).norm(dim=1)


def test_queries_with_too_few_negatives_have_no_mixes() -> None:
    query, queue = unit(3).requires_grad_(), unit(K, seed=1)
    mask = torch.zeros(3, K, dtype=torch.bool)
    mask[1, 4] = mask[2, 4] = mask[2, 5] = True
    scores = extended(ready(Mochi(10, 4, 4)), query, queue, mask)
    assert scores is not None
    finite = scores.isfinite()
    assert finite[:, :4].any(1).tolist() == [False, False, True]
    assert finite[:, 4:].any(1).tolist() == [False, True, True]
    scores.masked_fill(~finite, 0).sum().backward()
    assert query.grad is not None
    assert query.grad.isfinite().all()


def test_a_query_draws_the_same_in_any_batch() -> None:
    query, queue = unit(B), unit(K, seed=1)
    miner = ready(Mochi(10, 6, 6))
    whole = extended(miner, query, queue)
    assert whole is not None
    part = miner.extend(query[2:4], queue, query[2:4] @ queue.T, step=0, rows=ROWS[2:4])
    torch.testing.assert_close(part, whole[2:4])
    other = extended(miner, query, queue, step=1)
    assert not torch.equal(other, whole)


# --- what is left out -----------------------------------------------------------------------------


def test_the_oracle_leaves_out_the_own_class() -> None:
    scores = unit(B) @ unit(K, seed=1).T
    labels, queue_labels = torch.arange(B) % 3, torch.arange(K) % 3
    weights = Queue(oracle=True).select(scores, labels=labels, queue_labels=queue_labels)
    assert torch.equal(weights > 0, labels[:, None] != queue_labels)


@pytest.mark.parametrize("oracle", [False, True])
def test_the_window_skips_each_querys_hardest(oracle: bool) -> None:
    scores = unit(B) @ unit(K, seed=1).T
    valid = torch.rand(B, K, generator=torch.Generator().manual_seed(5)) < 0.8
    labels, queue_labels = torch.arange(B) % 3, torch.arange(K) % 3
    miner = Queue(skip_hardest=0.1, oracle=oracle)
    weights = miner.select(scores, valid=valid, labels=labels, queue_labels=queue_labels)
    for b in range(B):
        left = valid[b] & ((labels[b] != queue_labels) if oracle else True)
        skipped = scores[b].masked_fill(~left, -2).topk(4).indices
        expected = torch.ones(K)
        if oracle:
            expected *= labels[b] != queue_labels
        expected[skipped] = 0
        assert torch.equal(weights[b], expected)


def test_false_negatives_among_the_hardest_are_counted() -> None:
    query, queue = unit(B), unit(K, seed=1)
    miner = ready(Mochi(6, 2, 2))
    assert miner.metrics(0)["mining/false_negative_share_hardest"].isnan()
    labels, queue_labels = torch.arange(B) % 2, torch.arange(K) % 2
    scores = query @ queue.T
    miner.extend(query, queue, scores, step=0, rows=ROWS, labels=labels, queue_labels=queue_labels)
    places = scores.topk(6).indices
    expected = (queue_labels[places] == labels[:, None]).double().mean().item()
    assert miner.metrics(0)["mining/false_negative_share_hardest"].item() == pytest.approx(expected)


@pytest.mark.parametrize("bounds", [[0.5, 0.1], [0.0, 1.5], [0.5], 0.5, "01"])
def test_bounds_that_cannot_be_meant_are_told(bounds: Any) -> None:
    with pytest.raises(UserError, match="must be two numbers in"):
        Mochi(beta_range=bounds)


def test_memory_does_not_grow_with_the_dimension_times_the_mixes() -> None:
    """The largest tensor made is of B * K or of a chunk of mixes, never [B, s, dim]."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            out = func(*args, **(kwargs or {}))
            for item in out if isinstance(out, tuple | list) else [out]:
                if isinstance(item, Tensor):
                    Largest.elements = max(Largest.elements, item.numel())
            return out

    queries, dim, mixed = 64, 256, 512
    query, queue = unit(queries, dim), unit(1024, dim, seed=1)
    scores = query @ queue.T
    miner = ready(Mochi(512, mixed, mixed))
    with Largest():
        miner.extend(query, queue, scores, step=0, rows=torch.arange(queries))
    assert Largest.elements < queries * mixed * dim / 3
    assert Largest.elements <= max(2**13 * dim, 6 * queries * mixed)


# --- the seed's settings --------------------------------------------------------------------------


def test_the_experiment_has_the_defaults_that_the_page_gives_for_each_flag() -> None:
    page = (ROOT / "docs" / "how-to" / "mochi.md").read_text()
    lines = [line for line in page.splitlines() if line.startswith("| `-")]
    keys = [match for line in lines for match in re.findall(r"`([a-z]\S*)=(\S+?)`", line)]
    assert len(lines) == 23
    cfg = compose(["experiment=mochi/seed"])
    found = {key: OmegaConf.select(cfg, key) for key, _ in keys}
    expected = {key: yaml.safe_load(value) for key, value in keys} | {"optimizer.lr": 2e-4}
    for absent in ("trainer.device", "ckpt_path"):
        expected.pop(absent, None)
        found.pop(absent, None)
    assert found == expected
    assert cfg.optimizer.lr * cfg.scheduler.warmup_from == pytest.approx(2.5e-7)
    assert cfg.optimizer.lr * cfg.scheduler.final == pytest.approx(2.5e-6)


def test_the_warm_up_begins_at_its_own_rate() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    scheduler = cosine(optimizer, steps=30, warmup=10, final=0.1, warmup_from=0.5)
    rates = []
    for _ in range(31):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[:10] == pytest.approx([1 + (step + 1) / 10 for step in range(10)])
    assert rates[10] == pytest.approx(2.0)
    assert rates[20] == pytest.approx(2 * 0.55)
    assert rates[30] == pytest.approx(0.2)
