"""CIFAR-10 (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009)."""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from minesweep.datasets.base import Data
from minesweep.datasets.download import DownloadError, download, md5
from minesweep.datasets.images import ImageDataset
from minesweep.datasets.prepare import Images, split
from minesweep.errors import UserError


class Cifar10(ImageDataset):
    """Tiny photographs of 10 classes, 3 x 32 x 32: 45,000 / 5,000 and the official 10,000 test.

    The files are those of the binary version (no pickles): ``<data_dir>/cifar-10-batches-bin/``,
    or ``<data_dir>/cifar-10-binary.tar.gz``, which is read without unpacking, and downloaded
    (162 MB, checked by MD5) where both are missing.

    Args:
        **image: See :class:`~minesweep.datasets.images.ImageDataset`.
    """

    archive: ClassVar[str] = "cifar-10-binary.tar.gz"
    checksum: ClassVar[str] = "c32a1d4ab5d03f1284b67883e8d87530"
    mirrors: ClassVar[tuple[str, ...]] = ("https://www.cs.toronto.edu/~kriz/",)
    folder: ClassVar[str] = "cifar-10-batches-bin"
    files: ClassVar[dict[str, tuple[str, ...]]] = {
        "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        "test": ("test_batch.bin",),
    }
    rows: ClassVar[int] = 10_000
    """Images of each file."""
    validation: ClassVar[int] = 5_000
    class_names: ClassVar[tuple[str, ...]] = (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )

    def __init__(self, image_size: int = 32, **image: Any) -> None:
        super().__init__(image_size=image_size, **image)

    def load(self, data_dir: Path) -> Data:
        """Reads the files, or first downloads them."""
        contents = self._contents(Path(data_dir))
        train, test = (self._images(contents, part) for part in ("train", "test"))
        sizes = (len(train.labels) - self.validation, self.validation)
        train, val = split(train, sizes, self.options.split_seed)
        parts = {"train": train[: self.options.limit], "val": val, "test": test}
        return self.data(
            {name: part.pixels for name, part in parts.items()},
            {name: part.labels for name, part in parts.items()},
            self.class_names,
            contents=hashlib.sha256(b"".join(contents.values())).hexdigest()[:16],
        )

    def _images(self, contents: dict[str, bytes], part: str) -> Images:
        # Each image is a byte of label and 3 x 1024 bytes of red, green and blue.
        table = np.concatenate(
            [
                np.frombuffer(contents[name], np.uint8).reshape(self.rows, 3073)
                for name in self.files[part]
            ]
        )
        pixels = torch.from_numpy(table[:, 1:].reshape(-1, 3, 32, 32).copy())
        return Images(pixels, torch.from_numpy(table[:, 0].astype(np.int64)))

    def _contents(self, data_dir: Path) -> dict[str, bytes]:
        folder, archive = data_dir / self.folder, data_dir / self.archive
        names = [name for part in self.files.values() for name in part]
        source = folder if folder.is_dir() else archive
        try:
            if source == folder:
                contents = {name: (folder / name).read_bytes() for name in names}
            else:
                contents = self._unpacked(archive, names)
        except (OSError, EOFError, KeyError, tarfile.TarError, zlib.error) as error:
            raise UserError(
                f"{source} cannot be read ({error}): delete it, and it is downloaded again"
            ) from error
        for name, content in contents.items():
            labels = np.frombuffer(content, np.uint8)[::3073]
            if len(content) != self.rows * 3073 or labels.max() >= len(self.class_names):
                raise UserError(
                    f"{source}: {name} is damaged (not {self.rows} images of 3,073 bytes, or a "
                    "label above 9): delete it, and it is downloaded again"
                )
        return contents

    def _unpacked(self, archive: Path, names: list[str]) -> dict[str, bytes]:
        if not archive.is_file():
            try:
                download(self.archive, self.mirrors, archive.parent, self.checksum)
            except DownloadError as error:
                raise UserError(
                    f"{archive} is missing and could not be downloaded ({error}): put it there, or "
                    "name the folder that has it by paths.data_dir"
                ) from error
        elif (found := md5(archive)) != self.checksum:
            raise UserError(
                f"{archive} is damaged (MD5 {found}, not {self.checksum}): delete it, and it is "
                "downloaded again"
            )
        with tarfile.open(archive) as tar:
            members = {name: tar.extractfile(f"{self.folder}/{name}") for name in names}
            return {name: member.read() for name, member in members.items() if member is not None}
