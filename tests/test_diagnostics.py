"""What a run tells at its end of what it has seen."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from minesweep.datasets.base import Batch, Split
from minesweep.objectives.base import Outcome
from minesweep.training.diagnostics import Diagnostics


def seen(losses: Tensor, flipped: Tensor | None, rows: Tensor) -> dict[str, Any]:
    """The summary after one step on these rows."""
    split = Split(torch.zeros(6, 1), torch.zeros(6, dtype=torch.long), flipped)
    diagnostics = Diagnostics(split, num_classes=2)
    weights = torch.ones(len(rows))
    outcome = Outcome(losses.mean(), losses, weights)
    diagnostics.update(outcome, Batch(split.inputs[rows], split.labels[rows], rows))
    return diagnostics.summary()


def test_the_hardest_of_the_run_are_suspected() -> None:
    flipped = torch.tensor([True, False, False, True, False, False])
    losses = torch.tensor([5.0, 1.0, 4.0, 3.0])
    # Two are suspected, rows 0 and 2; the wrong labels are 0 and 3.
    found = seen(losses, flipped, torch.tensor([0, 1, 2, 3]))
    assert found == {"mining/suspicion_precision": 0.5}
    # Row 5 was never scored and is suspected last.
    found = seen(losses, flipped, torch.tensor([0, 1, 3, 2]))
    assert found == {"mining/suspicion_precision": 1.0}


def test_nothing_is_told_where_nothing_is_known() -> None:
    losses, rows = torch.tensor([1.0, 2.0]), torch.tensor([0, 1])
    assert seen(losses, None, rows) == {}
    assert seen(losses, torch.zeros(6, dtype=torch.bool), rows) == {}
    pairs = torch.tensor([[0, 1], [2, 3]])
    assert seen(losses, torch.ones(6, dtype=torch.bool), pairs) == {}
