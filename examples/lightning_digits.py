"""Hard examples in Lightning: handwritten digits, a small network, seconds on a CPU.

pip install -e '.[lightning]'
python examples/lightning_digits.py
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from minesweep import HardExamples
from minesweep.compat import import_torchvision
from minesweep.loops.lightning import HardExamplesMixin
from minesweep.miners import All, Miner, Ohem

import_torchvision()  # Lightning imports it, and a build for another torch needs this help
import lightning  # noqa: E402


class Digits(HardExamplesMixin, lightning.LightningModule):
    def __init__(self, miner: Miner) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 2048), nn.ReLU(), nn.Linear(2048, 2048), nn.ReLU())
        self.head = nn.Linear(2048, 10)
        self.hard = HardExamples(miner)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.net(images))

    def losses(self, outputs: Tensor, batch: list[Tensor]) -> Tensor:
        return functional.cross_entropy(outputs, batch[1], reduction="none")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def main(steps: int = 40, n: int = 512, k: int = 128) -> dict[str, dict[str, float]]:
    """Trains on all n and on the hardest k of each batch; returns seconds and accuracy."""
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    images, labels = load_digits(return_X_y=True)
    images = torch.tensor(images, dtype=torch.float32) / 16
    labels = torch.tensor(labels)
    train = TensorDataset(images[:1400], labels[:1400])
    found = {}
    for name, miner in {"all": All(), "hard": Ohem(k=k)}.items():
        lightning.seed_everything(0, verbose=False)
        loader = DataLoader(train, n, shuffle=True, drop_last=True)
        model = Digits(miner)
        trainer = lightning.Trainer(
            max_steps=steps,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        began = time.perf_counter()
        trainer.fit(model, loader)
        seconds = time.perf_counter() - began
        with torch.no_grad():
            correct = model.eval()(images[1400:]).argmax(1) == labels[1400:]
        accuracy = correct.float().mean().item()
        found[name] = {"seconds": seconds, "accuracy": accuracy}
        print(f"{name:5} {seconds:6.1f} s  accuracy {accuracy:.3f}  {model.hard.log()}")
    saved = 1 - found["hard"]["seconds"] / found["all"]["seconds"]
    print(f"learning from the hardest {k} of {n} saves {saved:.0%} of the time")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40)
    main(parser.parse_args().steps)
