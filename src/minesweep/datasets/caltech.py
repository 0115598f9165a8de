"""Caltech-101 (Li, Andreeto, Ranzato and Perona 2004) and Caltech-256 (Griffin et al. 2007)."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import IO, ClassVar

from minesweep.datasets.base import Data
from minesweep.datasets.download import DownloadError, download, md5
from minesweep.datasets.image_files import list_images
from minesweep.datasets.images import FileDataset
from minesweep.errors import UserError


class Caltech101(FileDataset):
    """Photographs of 101 kinds of objects, 8,677 in all.

    Looked for, in this order: ``<data_dir>/caltech101/101_ObjectCategories/``; a zip of it in
    ``<data_dir>/caltech101/``, read without unpacking; the official archive there, which is
    downloaded (137 MB, checked by MD5) where it is missing, and unpacked once. There is no
    official split: lists in a zip count, see :class:`~minesweep.datasets.image_folder.ImageFolder`.

    The arguments are those of :class:`~minesweep.datasets.images.FileDataset`.
    """

    folder: ClassVar[str] = "caltech101"
    images: ClassVar[str] = "101_ObjectCategories"
    archive: ClassVar[str] = "caltech-101.zip"
    checksum: ClassVar[str] = "3138e1922a9193bfa496528edbbc45d0"
    mirrors: ClassVar[tuple[str, ...]] = ("https://data.caltech.edu/records/mzrjq-6wc02/files/",)
    without: ClassVar[tuple[str, ...]] = ("BACKGROUND_Google",)
    """No class: pictures of anything."""

    def load(self, data_dir: Path) -> Data:
        """Reads the images, or first downloads and unpacks them."""
        return self.read(
            list_images(
                self._find(Path(data_dir) / self.folder),
                val_share=self.val_share,
                test_share=self.test_share,
                split_seed=self.options.split_seed,
                without=self.without,
            )
        )

    def _find(self, folder: Path) -> Path:
        if (folder / self.images).is_dir():
            return folder / self.images
        archive = folder / self.archive
        others = sorted(path for path in folder.glob("*.zip") if path != archive)
        if len(others) == 1:
            return others[0]
        if not archive.is_file():
            try:
                download(self.archive, self.mirrors, folder, self.checksum)
            except DownloadError as error:
                raise UserError(
                    f"{folder / self.images} is missing, and {self.archive} could not be "
                    f"downloaded ({error}): put one of them there, or name the parent of {folder} "
                    "by paths.data_dir"
                ) from error
        self._unpack(archive)
        return folder / self.images

    def _unpack(self, archive: Path) -> None:
        """Unpacks beside the archive, and gives the folder its name when it is whole."""
        if (found := md5(archive)) != self.checksum:
            raise UserError(
                f"{archive} is damaged (MD5 {found}, not {self.checksum}): delete it, and it is "
                "downloaded again"
            )
        try:
            part = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=archive.parent))
        except OSError as error:
            raise UserError(
                f"{archive} cannot be unpacked there ({error.strerror}): unpack it yourself, and "
                "name the folder by paths.data_dir"
            ) from error
        try:
            with self._tar(archive) as packed, tarfile.open(fileobj=packed) as tar:
                tar.extractall(part, filter="data")
            os.replace(part / self.images, archive.parent / self.images)
        except (OSError, KeyError, tarfile.TarError, zipfile.BadZipFile) as error:
            raise UserError(f"{archive} cannot be unpacked: {error}") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _tar(self, archive: Path) -> IO[bytes]:
        # The official zip holds a tar of the images beside one of annotations.
        with zipfile.ZipFile(archive) as outer:
            return outer.open(f"caltech-101/{self.images}.tar.gz")


class Caltech256(Caltech101):
    """Photographs of 256 kinds of objects and of clutter (a class of its own), 30,607 in all.

    Looked for as :class:`Caltech101` is, in ``<data_dir>/caltech256/``; the download is 1.2 GB.
    """

    folder = "caltech256"
    images = "256_ObjectCategories"
    archive = "256_ObjectCategories.tar"
    checksum = "67b4f42ca05d46448c6bb8ecd2220f6d"
    mirrors = ("https://data.caltech.edu/records/nyy15-4j048/files/",)
    without = ()

    def _tar(self, archive: Path) -> IO[bytes]:
        return archive.open("rb")
