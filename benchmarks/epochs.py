"""Ten epochs of MNIST against Lightning with a DataLoader, written as its users write it.

    make bench-peers && python benchmarks/epochs.py      # about five minutes

Both train the same MLP (784-1024-10, ReLU) with Adam 1e-3 on batches of 512 and the same 55,000
images, with as many threads as torch takes by itself. Ours is ``miner=all`` with nothing logged;
the peer has neither logger nor checkpoints nor progress bar. The peer's loader works in the
training process, or in two workers of its own: the faster of the two is the one compared. The two
take turns, epoch by epoch.
"""

from __future__ import annotations

import gzip
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from common import Row, compare, facts, options, write
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

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

N, TRAINED, RATE = 512, 55_000, 1e-3
WORKERS = (0, 2)
AGREE = 0.02  # how far the two test accuracies may lie apart to count as the same


def main(argv: list[str] | None = None) -> None:
    parser = options(str(__doc__), "epochs", rounds=10)
    parser.description = "ten epochs of MNIST against Lightning; --rounds is the number of epochs"
    given = parser.parse_args(argv)
    rows, details = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for workers in WORKERS:
            ours = Ours(Path(folder) / f"ours-{workers}", given.rounds)
            theirs, accuracy = lightning_epochs(ours, given.rounds, workers, Path(folder))
            rows.append(row(ours, theirs, accuracy, workers))
            details[f"workers={workers}"] = {
                "our_seconds": ours.seconds,
                "their_seconds": theirs,
                "our_accuracy": ours.accuracy(),
                "their_accuracy": accuracy,
            }
    fastest = min(rows, key=lambda found: found.theirs)
    write(given.output, [fastest], details, note=given.note, **facts(("lightning", "torchvision")))


def row(ours: Ours, theirs: list[float], accuracy: float, workers: int) -> Row:
    from lightning import __version__

    apart = abs(accuracy - ours.accuracy())
    if apart > AGREE:
        raise UserError(f"the test accuracies lie {apart:.3f} apart: no comparison")
    return compare(
        "an epoch of MNIST, MLP 784-1024-10, n = 512",
        f"Lightning {__version__} + DataLoader(num_workers={workers})",
        ours.seconds,
        theirs,
        least=5,
        note=f"test accuracy {ours.accuracy():.4f} against {accuracy:.4f}",
    )


class Ours:
    """Our run, an epoch at a time."""

    def __init__(self, folder: Path, epochs: int) -> None:
        cfg = compose(
            [
                *("miner=all", "logger=none", f"trainer.batch_size={N}", f"optimizer.lr={RATE}"),
                *(f"trainer.max_epochs={epochs}", "trainer.eval_every=null"),
            ]
        )
        cfg.trainer.checkpoint_every = None
        run = RunFolder(folder)
        run.prepare(cfg)
        data = load_data(cfg, build(cfg, "dataset"), torch.device("cpu"))
        assert len(data.train) == TRAINED, len(data.train)
        self.trainer = Trainer(cfg, data, run)
        self.tracker, self.display = Tracker(cfg, folder), Display("ours", 1, 0, shown=False)
        self.signals = Signals()
        self.seconds: list[float] = []

    def epoch(self) -> None:
        began = time.perf_counter()
        for _ in range(TRAINED // N):
            self.trainer.advance(self.tracker, self.display, self.signals)
        self.seconds.append(time.perf_counter() - began)

    def accuracy(self) -> float:
        return self.trainer.evaluate(self.trainer.data.test)["accuracy"]


def lightning_epochs(
    ours: Ours, epochs: int, workers: int, folder: Path
) -> tuple[list[float], float]:
    """Seconds of each of the peer's epochs, between which ours run, and its test accuracy."""
    import_torchvision()
    try:
        import lightning
    except ImportError as error:
        raise UserError(f"{error}: make bench-peers installs the peers") from None
    train, test = mnist(folder)
    loader = DataLoader(
        train,
        batch_size=N,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    seconds: list[float] = []

    class Turns(lightning.Callback):
        def on_train_epoch_start(self, *_: Any) -> None:
            self.began = time.perf_counter()

        def on_train_epoch_end(self, *_: Any) -> None:
            seconds.append(time.perf_counter() - self.began)
            ours.epoch()

    lightning.seed_everything(0)
    module = classifier(lightning)
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Turns()],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on workers
        trainer.fit(module, loader)
    module.eval()
    with torch.no_grad():
        right = [
            (module(images).argmax(1) == labels).float()
            for images, labels in DataLoader(test, batch_size=2048)
        ]
    return seconds, torch.cat(right).mean().item()


def mnist(folder: Path) -> tuple[Subset[Any], Dataset[Any]]:
    """torchvision's own MNIST over the same files, unpacked where it looks for them."""
    datasets = import_torchvision("datasets")
    transforms = import_torchvision("transforms")
    raw = folder / "MNIST" / "raw"
    if not raw.exists():
        raw.mkdir(parents=True)
        source = Path(compose([]).paths.data_dir) / "MNIST" / "raw"
        for path in source.glob("*.gz"):
            (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
    )
    train, test = (
        datasets.MNIST(folder, train=part, transform=transform) for part in (True, False)
    )
    return Subset(train, range(TRAINED)), test


def classifier(lightning: Any) -> Any:
    class Classifier(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Sequential(
                nn.Flatten(), nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 10)
            )
            self.loss = nn.CrossEntropyLoss()

        def forward(self, images: Tensor) -> Tensor:
            return self.model(images)

        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            images, labels = batch
            loss = self.loss(self(images), labels)
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=RATE)

    return Classifier()


if __name__ == "__main__":
    with clear_errors():
        main()
