"""The 8 x 8 digits that come with scikit-learn: real data that needs no file and no network."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from minesweep.datasets.base import Data
from minesweep.datasets.prepare import ArrayDataset, Images, prepare, split


class Digits(ArrayDataset):
    """Handwritten digits, 1 x 8 x 8, 17 grey levels: 1,079 for training, 359 and 359 held out.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI
    Machine Learning Repository, 1998 (its test set, as scikit-learn carries it).

    The arguments are those of :class:`~minesweep.datasets.prepare.ArrayDataset`.
    """

    class_names: ClassVar[tuple[str, ...]] = tuple("0123456789")

    def load(self, data_dir: Path) -> Data:
        """Reads the digits out of scikit-learn; ``data_dir`` is not looked at."""
        # Not by load_digits: to import scikit-learn takes as long as to import torch.
        path = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
        rows = torch.from_numpy(np.loadtxt(str(path), delimiter=",", dtype=np.int64))
        images = Images(rows[:, :-1].to(torch.uint8).view(-1, 1, 8, 8), rows[:, -1].clone())
        held_out = round(len(images.labels) / 5)
        sizes = (len(images.labels) - 2 * held_out, held_out, held_out)
        return prepare(
            *split(images, sizes, self.options.split_seed),
            maximum=16,
            class_names=self.class_names,
            options=self.options,
        )
