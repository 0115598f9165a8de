"""When mined pairs take the place of random ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from minesweep.errors import UserError
from minesweep.miners.curriculum import ByLoss, Curriculum, Ramp, Switch


def follow(curriculum: Curriculum, losses: list[float], steps: int = 100) -> list[float]:
    """The mined share before each step."""
    shares = []
    for step, loss in enumerate(losses):
        shares.append(curriculum.share(step, steps))
        curriculum.observe(torch.tensor([loss, 99.0]), 1)
    return [*shares, curriculum.share(len(losses), steps)]


def test_the_switch_of_the_original_is_thrown_once_and_for_ever() -> None:
    switch = Switch(below=60.0, window=3)
    # The mean is over all pairs: (loss + 99) / 2.
    assert follow(switch, [25, 25, 14, 30, 10, 10, 900, 900, 900]) == [0] * 6 + [1] * 4


def test_the_curriculum_by_loss_goes_up_with_patience_and_back_again() -> None:
    curriculum = ByLoss(window=2, patience=2, below=0.5, above=0.9, increment=0.4, most=0.6)
    first, low, middle, high = [10.0, 10.0], [1.0, 1.0], [7.0, 7.0], [9.5, 9.5]
    plan = [first, low, middle, low, low, low, low, low, low, high, low, high, high]
    shares = follow(curriculum, [loss for window in plan for loss in window])
    at_windows = shares[2::2]
    assert at_windows == [0, 0, 0, 0, 0.4, 0.4, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.4]


def test_the_ramp_is_a_line_and_ends_where_it_is_told() -> None:
    assert [Ramp(0.2, 0.6, 0.5).share(step, 100) for step in (0, 25, 50, 99)] == pytest.approx(
        [0.2, 0.4, 0.6, 0.6]
    )
    assert Ramp(0.0, 1.0, 0.0).share(0, 100) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ramp(last=1.5), "miner.curriculum.last=1.5"),
        (lambda: Switch(window=0), "window=0 must be at least 1"),
        (lambda: ByLoss(below=0.9, above=0.5), "below=0.9 must be above 0 and below"),
        (lambda: ByLoss(increment=0.0), "increment=0.0 must be in"),
    ],
)
def test_a_curriculum_that_cannot_be_is_told(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()
