"""Examples of the user's own that fit in memory: their classes, their splits, their scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minesweep.datasets.base import Data
from minesweep.datasets.options import check_shares
from minesweep.datasets.prepare import ArrayDataset, Images, deal_rows, prepare
from minesweep.errors import UserError

MANY_CLASSES = 20
"""More, and more than half as many as there are examples, look like a number to predict."""


class OwnArrays(ArrayDataset):
    """A file of examples, dealt to splits as images are.

    Args:
        path: The file or folder; a relative one is looked for in ``paths.data_dir``.
        val_share: Share of each class for validation, where the file does not say it.
        test_share: The same for the test.
        normalize: ``zscore`` by each feature's, or each channel's, mean and deviation in the
            training split; ``unit`` for [0, 1]; ``none``.
        **options: See :class:`~minesweep.datasets.prepare.ArrayDataset`.
    """

    def __init__(
        self,
        path: str,
        *,
        val_share: float = 0.1,
        test_share: float = 0.2,
        normalize: str = "zscore",
        **options: Any,
    ) -> None:
        super().__init__(normalize=normalize, **options)
        check_shares(val_share, test_share)
        self.path, self.val_share, self.test_share = path, val_share, test_share

    def find(self, data_dir: Path) -> Path:
        """The file or folder.

        Raises:
            UserError: It is not there.
        """
        path = Path(data_dir) / Path(self.path).expanduser()
        if not path.exists():
            here = Path(self.path).expanduser()
            hint = f"; {here} is here: add paths.data_dir=." if here.exists() else ""
            raise UserError(
                f"{path} is not there: set dataset.path to a file in paths.data_dir{hint}"
            )
        return path

    def data(
        self,
        path: Path,
        inputs: Tensor,
        labels: np.ndarray,
        given: Sequence[str],
        class_names: Sequence[str] = (),
    ) -> Data:
        """Deals and scales examples.

        Args:
            path: Where they were read, for messages.
            inputs: ``[N, ...]``.
            labels: ``[N]`` numbers or texts, all there.
            given: The split of each; empty where the file says none.
            class_names: Names of the labels 0, 1, ..., where the file has such.

        Raises:
            UserError: The labels name no classes, or a split would be empty.
        """
        names, numbers = class_numbers(path, labels)
        if class_names and names == [str(number) for number in range(len(class_names))]:
            names = list(class_names)
        self.options.check_held_out(len(names))
        rows = deal_rows(
            path,
            [names[number] for number in numbers],
            given,
            val_share=self.val_share,
            test_share=self.test_share,
            split_seed=self.options.split_seed,
        )
        parts = {
            part: Images(inputs[chosen], torch.from_numpy(numbers)[chosen])
            for part, chosen in rows.items()
        }
        known = 255 if inputs.dtype == torch.uint8 else None
        data = prepare(**parts, maximum=known, class_names=names, options=self.options)
        data.file = path.name
        return data


def class_numbers(path: Path, labels: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The classes of labels in their order, and the class of each example as int64.

    Raises:
        UserError: There is one class, or labels look like a number to predict.
    """
    if not len(labels):
        raise UserError(f"{path}: there are no examples")
    if np.issubdtype(labels.dtype, np.floating):
        whole = labels.round()
        if not np.array_equal(whole, labels):
            odd = labels[labels != whole][0]
            raise UserError(
                f"{path}: a label is {odd:g}: a label names a class, and here it looks like a "
                "number to predict"
            )
        labels = whole.astype(np.int64)
    classes, numbers = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise UserError(f"{path}: all labels are {classes[0]}: there must be two classes at least")
    if len(classes) > MANY_CLASSES and 2 * len(classes) > len(labels):
        raise UserError(
            f"{path}: {len(labels)} examples have {len(classes)} different labels, e.g. "
            f"{classes[0]}: choose another column or array for the label"
        )
    return [str(name) for name in classes], numbers.reshape(-1).astype(np.int64)
