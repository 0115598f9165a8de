"""Image classification datasets of torchvision, by their names."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from minesweep.compat import import_torchvision
from minesweep.datasets.base import Data
from minesweep.datasets.library_images import LibraryImages
from minesweep.errors import UserError
from minesweep.words import check_word

SPLITS = {"train": ("train", "trainval"), "val": ("val", "valid"), "test": ("test",)}
"""What torchvision's datasets call their splits."""
OWN = {"ImageFolder": "dataset=image_folder", "DatasetFolder": "dataset=image_folder"}


class TorchVision(LibraryImages):
    """A dataset of ``torchvision.datasets`` whose labels are classes.

    Files lie in ``paths.data_dir`` as torchvision lays them, and are downloaded where torchvision
    can do so. Splits that the dataset does not have are dealt.

    Args:
        name: A class of ``torchvision.datasets``, e.g. ``CIFAR100``.
        arguments: Further arguments of that class, e.g. ``{split: letters}`` of EMNIST.
        **image: See :class:`~minesweep.datasets.images.DealtDataset`.
    """

    def __init__(
        self, name: str, *, arguments: Mapping[str, Any] | None = None, **image: Any
    ) -> None:
        super().__init__(**image)
        self.name, self.arguments = name, dict(arguments or {})

    def load(self, data_dir: Path) -> Data:
        """Opens the dataset, or first downloads it."""
        module = import_torchvision("datasets")
        known = [name for name in module.__all__ if isinstance(getattr(module, name), type)]
        check_word("dataset.name", self.name, known)
        if self.name in OWN:
            raise UserError(f"dataset.name={self.name}: take {OWN[self.name]}")
        parts = self._parts(getattr(module, self.name), Path(data_dir))
        examples = {part: _examples(dataset) for part, dataset in parts.items()}
        sizes = {part: len(dataset) for part, dataset in parts.items()}
        first = next(iter(parts.values()))
        return self.hold(self.name, examples, sizes, getattr(first, "classes", ()))

    def _parts(self, kind: Any, data_dir: Path) -> dict[str, Any]:
        known = dict(inspect.signature(kind).parameters)
        if "kwargs" in known:  # EMNIST and its kin hand them on to MNIST
            known |= inspect.signature(kind.__mro__[1]).parameters
        common = dict(self.arguments)
        if {"train", "split"} <= known.keys() and "split" not in common:
            raise UserError(
                f"dataset.name={self.name} has several forms: choose one, e.g. "
                "dataset.arguments={split: letters}"
            )
        for name in common:
            check_word("dataset.arguments", name, known)
        if "root" in known:
            common.setdefault("root", str(data_dir))
        words: dict[str, tuple[dict[str, Any], ...]]
        if "train" in known and "train" not in common:
            words = {"train": ({"train": True},), "test": ({"train": False},)}
        elif "split" in known and "split" not in common:
            words = {part: tuple({"split": w} for w in names) for part, names in SPLITS.items()}
        else:
            return {"": self._open(kind, known, common)}
        found = {}
        for part, choices in words.items():
            for choice in choices:
                try:
                    found[part] = self._open(kind, known, {**common, **choice})
                    break
                except ValueError:  # it has no such split
                    continue
        if "train" not in found:
            raise UserError(
                f"dataset.name={self.name} has no split for training: choose one by "
                "dataset.arguments={split: ...}"
            )
        return found

    def _open(self, kind: Any, known: Mapping[str, Any], arguments: Mapping[str, Any]) -> Any:
        """Opens what lies there, or else downloads it."""
        try:
            return kind(**arguments)
        except ValueError:
            raise
        except (RuntimeError, OSError, TypeError, ImportError) as error:
            reason: Exception = error
        if "download" in known and not isinstance(reason, TypeError | ImportError):
            try:
                return kind(**arguments, download=True)
            except (RuntimeError, OSError, EOFError, TypeError, ImportError) as error:
                reason = error
        first = " ".join(str(reason).split()) or type(reason).__name__
        raise UserError(
            f"dataset.name={self.name}: torchvision cannot open it in "
            f"{arguments.get('root', 'memory')} ({first[:200]}): put its files there, or set "
            "dataset.arguments"
        ) from None


def _examples(dataset: Any) -> Iterator[tuple[Any, Any]]:
    for row in range(len(dataset)):
        yield dataset[row]
