"""Datasets that other libraries know by name, as torchvision's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Train
from image_files import folder, picture, sizes
from PIL import Image
from test_mnist_files import idx_bytes

from minesweep.compat import import_torchvision
from minesweep.datasets.base import Data
from minesweep.datasets.library_images import LibraryImages
from minesweep.datasets.torchvision import TorchVision
from minesweep.errors import UserError

FAKE = {"size": 60, "image_size": [3, 12, 12], "num_classes": 3}
SMALL: dict[str, Any] = {"image_size": 8, "normalize": "none"}


def load(name: str, data_dir: Path, **settings: Any) -> Data:
    return TorchVision(name, **(SMALL | settings)).load(data_dir)


def in_splits(root: Path, **counts: int) -> Path:
    """The folders of torchvision's Country211, which it does not check further."""
    content = {
        f"country211/{split}/{name}/{n}.jpg": picture(1000 * c + 100 * s + n, kind="JPEG")
        for s, (split, count) in enumerate(counts.items())
        for c, name in enumerate(("AD", "BE", "CH"))
        for n in range(count)
    }
    return folder(root, content)


def test_a_dataset_without_splits_is_dealt_by_class(tmp_path: Path) -> None:
    data = load("FakeData", tmp_path, arguments=FAKE, image_size=12, stored_size=12)
    assert sum(sizes(data)) == 60
    assert data.input_shape == (3, 12, 12)
    known = import_torchvision("datasets").FakeData(60, (3, 12, 12), 3)
    found = {
        image.numpy().tobytes(): label
        for split in (data.train, data.val, data.test)
        for image, label in zip(split.inputs, split.labels.tolist(), strict=True)
    }
    for image, label in known:
        assert found[np.asarray(image).transpose(2, 0, 1).tobytes()] == label
    again = load("FakeData", tmp_path, arguments=FAKE, image_size=12, stored_size=12)
    assert again.fingerprint() == data.fingerprint()


def test_its_own_splits_are_kept(tmp_path: Path) -> None:
    data = load("Country211", in_splits(tmp_path, train=5, valid=3, test=2))
    assert sizes(data) == [15, 9, 6]
    assert data.class_names == ["AD", "BE", "CH"]


def test_official_training_images_are_dealt_where_there_is_no_validation(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    content = {}
    for part, count in (("train", 90), ("t10k", 30)):
        images = draws.integers(0, 255, (count, 28, 28), dtype=np.uint8)
        content[f"KMNIST/raw/{part}-images-idx3-ubyte"] = idx_bytes(images)
        labels = (np.arange(count) % 10).astype(np.uint8)
        content[f"KMNIST/raw/{part}-labels-idx1-ubyte"] = idx_bytes(labels)
    data = load("KMNIST", folder(tmp_path, content), val_share=0.2)
    assert sizes(data) == [70, 20, 30]
    assert data.test.labels.bincount().tolist() == [3] * 10
    assert data.class_names[:3] == ["o", "ki", "su"]
    assert sizes(load("KMNIST", tmp_path, limit=25)) == [25, 10, 30]


TOLD: dict[str, tuple[str, dict[str, Any], str]] = {
    "a wrong name": ("Cifar100", {}, "dataset.name=Cifar100 is not known; did you mean 'CIFAR100'"),
    "a folder": ("ImageFolder", {}, "take dataset=image_folder"),
    "a wrong argument": ("FakeData", {"arguments": {"sise": 3}}, "did you mean 'size'"),
    "a missing argument": ("EMNIST", {}, "dataset.name=EMNIST has several forms: choose one"),
    "no files": ("Country211", {}, "torchvision cannot open it in .*put its files there"),
    "a download that fails": ("CIFAR100", {}, "torchvision cannot open it in .*put its files"),
    "too much memory": (
        "FakeData",
        {"arguments": FAKE, "memory": 0.01},
        "60 images of 12 x 12 pixels need 0 MiB: raise dataset.memory=0.01",
    ),
    "one class": ("FakeData", {"arguments": {**FAKE, "num_classes": 1}}, "all labels are 0"),
    "few images": (
        "FakeData",
        {"arguments": {**FAKE, "size": 6}},
        "leaves no examples for the val",
    ),
}


@pytest.mark.parametrize("name", TOLD, ids=str)
def test_what_cannot_be_had_is_told_in_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("Country211", "CIFAR100"):
        where = getattr(import_torchvision("datasets"), kind)
        monkeypatch.setattr(where, "_URL" if kind == "Country211" else "url", "http://127.0.0.1:9/")
    dataset, settings, message = TOLD[name]
    with pytest.raises(UserError, match=message) as caught:
        load(dataset, tmp_path, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("image", "label", "message"),
    [
        (Image.new("RGB", (9, 9)), (1, 2), r"train 0 has the label '\(1, 2\)', which is no class"),
        (Image.new("RGB", (9, 9)), {"boxes": []}, "which is no class number: choose a dataset for"),
        (Image.new("RGB", (9, 9)), torch.zeros(40), "which is no class number"),
        (Image.new("RGB", (9, 9)), -1, "has the label '-1'"),
        (Image.new("RGB", (9, 9)), 1.5, "has the label '1.5'"),
        ("a.png", 1, "train 0 is no image that can be decoded"),
        (np.zeros((2, 9, 9, 3)), 1, "is no image that can be decoded"),
    ],
)
def test_examples_that_are_no_image_with_a_class_are_told(
    image: Any, label: Any, message: str
) -> None:
    class Given(LibraryImages):
        def load(self, data_dir: Path) -> Data:
            return self.hold("given", {"train": [(image, label)]}, {"train": 1})

    with pytest.raises(UserError, match=message):
        Given(**SMALL).load(Path())


def test_a_run_on_a_dataset_of_torchvision(train: Train, tmp_path: Path) -> None:
    path = in_splits(tmp_path / "data", train=8, valid=3, test=3)
    chosen = ["dataset=torchvision", "dataset.name=Country211", f"paths.data_dir={path}"]
    small = ["dataset.image_size=8", "model=mlp", "trainer.batch_size=8", "trainer.max_steps=3"]
    assert train(*chosen, *small)["step"] == 3
