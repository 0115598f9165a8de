"""An epoch of contrastive learning from hard pairs against PML with its FaissKNN, mining included.

    make bench-peers && python benchmarks/pairs.py     # five minutes; writes results/pairs.json

The same task for both: embed MNIST's 55,000 training images, find a nearest negative for half of
them, and train one epoch of 55,000 pairs (half positive, drawn at random; half hard negatives) in
batches of 256 with a contrastive loss on the same MLP (784-256-32). Ours is ``miner=knn``. The peer
is put together as PML's documentation shows: torchvision's MNIST, ``BaseTester`` for the
embeddings, ``FaissKNN`` for the neighbours, ``ContrastiveLoss`` on given pairs, a ``DataLoader``.

FaissKNN knows no classes. With k = 32 most anchors of a trained model have none but their own class
among their neighbours (the share is kept in the details), so k has to be the size of the largest
class and some: only then both learn from the same pairs. Both start from the same weights, after an
epoch on random pairs. The two take turns.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from common import compare, facts, in_turns, options, write
from epochs import mnist
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from minesweep.compat import import_torchvision
from minesweep.config.build import build
from minesweep.config.compose import compose
from minesweep.config.entry import clear_errors
from minesweep.errors import UserError
from minesweep.tracking.tracker import Tracker
from minesweep.training.display import Display
from minesweep.training.folder import RunFolder
from minesweep.training.loop import Trainer
from minesweep.training.run import load_data
from minesweep.training.signals import Signals

PAIRS, FEW, MORE = 256, 32, 32  # a batch; a usual k; how much k is above the largest class


def main(argv: list[str] | None = None) -> None:
    given = options(str(__doc__), "pairs", rounds=3).parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(Path(folder) / "runs")
        theirs = Theirs(Path(folder), ours)
        known = facts(("pytorch-metric-learning", "faiss-cpu"))
        versions = known["versions"]
        times = in_turns({"ours": ours.epoch, "theirs": theirs.epoch}, given.rounds)
    against = (
        f"PML {versions['pytorch-metric-learning']} + FaissKNN (faiss {versions['faiss-cpu']}), "
        f"k = {theirs.k}"
    )
    row = compare(
        f"mining and an epoch of {ours.size} pairs, MNIST, MLP 784-256-32",
        against,
        times["ours"],
        times["theirs"],
        least=2,
        note=f"with k = {FEW} {theirs.found_among(FEW):.1%} of the anchors find a negative",
    )
    write(given.output, [row], {"seconds": times}, note=given.note, **known)


class Ours:
    """Our run: each call mines anew and trains an epoch."""

    def __init__(self, folder: Path) -> None:
        choices = ["miner=knn", "curriculum@miner.curriculum=always", "logger=none"]
        values = [
            "miner.mine=negatives",
            "miner.k=1",
            "miner.sample=0",
            f"trainer.batch_size={PAIRS}",
        ]
        cfg = compose([*choices, *values, "trainer.max_steps=1000000", "trainer.eval_every=null"])
        cfg.trainer.checkpoint_every = None
        data = load_data(cfg, build(cfg, "dataset"), torch.device("cpu"))
        self.size = len(data.train)
        self.steps = self.size // PAIRS
        cfg.miner.refresh = self.steps
        run = RunFolder(folder)
        run.prepare(cfg)
        self.trainer = Trainer(cfg, data, run)
        self.tracker, self.display = Tracker(cfg, folder), Display("ours", 1, 0, shown=False)
        self.epoch()  # so that the embeddings are those of a trained model

    def epoch(self) -> None:
        assert self.trainer.step % self.steps == 0
        signals = Signals()
        for _ in range(self.steps):
            self.trainer.advance(self.tracker, self.display, signals)


class Pairs(Dataset[Any]):
    """Two images and whether they are of one class."""

    def __init__(self, images: Dataset[Any], pairs: Tensor, same: Tensor) -> None:
        self.images, self.pairs, self.same = images, pairs.tolist(), same

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        first, second = self.pairs[index]
        return self.images[first][0], self.images[second][0], self.same[index]


class Theirs:
    """The peer, from the weights that our run has by now."""

    def __init__(self, folder: Path, ours: Ours) -> None:
        import_torchvision()
        try:
            from pytorch_metric_learning.distances import LpDistance
            from pytorch_metric_learning.losses import ContrastiveLoss
            from pytorch_metric_learning.testers import BaseTester
            from pytorch_metric_learning.utils.inference import FaissKNN
        except ImportError as error:
            raise UserError(f"{error}: make bench-peers installs the peers") from None
        self.images, _ = mnist(folder)
        # The peer's own order of the images; which 55,000 they are differs a little from ours.
        self.labels = torch.as_tensor(self.images.dataset.targets)[self.images.indices]
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 32))
        weights = ours.trainer.model.state_dict().values()
        self.model.load_state_dict(dict(zip(self.model.state_dict(), weights, strict=True)))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        self.loss = ContrastiveLoss(distance=LpDistance(normalize_embeddings=False, power=2))
        self.tester, self.knn = BaseTester(batch_size=1024, dataloader_num_workers=0), FaissKNN()
        self.k = int(self.labels.bincount().max()) + MORE

    def epoch(self) -> None:
        loader = DataLoader(self.pairs(), batch_size=PAIRS, shuffle=True, drop_last=True)
        self.model.train()
        for first, second, same in loader:
            embeddings = self.model(torch.cat([first, second]))
            rows = torch.arange(len(same))
            partners = rows + len(same)
            chosen = (rows[same], partners[same], rows[~same], partners[~same])
            self.optimizer.zero_grad()
            self.loss(embeddings, indices_tuple=chosen).backward()
            self.optimizer.step()

    def pairs(self) -> Pairs:
        """For each image a pair: a random one of its class, or its nearest of another."""
        embeddings = self.embed()
        anchors = torch.randperm(len(embeddings))
        half = len(anchors) // 2
        negatives = self.nearest_negatives(embeddings, anchors[half:], self.k)
        by_class = self.labels.argsort()
        counts = self.labels.bincount()
        starts, label = counts.cumsum(0) - counts, self.labels[anchors[:half]]
        places = (torch.rand(half) * counts[label]).long()
        positives = by_class[starts[label] + places]
        rows = torch.stack([anchors, torch.cat([positives, negatives])], 1)
        return Pairs(self.images, rows, torch.arange(len(rows)) < half)

    def embed(self) -> Tensor:
        self.model.eval()
        embeddings, _ = self.tester.get_all_embeddings(self.images, self.model)
        return embeddings.cpu()

    def nearest_negatives(self, embeddings: Tensor, anchors: Tensor, k: int) -> Tensor:
        """The nearest of another class among k neighbours; the last of them where there is none."""
        found = []
        for part in anchors.split(2048):  # k neighbours of all anchors would not fit in memory
            _, rows = self.knn(embeddings[part], k, embeddings)
            other = self.labels[rows] != self.labels[part][:, None]
            found.append(rows.gather(1, other.int().argmax(1, keepdim=True)).squeeze(1))
        return torch.cat(found)

    def found_among(self, k: int) -> float:
        """Share of anchors that have a negative among their k nearest neighbours."""
        embeddings = self.embed()
        anchors = torch.arange(0, len(embeddings), 20)
        rows = self.nearest_negatives(embeddings, anchors, k)
        return (self.labels[rows] != self.labels[anchors]).float().mean().item()


if __name__ == "__main__":
    with clear_errors():
        main()
