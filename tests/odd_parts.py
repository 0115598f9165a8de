"""Parts of a user's own that return the wrong thing; ``how`` says which."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from minesweep.datasets.base import Batch, Data, Split
from minesweep.datasets.digits import Digits
from minesweep.miners.base import Miner, Pool
from minesweep.objectives.base import Objective, Outcome
from minesweep.objectives.classification import CrossEntropy


class OddMiner(Miner):
    """One hook returns the wrong thing: ``how`` is ``<hook>/<what>``."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.hook, self.what = how.split("/")

    def select(self, scores: Tensor, **context: Any) -> Any:
        if self.hook != "select":
            return torch.ones_like(scores)
        n = len(scores)
        return {
            "scalar": torch.tensor(1.0),
            "short": torch.ones(n - 1),
            "indices": torch.arange(4),
            "none": None,
            "negative": -torch.ones_like(scores),
            "not a number": torch.full_like(scores, torch.nan),
            "matrix": torch.ones(n, n),
            "column": torch.ones(n, 1),
            "list": [1.0] * n,
            "mapping": {"hard": torch.ones_like(scores)},
            "array": scores.numpy(),
        }[self.what]

    def propose(self, pool: Pool, step: int) -> Any:
        n = pool.batch_size
        if self.hook != "propose":
            return super().propose(pool, step)
        return {
            "floats": torch.rand(n),
            "beyond": torch.arange(n) + pool.size,
            "negative": -torch.arange(1, n + 1),
            "empty": torch.zeros(0, dtype=torch.long),
            "pairs": torch.zeros(n, 2, dtype=torch.long),
            "list": list(range(n)),
            "none": None,
            "mask": torch.ones(n, dtype=torch.bool),
        }[self.what]

    def metrics(self, step: int) -> Any:
        return {
            "vector": {"mining/a": torch.ones(3)},
            "none": None,
            "text": {"mining/a": "much"},
            "number as a name": {3: torch.tensor(1.0)},
        }.get(self.what if self.hook == "metrics" else "", {})

    def distributions(self, step: int) -> Any:
        return {"list": {"mining/a": [1, 2]}, "none": None}.get(
            self.what if self.hook == "distributions" else "", {}
        )


class OddObjective(CrossEntropy):
    """One hook returns the wrong thing: ``how`` is ``<hook>/<what>``."""

    def __init__(self, how: str, **options: Any) -> None:
        super().__init__(**options)
        self.hook, self.what = how.split("/")

    def losses(self, outputs: Tensor, labels: Tensor) -> Any:
        losses = super().losses(outputs, labels)
        if self.hook != "losses":
            return losses
        return {
            "mean": losses.mean(),
            "column": losses[:, None],
            "matrix": losses[:, None] * torch.ones(10),
            "short": losses[:-1],
            "none": None,
            "detached": losses.detach(),
            "number": 0.3,
            "integers": losses.long(),
        }[self.what]

    def metrics(self, outputs: Tensor, labels: Tensor) -> Any:
        return {
            "vector": {"train/a": outputs[:, 0]},
            "none": None,
            "text": {"train/a": "good"},
            "list": [1],
        }.get(self.what if self.hook == "metrics" else "", {})

    def details(self, outputs: Tensor, labels: Tensor) -> Any:
        return {"list": {"a": [1] * len(labels)}, "none": None, "number": {"a": 1.0}}.get(
            self.what if self.hook == "details" else "", {}
        )

    def evaluate(self, model: nn.Module, split: Split, chunk: int = 2048) -> Any:
        if self.hook != "evaluate":
            return super().evaluate(model, split, chunk)
        return {
            "vector": {"accuracy": torch.ones(3)},
            "none": None,
            "no monitor": {"loss": 1.0},
            "text": {"accuracy": "good"},
            "complex": {"accuracy": 1j},
            "number": 0.5,
            "number as a name": {3: 1.0, "accuracy": 0.5},
        }[self.what]


class OddForward(Objective):
    """``forward`` returns the wrong thing."""

    evaluates = ("accuracy",)

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def evaluate(self, model: nn.Module, split: Split, chunk: int = 2048) -> dict[str, float]:
        return {"accuracy": 0.5}

    def forward(self, model: nn.Module, batch: Batch, miner: Miner, step: int) -> Any:
        losses = nn.functional.cross_entropy(model(batch.inputs), batch.labels, reduction="none")
        scores, ones, mean = losses.detach(), torch.ones_like(losses), losses.mean()
        return {
            "loss": lambda: mean,
            "none": lambda: None,
            "tuple": lambda: (mean, losses),
            "vector": lambda: Outcome(losses, scores, ones),
            "number": lambda: Outcome(0.5, scores, ones),  # type: ignore[arg-type]
            "detached": lambda: Outcome(mean.detach(), scores, ones),
            "weights": lambda: Outcome(mean, scores, torch.ones(3)),
            "scores": lambda: Outcome(mean, torch.tensor(1.0), ones),
        }[self.how]()


class OddModel(nn.Module):
    """``forward`` returns the wrong thing."""

    def __init__(self, how: str, *, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.how = how
        self.layer = nn.Linear(torch.Size(input_shape).numel(), num_classes)

    def forward(self, inputs: Tensor) -> Any:
        scores = self.layer(inputs.flatten(1))
        return {
            "flat": scores[:, 0],
            "mean": scores.mean(),
            "tuple": (scores, scores),
            "mapping": {"logits": scores},
            "few classes": scores[:, :3],
            "few rows": scores[:-1],
            "none": None,
            "detached": scores.detach(),
            "three dimensions": scores[:, :, None],
            "integers": scores.long(),
        }[self.how]


class NoModule:
    """Takes what a model takes."""

    def __init__(self, *, input_shape: tuple[int, ...], num_classes: int) -> None:
        pass


class OddData(Digits):
    """``load`` returns the wrong thing."""

    def __init__(self, how: str, **options: Any) -> None:
        super().__init__(**options)
        self.how = how

    def load(self, data_dir: Any) -> Any:
        data: Data = super().load(data_dir)
        return {"none": None, "tuple": (data.train, data.val, data.test), "split": data.train}[
            self.how
        ]
