"""Selection, against naive references."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minesweep.errors import UserError
from minesweep.miners import All, Ohem, Pool, RandomK, SelectiveBackprop
from minesweep.miners.base import uniform_batch

# Few distinct values, so that ties are the rule.
losses = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.5]), min_size=1, max_size=40)


def pool(size: int = 100, n: int = 8, seed: int = 0, steps: int = 100) -> Pool:
    return Pool(size, torch.arange(size) % 3, n, seed, steps, lambda rows: rows[:, None].float())


@given(losses=losses, data=st.data())
def test_ohem_selects_what_a_naive_sort_selects(losses: list[float], data: st.DataObject) -> None:
    n = len(losses)
    skipped = data.draw(st.integers(0, n - 1))
    k = data.draw(st.integers(1, n - skipped))
    miner = Ohem(k=k, skip_hardest=skipped / n)
    # The naive way: repeatedly take the largest that is left, the first of equals.
    left, ranked = list(range(n)), []
    while left:
        hardest = max(left, key=lambda i: (losses[i], -i))
        left.remove(hardest)
        ranked.append(hardest)
    weights = miner.select(torch.tensor(losses))
    assert weights.nonzero().flatten().tolist() == sorted(ranked[skipped : skipped + k])
    assert weights.sum() == k


def test_k_wins_over_ratio_and_ratio_is_rounded() -> None:
    scores = torch.rand(10)
    assert Ohem(k=3, ratio=0.9).select(scores).sum() == 3
    assert Ohem(ratio=0.26).select(scores).sum() == 3
    assert Ohem(ratio=0.01).select(scores).sum() == 1


@pytest.mark.parametrize("miner", [Ohem(k=11), RandomK(k=11), Ohem(k=9, skip_hardest=0.2)])
def test_more_than_there_are_is_an_error(miner: Ohem) -> None:
    with pytest.raises(UserError, match="more than the n=10"):
        miner.select(torch.rand(10))


def test_all_selects_everything() -> None:
    assert All().select(torch.rand(7)).tolist() == [1] * 7


def test_random_k_in_a_loop_of_ones_own_selects_k_and_not_always_the_same() -> None:
    miner = RandomK(k=4)
    picks = [miner.select(torch.rand(10), step=step) for step in range(20)]
    assert all(pick.sum() == 4 for pick in picks)
    assert len({tuple(pick.tolist()) for pick in picks}) > 10


def test_random_k_draws_a_part_of_the_uniform_batch_before_the_forward_pass() -> None:
    miner, draws = RandomK(k=3), pool()
    miner.setup(draws)
    for step in range(30):
        rows = miner.propose(draws, step)
        assert len(rows) == 3
        assert set(rows.tolist()) <= set(uniform_batch(draws, step).tolist())
        assert miner.select(torch.rand(3)).tolist() == [1, 1, 1]


def test_an_epoch_of_batches_is_full_and_shows_each_row_at_most_once() -> None:
    draws = pool(size=50, n=8)
    epochs = [[uniform_batch(draws, 6 * epoch + i) for i in range(6)] for epoch in range(3)]
    for epoch in epochs:
        rows = torch.cat(epoch).tolist()
        assert len(rows) == len(set(rows)) == 48
    assert epochs[0][0].tolist() != epochs[1][0].tolist()


def test_batches_depend_on_the_seed_alone() -> None:
    first, again, other = (uniform_batch(pool(seed=seed), 5).tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_mining_is_on_between_start_and_end_and_interrupted() -> None:
    miner = Ohem(k=1, start=0.2, end=0.8, interrupt=5)
    miner.setup(pool(steps=20))
    on = [step for step in range(20) if miner.active(step)]
    assert on == [step for step in range(4, 16) if (step + 1) % 5]


def test_selective_backprop_keeps_by_percentile_to_the_beta() -> None:
    # Losses 1..n once: the chance of rank r (of n) is (r / n)^beta; its mean over the ranks is
    # close to 1 / (1 + beta).
    n, beta = 4000, 3.0
    miner = SelectiveBackprop(beta=beta, history=n)
    scores = torch.arange(1.0, n + 1)[torch.randperm(n)]
    weights = miner.select(scores, step=0)
    expected = ((scores / n) ** beta).double()
    assert weights.mean().item() == pytest.approx(1 / (1 + beta), abs=0.02)
    for low, high in [(0.0, 0.5), (0.5, 0.8), (0.8, 1.0)]:
        part = (scores / n > low) & (scores / n <= high)
        assert weights[part].mean().item() == pytest.approx(expected[part].mean().item(), abs=0.04)


def test_selective_backprop_forgets_what_is_older_than_its_history() -> None:
    miner = SelectiveBackprop(beta=1.0, history=4)
    miner.select(torch.tensor([100.0, 100.0, 100.0]))
    miner.select(torch.tensor([1.0, 2.0]))
    assert sorted(miner.losses.tolist()) == [1.0, 2.0, 100.0, 100.0]
    miner.select(torch.tensor([3.0, 4.0, 5.0, 6.0, 7.0]))
    assert sorted(miner.losses.tolist()) == [4.0, 5.0, 6.0, 7.0]


def test_selective_backprop_with_beta_0_keeps_everything() -> None:
    assert SelectiveBackprop(beta=0.0).select(torch.rand(50)).sum() == 50


@pytest.mark.gpu
@pytest.mark.parametrize("miner", [Ohem(k=5), RandomK(k=5), SelectiveBackprop()])
def test_selection_stays_on_the_device(miner: Ohem) -> None:
    weights = miner.cuda().select(torch.rand(16, device="cuda"))
    assert weights.is_cuda
