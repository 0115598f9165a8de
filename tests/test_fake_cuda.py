"""Each miner and objective trains on a device as on the CPU, and leaves no tensor behind there.

No GPU is needed: see ``pretended``, which runs each operation on torch's fake ``cuda`` tensors.
The real trainer takes the steps, so what a step needs of the host (FAISS, NumPy) gets real values.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, SMALL, choices, on_digits
from pretended import DEVICE, Placed, a_device
from torch import Tensor, nn
from torch.nn import functional

from minesweep import HardExamples
from minesweep.config.build import build
from minesweep.config.compose import compose
from minesweep.datasets.base import Data
from minesweep.datasets.check import checked
from minesweep.miners import Miner, Ohem
from minesweep.training.folder import RunFolder
from minesweep.training.loop import Trainer

STEPS = 5
# A fused step is a kernel of CUDA itself; torch knows on which devices it has one.
FIXED = (*SMALL, f"trainer.max_steps={STEPS}", "trainer.progress=false", "++optimizer.fused=false")


def steps(words: list[str], folder: Path, place: Any = None) -> list[dict[str, float]]:
    """The rows of a few steps of the trainer, and what it evaluates and shows at the end."""
    cfg = compose([*FIXED, *words])
    data: Data = checked(build(cfg, "dataset").load(Path(cfg.paths.data_dir)))
    trainer = Trainer(cfg, data.to(place) if place is not None else data, RunFolder(folder))
    rows = []
    trainer.model.train()
    for step in range(1, STEPS + 1):
        outcome, batch = trainer.update()
        trainer.diagnostics.update(outcome, batch)
        mined = trainer.miner.metrics(step - 1)
        row = trainer.diagnostics.row(outcome, batch, step, mined)
        rows.append({**row, "loss": outcome.loss.item()})
        trainer.miner.distributions(step - 1)
    with torch.no_grad():
        shown = trainer.objective.mined(batch, outcome, 4)
        rows.append(trainer.evaluate(trainer.data.val, trainer.objective.validate))
    assert shown is None or shown.record(STEPS)
    return rows


def compared(words: list[str], folder: Path) -> None:
    expected = steps(words, folder / "cpu")
    with a_device():
        found = steps(words, folder / "device", DEVICE)
    for one, other in zip(expected, found, strict=True):
        # The seconds that a search took are no result.
        assert one.keys() == other.keys()
        same = {name: value for name, value in one.items() if "seconds" not in name}
        assert same == pytest.approx({name: other[name] for name in same}, rel=1e-4, nan_ok=True)
    assert all(math.isfinite(row["loss"]) for row in found[:-1])


@pytest.mark.parametrize("miner", choices("miner"))
def test_each_miner_trains_as_on_the_cpu(miner: str, tmp_path: Path) -> None:
    compared([f"miner={miner}", *on_digits(miner)], tmp_path)


AGAIN = ["miner.k=16", "objective.backward=again"]
SCENES = on_digits("pixel_threshold")
OTHERS: dict[str, list[str]] = {
    "rows": ["miner.k=16", "objective.backward=rows"],
    "again": AGAIN,
    "full": ["miner.k=16", "objective.backward=full"],
    "scored seldom": [*AGAIN, "objective.selecting.every=3"],
    "scored long ago": [*AGAIN, "objective.selecting.stale=20"],
    "pieces, and clipped": [
        *["miner=queue", *on_digits("queue")],
        *["trainer.accumulate=2", "trainer.gradient_clip=1"],
    ],
    "label noise": ["dataset.label_noise=0.2"],
    "squared error": ["objective=l2"],
    "anchors of PML": [
        *["objective=pml", "objective.loss=MultiSimilarityLoss"],
        *["model=embedding_mlp_256", "miner.k=16"],
    ],
    "focal loss of pixels": [
        *[
            "experiment=pixels/focal",
            *SCENES,
            "trainer.batch_size=8",
            "objective.class_weights=null",
        ],
    ],
    "pixels by their loss": ["experiment=pixels/ohem", *SCENES, "trainer.batch_size=8"],
}


@pytest.mark.parametrize("name", OTHERS, ids=str)
def test_other_objectives_and_ways_train_as_on_the_cpu(name: str, tmp_path: Path) -> None:
    if name == "anchors of PML":
        pytest.importorskip("pytorch_metric_learning")
    compared(OTHERS[name], tmp_path)


def test_every_objective_is_among_them() -> None:
    known = {path.stem for path in (ROOT / "conf" / "objective").glob("*.yaml")}
    named = {str(word).partition("objective=")[2] for words in OTHERS.values() for word in words}
    for miner in choices("miner"):
        text = (ROOT / "conf" / "miner" / f"{miner}.yaml").read_text()
        named |= set(re.findall(r"override /objective: (\w+)", text))
    assert known <= named | {"cross_entropy", "pixel_cross_entropy", "pixel_focal"}


def test_a_loop_of_ones_own() -> None:
    with a_device():
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)).to(DEVICE)
        inputs = torch.randn(32, 8).to(DEVICE)
        labels = torch.randint(3, (32,)).to(DEVICE)
        hard = HardExamples(Ohem(k=8))
        loss = hard(
            model, inputs, lambda out: functional.cross_entropy(out, labels, reduction="none")
        )
        loss.backward()
        assert all(isinstance(p.grad, Placed) for p in model.parameters())
        assert hard.log()["samples/k"] == 8


class LeavesItsWeights(Miner):
    """A miner with the fault that these tests are to find."""

    def select(self, scores: Tensor, **context: Any) -> Tensor:
        return scores * torch.linspace(0, 1, len(scores))


def test_a_tensor_left_on_the_cpu_is_found() -> None:
    with a_device(), pytest.raises(RuntimeError, match=r"two (different )?devices,? cuda:0"):
        LeavesItsWeights().select(torch.rand(8).to(DEVICE))
    with a_device(), pytest.raises(RuntimeError, match="index on a device"):
        torch.arange(8)[torch.arange(3, device=DEVICE)]
    with a_device(), pytest.raises(RuntimeError, match="a generator on another device"):
        torch.rand(3, generator=torch.Generator(), device=DEVICE)
    with a_device(), pytest.raises(TypeError, match=r"use Tensor\.cpu\(\) first"):
        torch.arange(3, device=DEVICE).numpy()
