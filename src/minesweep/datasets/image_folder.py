"""A folder of your own with a folder for each class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minesweep.datasets.base import Data
from minesweep.datasets.image_files import list_images
from minesweep.datasets.images import FileDataset
from minesweep.errors import UserError


class ImageFolder(FileDataset):
    """Images in ``<path>/<class>/``, in a folder or in a zip that is read without unpacking.

    The splits are those of lists beside the class folders (``train.txt``, lines of
    ``class/file``), or of folders above or below them (``train/``, ``Testing/``); what is not
    given is dealt by ``split_seed``, a share of each class.

    Args:
        path: The folder or zip; a relative one is looked for in ``paths.data_dir``.
        **files: See :class:`~minesweep.datasets.images.FileDataset`.
    """

    def __init__(self, path: str, **files: Any) -> None:
        super().__init__(**files)
        self.path = path

    def load(self, data_dir: Path) -> Data:
        path = Path(data_dir) / Path(self.path).expanduser()  # an absolute path stays what it is
        if not path.exists():
            raise UserError(
                f"{path} is not there: set dataset.path to a folder, or a zip, of class folders"
            )
        return self.read(
            list_images(
                path,
                val_share=self.val_share,
                test_share=self.test_share,
                split_seed=self.options.split_seed,
            )
        )
