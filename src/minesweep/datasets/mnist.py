"""MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from minesweep.datasets.base import Data
from minesweep.datasets.download import DownloadError, download, md5
from minesweep.datasets.idx import IdxError, read_idx
from minesweep.datasets.prepare import ArrayDataset, Images, prepare, split
from minesweep.errors import UserError


class Mnist(ArrayDataset):
    """Handwritten digits, 1 x 28 x 28: 55,000 for training, 5,000 for validation, 10,000 test.

    The test split is the official one. Files lie as torchvision lays them, packed or not:
    ``<data_dir>/MNIST/raw/train-images-idx3-ubyte[.gz]`` and three more.

    The arguments are those of :class:`~minesweep.datasets.prepare.ArrayDataset`.
    """

    folder: ClassVar[str] = "MNIST"
    mirrors: ClassVar[tuple[str, ...]] = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://raw.githubusercontent.com/fgnt/mnist/master/",
    )
    checksums: ClassVar[dict[str, str]] = {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    }
    class_names: ClassVar[tuple[str, ...]] = tuple("0123456789")
    official: ClassVar[dict[str, int]] = {"train": 60_000, "t10k": 10_000}
    validation: ClassVar[int] = 5_000
    """How many of the official training rows are held out."""

    def load(self, data_dir: Path) -> Data:
        """Reads the four files, or first downloads those that are missing."""
        raw = Path(data_dir) / self.folder / "raw"
        sizes = (self.official["train"] - self.validation, self.validation)
        train, val = split(self._read(raw, "train"), sizes, self.options.split_seed)
        return prepare(
            train,
            val,
            self._read(raw, "t10k"),
            maximum=255,
            class_names=self.class_names,
            options=self.options,
        )

    def _read(self, raw: Path, part: str) -> Images:
        count = self.official[part]
        pixels = self._array(raw, f"{part}-images-idx3-ubyte.gz", (count, 28, 28), 255)
        labels = self._array(
            raw, f"{part}-labels-idx1-ubyte.gz", (count,), len(self.class_names) - 1
        )
        return Images(
            torch.from_numpy(pixels).unsqueeze(1), torch.from_numpy(labels).to(torch.int64)
        )

    def _array(self, raw: Path, name: str, shape: tuple[int, ...], largest: int) -> np.ndarray:
        path = self._find(raw, name)
        try:
            if path.suffix == ".gz" and (found := md5(path)) != self.checksums[name]:
                raise IdxError(f"MD5 {found}, not {self.checksums[name]}")
            array = read_idx(path)
            if array.dtype != np.uint8 or array.shape != shape or array.max() > largest:
                raise IdxError(f"{array.dtype} of shape {array.shape}, not uint8 of {shape}")
        except IdxError as error:
            raise UserError(
                f"{path} is damaged ({error}): delete it, and it is downloaded again, "
                f"or put a whole {name} there"
            ) from error
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from error
        return array

    def _find(self, raw: Path, name: str) -> Path:
        # Packed first: only the packed files have an official MD5.
        for path in (raw / name, raw / name.removesuffix(".gz")):
            if path.is_file():
                return path
        try:
            return download(name, self.mirrors, raw, self.checksums[name])
        except DownloadError as error:
            raise UserError(
                f"{raw / name} is missing and could not be downloaded ({error}): put it there, "
                "set paths.data_dir to a folder that has it, or use dataset=digits, "
                "which needs no file"
            ) from error


class FashionMnist(Mnist):
    """Articles of clothing, in MNIST's shapes and splits (``<data_dir>/FashionMNIST/raw/``)."""

    folder = "FashionMNIST"
    mirrors = (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    )
    checksums: ClassVar[dict[str, str]] = {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    }
    class_names = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
