"""Points made from a seed: random labels, as in the first pair-mining demo, or real clusters."""

from __future__ import annotations

from pathlib import Path

import torch

from minesweep.datasets.base import Data, Dataset, Split
from minesweep.errors import UserError
from minesweep.seeding import generator


class Blobs(Dataset):
    """Labelled points in ``dim`` dimensions.

    Without ``spread``, the data of yuhongsun96/Hard-Negative-Mining-with-LSH-KNN,
    ``code/generate_data.py``: features uniform in (-1, 1) and labels that have nothing to do
    with them. They can be memorised and not generalised from, so **every metric of held-out
    points is chance**; only ``held_out=None`` measures anything. With ``spread``, each class is
    a Gaussian cluster around a centre that is uniform in (-1, 1)^dim.

    Args:
        size: Training points. That project's sizes (``size`` x ``dim``) are 100 x 10, 500 x 10,
            1,000 x 20, 5,000 x 50 and 10,000 x 100.
        dim: Features of a point.
        classes: Number of classes; every label is drawn uniformly.
        spread: Standard deviation of the clusters in each feature; None for random labels.
        held_out: Points in the validation split, and as many in the test split; None makes both
            the training points themselves: what was memorised, as in that project, which holds
            nothing out.
        limit: Training points at most (the first ones); None for all.
        split_seed: Makes the points. It is not the training seed, so that the seeds of a study
            share their data.

    Raises:
        UserError: ``limit`` or ``held_out`` leaves no point.
    """

    def __init__(
        self,
        *,
        size: int = 1000,
        dim: int = 20,
        classes: int = 2,
        spread: float | None = None,
        held_out: int | None = 500,
        limit: int | None = None,
        split_seed: int = 0,
    ) -> None:
        for key, value in (("size", size), ("held_out", held_out), ("limit", limit)):
            if value is not None and value < 1:
                raise UserError(f"dataset.{key}={value} must be at least 1")
        self.size, self.dim, self.classes, self.spread = size, dim, classes, spread
        self.held_out, self.limit, self.split_seed = held_out, limit, split_seed

    def load(self, data_dir: Path) -> Data:
        """Draws the points; ``data_dir`` is not looked at."""
        train = self._points("train", self.size, self.limit)
        val = test = train
        if self.held_out is not None:
            val = self._points("val", self.held_out)
            test = self._points("test", self.held_out)
        return Data(train, val, test, num_classes=self.classes, input_shape=(self.dim,))

    def _points(self, part: str, size: int, limit: int | None = None) -> Split:
        # One generator a part: the size of one changes nothing in the others.
        draws = generator(self.split_seed, f"blobs/{part}")
        labels = torch.randint(self.classes, (size,), generator=draws)
        if self.spread is None:
            inputs = torch.rand(size, self.dim, generator=draws) * 2 - 1
        else:
            shared = generator(self.split_seed, "blobs/centres")
            centres = torch.rand(self.classes, self.dim, generator=shared) * 2 - 1
            noise = torch.randn(size, self.dim, generator=draws)
            inputs = centres[labels] + self.spread * noise
        return Split(inputs[:limit], labels[:limit])
