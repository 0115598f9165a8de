"""How the trainer draws a training batch, and announces those to come."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from conftest import Train
from torch import Tensor

from minesweep.datasets.base import Batch, Data, Split
from minesweep.datasets.digits import Digits
from minesweep.miners.base import Miner


@dataclass
class Watched(Split):
    """A split that remembers what it was asked for."""

    drawn: dict[int, list[int]] = field(default_factory=dict)
    expected: dict[int, list[int]] = field(default_factory=dict)

    @property
    def ahead(self) -> int:
        return 2

    def to(self, device: torch.device | str) -> Watched:
        return self

    def draw(self, rows: Tensor, step: int) -> Batch:
        self.drawn[step] = rows.tolist()
        return super().draw(rows, step)

    def expect(self, rows: Tensor, step: int) -> None:
        assert step not in self.drawn
        self.expected[step] = rows.tolist()


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[Watched]:
    """The training splits that runs on digits load."""
    load, splits = Digits.load, []

    def watching(self: Digits, data_dir: Path) -> Data:
        data = load(self, data_dir)
        data.train = Watched(data.train.inputs, data.train.labels)
        splits.append(data.train)
        return data

    monkeypatch.setattr(Digits, "load", watching)
    monkeypatch.setattr("minesweep.training.run._loaded", {})
    return splits


def test_every_step_draws_once_what_was_announced(train: Train, watched: list[Watched]) -> None:
    train("miner=ohem")
    (split,) = watched
    assert list(split.drawn) == list(range(30))
    assert split.expected == {step: split.drawn[step] for step in range(1, 30)}


def test_a_proposal_that_may_look_at_the_model_is_not_announced(
    train: Train, watched: list[Watched]
) -> None:
    # random_k has a proposal of its own; half of the steps are uniform.
    train("miner=random_k", "miner.k=8", "miner.start=0.5")
    (split,) = watched
    assert list(split.expected) == list(range(1, 15))
    assert all(split.expected[step] == split.drawn[step] for step in split.expected)


def test_only_a_proposal_of_ones_own_is_unforeseen() -> None:
    class Own(Miner):
        def propose(self, pool: object, step: int) -> Tensor:  # type: ignore[override]
            return torch.arange(3)

    assert Miner().foreseen(0)
    assert not Own().foreseen(0)
