"""Datasets of Hugging Face for image and text classification: named, cached, or in a folder."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from minesweep.datasets.arrays import class_numbers
from minesweep.datasets.base import Data
from minesweep.datasets.library_images import LibraryImages
from minesweep.datasets.sentences import sentence_data
from minesweep.datasets.split_lists import split_of
from minesweep.errors import UserError
from minesweep.network import hub
from minesweep.words import check_word, nearest

log = logging.getLogger(__name__)

LABELS = ("label", "labels", "class", "target", "fine_label", "coarse_label", "category")
"""Columns that are taken for the label, where none is a class label alone."""


class HuggingFace(LibraryImages):
    """A dataset of the package ``datasets`` with a column of images, or of texts, and of labels.

    Images are held as squares, and texts as token numbers for ``model=bag_of_words``.

    Args:
        name: Of the hub, e.g. ``cifar100``, or a folder: one that ``save_to_disk`` wrote, or one
            of Parquet, CSV or JSON files, or of images.
        subset: The configuration of a dataset that has several, e.g. ``sst2`` of ``glue``.
        inputs: The column of images or texts; None to find it.
        label: The column of labels; None to find it.
        max_tokens: Longer texts are cut.
        min_count: Tokens rarer than this in the training texts are unknown.
        **image: See :class:`~minesweep.datasets.images.DealtDataset`.
    """

    def __init__(
        self,
        name: str,
        *,
        subset: str | None = None,
        inputs: str | None = None,
        label: str | None = None,
        max_tokens: int = 256,
        min_count: int = 2,
        **image: Any,
    ) -> None:
        super().__init__(**image)
        self.name, self.subset = name, subset
        self.inputs, self.label = inputs, label
        self.max_tokens, self.min_count = max_tokens, min_count

    def load(self, data_dir: Path) -> Data:
        """Opens the dataset: of a folder, of the cache, or downloaded."""
        parts = self._labelled(self._parts(_package(), Path(data_dir)))
        first = next(iter(parts.values()))
        inputs, label = self._columns(first.features)
        feature = first.features[label]
        class_names = getattr(feature, "names", None) or ()
        if type(first.features[inputs]).__name__ == "Image":
            examples = {part: _pairs(table, inputs, label) for part, table in parts.items()}
            sizes = {part: len(table) for part, table in parts.items()}
            return self.hold(self.name, examples, sizes, class_names)
        return self._texts(parts, inputs, label, class_names)

    def _parts(self, package: ModuleType, data_dir: Path) -> dict[str, Any]:
        """Tables by split; ``""`` for one without."""
        folder = data_dir / Path(self.name).expanduser()
        try:
            if (folder / "dataset_dict.json").exists() or (folder / "state.json").exists():
                found = package.load_from_disk(str(folder))
            elif folder.is_dir():
                found = package.load_dataset(str(folder), self.subset)
            else:
                with hub():
                    found = package.load_dataset(self.name, self.subset)
        except Exception as error:  # of many packages below it
            reason = " ".join(str(error).split()) or type(error).__name__
            near = [path.name for path in data_dir.glob("*") if path.is_dir()]
            raise UserError(
                f"dataset.name={self.name} cannot be loaded ({reason[:200]}): give a name of the "
                "hub (with HF_HUB_OFFLINE=1 one that is cached), or a folder in paths.data_dir"
                f"{nearest(self.name, near)}"
            ) from None
        if not isinstance(found, Mapping):
            return {"": found}
        parts: dict[str, Any] = {}
        for name, table in found.items():
            split = split_of(str(name))
            if split is None or split in parts:
                log.warning("%s: the split %s is left out", self.name, name)
            else:
                parts[split] = table
        if "train" not in parts:
            if len(found) != 1:
                raise UserError(
                    f"dataset.name={self.name} has no split for training: {', '.join(found)}"
                )
            return {"": next(iter(found.values()))}
        return parts

    def _labelled(self, parts: dict[str, Any]) -> dict[str, Any]:
        """Without splits whose labels are withheld (-1, as in GLUE)."""
        kept = {}
        for part, table in parts.items():
            label = self._columns(table.features)[1]
            if part not in ("train", "") and all(value in (-1, None) for value in table[label]):
                log.warning("%s: the %s split has no labels, and is dealt", self.name, part)
            else:
                kept[part] = table
        return kept

    def _columns(self, features: Mapping[str, Any]) -> tuple[str, str]:
        """The columns of inputs and of labels."""
        kinds = {name: type(feature).__name__ for name, feature in features.items()}
        for key, wanted in (("inputs", self.inputs), ("label", self.label)):
            if wanted is not None:
                check_word(f"dataset.{key}", wanted, kinds)
        marked = [name for name, kind in kinds.items() if kind == "ClassLabel"]
        named = [name for name in kinds if name.casefold() in LABELS]
        label = self.label or self._only("label", marked if len(marked) == 1 else named, kinds)
        images = [name for name, kind in kinds.items() if kind == "Image"]
        texts = [
            name
            for name, feature in features.items()
            if getattr(feature, "dtype", "") in ("string", "large_string") and name != label
        ]
        return self.inputs or self._only("inputs", images or texts, kinds), label

    def _only(self, key: str, found: Sequence[str], columns: Mapping[str, str]) -> str:
        if len(found) != 1:
            raise UserError(
                f"dataset.name={self.name}: which column holds the {key}? Set dataset.{key} to "
                f"one of {', '.join(columns)}"
            )
        return found[0]

    def _texts(
        self, parts: Mapping[str, Any], inputs: str, label: str, class_names: Sequence[str]
    ) -> Data:
        given = [part for part, table in parts.items() for _ in range(len(table))]
        texts = [text for table in parts.values() for text in table[inputs]]
        labels = [value for table in parts.values() for value in table[label]]
        if wrong := [row for row, text in enumerate(texts) if not isinstance(text, str)]:
            raise UserError(f"{self.name}: column {inputs} holds no text in row {wrong[0]}")
        if None in labels:
            raise UserError(f"{self.name}: column {label} has no value in row {labels.index(None)}")
        names, numbers = class_numbers(Path(self.name), np.array(labels))
        if class_names:
            names = [str(class_names[int(number)]) for number in names]
        rows = self.deal(self.name, [names[number] for number in numbers], given)
        data = sentence_data(
            {part: [texts[row] for row in chosen] for part, chosen in rows.items()},
            {part: torch.from_numpy(numbers)[chosen] for part, chosen in rows.items()},
            names,
            min_count=self.min_count,
            max_tokens=self.max_tokens,
            label_noise=self.options.label_noise,
            split_seed=self.options.split_seed,
        )
        data.file = Path(self.name).name
        return data


def _package() -> ModuleType:
    try:
        return importlib.import_module("datasets")
    except ImportError as error:
        raise UserError(
            f"dataset=huggingface needs the package datasets ({error}): "
            "pip install minesweep[huggingface]"
        ) from None


def _pairs(table: Any, inputs: str, label: str) -> Iterator[tuple[Any, Any]]:
    for row in table:
        yield row[inputs], row[label]
