"""Hard examples in a loop of Accelerate: handwritten digits, seconds on a CPU.

pip install -e '.[transformers]'
python examples/accelerate_digits.py
"""

from __future__ import annotations

import argparse
import time

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from minesweep import HardExamples
from minesweep.miners import All, Ohem


def main(steps: int = 40, n: int = 512, k: int = 128) -> dict[str, dict[str, float]]:
    """Trains on all n and on the hardest k of each batch; returns seconds and accuracy."""
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    images, labels = load_digits(return_X_y=True)
    images, labels = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)
    found = {}
    for name, miner in {"all": All(), "hard": Ohem(k=k)}.items():
        set_seed(0)
        net = nn.Sequential(nn.Linear(64, 2048), nn.ReLU(), nn.Linear(2048, 2048), nn.ReLU())
        net.append(nn.Linear(2048, 10))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
        train = TensorDataset(images[:1400], labels[:1400])
        loader = DataLoader(train, n, shuffle=True, drop_last=True)
        model, optimizer, loader = accelerator.prepare(net, optimizer, loader)
        hard = HardExamples(miner)
        began = time.perf_counter()
        while hard.step < steps:
            for inputs, targets in loader:
                optimizer.zero_grad()
                loss = hard(
                    model,
                    inputs,
                    lambda outputs, targets=targets: functional.cross_entropy(
                        outputs, targets, reduction="none"
                    ),
                )
                accelerator.backward(loss)
                optimizer.step()
        seconds = time.perf_counter() - began
        with torch.no_grad():
            correct = net.eval()(images[1400:]).argmax(1) == labels[1400:]
        accuracy = correct.float().mean().item()
        found[name] = {"seconds": seconds, "accuracy": accuracy}
        print(f"{name:5} {seconds:6.1f} s  accuracy {accuracy:.3f}  {hard.log()}")
    saved = 1 - found["hard"]["seconds"] / found["all"]["seconds"]
    print(f"learning from the hardest {k} of {n} saves {saved:.0%} of the time")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40)
    main(parser.parse_args().steps)
