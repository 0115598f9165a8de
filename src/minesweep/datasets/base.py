"""What a dataset hands to the trainer: three splits whose rows can be fetched by index."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from minesweep.datasets.corpus import Corpus
from minesweep.errors import UserError


@dataclass(frozen=True)
class Batch:
    """Some rows of a split.

    Attributes:
        inputs: What the model takes; for images ``[n, channels, height, width]``.
        labels: ``[n]`` class indices (int64).
        rows: ``[n]`` positions of these examples in their split.

    A batch of n pairs has 2n inputs, first and second of each pair in turn, so that the model
    runs once; its labels and rows are ``[n, 2]``. One of n queries with a positive and m negatives
    each has n (2 + m) inputs in the same way.
    """

    inputs: Any
    labels: Tensor
    rows: Tensor

    def grouped(self, rows: Tensor) -> Batch:
        """This batch of ``rows.flatten()`` as one of groups, ``rows`` being ``[n, group]``."""
        return Batch(self.inputs, self.labels.view(rows.shape), rows)


@dataclass
class Split:
    """A part of a dataset that is held in memory, as tensors on one device.

    A dataset whose examples do not fit in memory subclasses this and overrides
    :meth:`fetch` and :meth:`to`; nothing else looks at ``inputs``.

    Attributes:
        inputs: ``[N, ...]`` examples.
        labels: ``[N]`` class indices (int64), as the training sees them.
        flipped: ``[N]`` bool, True where label noise replaced the label; None without noise.
        bucket: How many batches are sorted by :attr:`lengths` together; 1 for none.
        corpus: Of a training split of texts: queries, documents and their pairs.
    """

    what: ClassVar[str] = "examples of shape {shape}"
    """What its rows are, for people."""

    inputs: Tensor
    labels: Tensor
    flipped: Tensor | None = None
    bucket: int = 1
    corpus: Corpus | None = None

    @property
    def examples(self) -> int:
        """How many examples an epoch has."""
        return len(self)

    @property
    def lengths(self) -> Tensor | None:
        """``[N]`` how long each example is; None where all are equal."""
        return None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        return self.labels.device

    def to(self, device: torch.device | str) -> Split:
        flipped = None if self.flipped is None else self.flipped.to(device)
        return Split(self.inputs.to(device), self.labels.to(device), flipped)

    def hash_into(self, digest: hashlib._Hash) -> None:
        """Feeds what tells this split from another to a digest: labels, and inputs.

        A subclass is known by 64 examples that :meth:`fetch` gives.
        """
        digest.update(f"{len(self)} {tuple(self.labels.shape)}".encode())
        _hash(self.labels, digest)
        if type(self) is Split:
            _hash(self.inputs, digest)
        elif len(self):
            rows = torch.linspace(0, len(self) - 1, 64).long().to(self.device)
            _hash(self.fetch(rows).inputs, digest)

    def fetch(self, rows: Tensor) -> Batch:
        """Returns the examples at ``rows`` (``[n]`` int64 on this split's device)."""
        # Twice as fast as indexing: an image is copied as a whole.
        return Batch(self.inputs.index_select(0, rows), self.labels[rows], rows)

    def for_run(self, seed: int, views: int) -> Split:
        """This split as one run draws from it: by ``seed``, ``views`` views of each example.

        Raises:
            UserError: There is nothing to make more than one view of.
        """
        if views != 1:
            raise UserError(
                f"the objective compares {views} views of each image, and this dataset gives "
                "one: take a dataset that augments, e.g. dataset=caltech101"
            )
        return self

    def draw(self, rows: Tensor, step: int) -> Batch:
        """The examples at ``rows`` as training step ``step`` sees them.

        Augmented where the dataset augments, and then a function of seed, step and rows
        alone. ``inputs`` is ``[views, n, ...]`` where the run asked for more than one view.
        :meth:`fetch` here.
        """
        return self.fetch(rows)

    @property
    def ahead(self) -> int:
        """How many steps before its draw a batch is announced by :meth:`expect`; 0 for never."""
        return 0

    def expect(self, rows: Tensor, step: int) -> None:
        """Says that ``step`` will draw ``rows``, so that workers can begin; it changes no draw."""

    def close(self) -> None:
        """Ends worker processes, where there are any; another fetch starts them again."""


@dataclass
class Data:
    """A loaded dataset.

    Attributes:
        train: What is learned from.
        val: What choices are made on (best checkpoint, early stop, rates).
        test: What is reported, once.
        num_classes: How many classes the labels name.
        input_shape: Shape of one example, e.g. ``(1, 28, 28)``.
        class_names: One for each class, where there are such.
        file: Name of the file that it was read from, where there can be several.
        contents: A digest of the files that it was read from, where the dataset takes one.
    """

    train: Split
    val: Split
    test: Split
    num_classes: int
    input_shape: tuple[int, ...]
    class_names: list[str] = field(default_factory=list)
    file: str = ""
    contents: str = ""
    _fingerprint: str = field(default="", init=False, repr=False, compare=False)

    def to(self, device: torch.device | str) -> Data:
        return replace(
            self, train=self.train.to(device), val=self.val.to(device), test=self.test.to(device)
        )

    def swapped(self) -> Data:
        """The same with the training and validation splits in each other's place."""
        return replace(self, train=self.val, val=self.train)

    def close(self) -> None:
        """Ends what the splits run beside; another fetch starts it again."""
        for split in (self.train, self.val, self.test):
            split.close()

    def fingerprint(self) -> str:
        """The file's name, if it has one, and a digest of classes, labels and inputs.

        Equal for equal data. A changed file, label or class name gives another one. It is
        computed once.
        """
        if not self._fingerprint:
            digest = hashlib.sha256(self.contents.encode())
            names = "\t".join(self.class_names)
            digest.update(f"{self.num_classes} {tuple(self.input_shape)} {names}".encode())
            for split in (self.train, self.val, self.test):
                split.hash_into(digest)
            self._fingerprint = f"{self.file} {digest.hexdigest()[:16]}".lstrip()
        return self._fingerprint

    def describe(self) -> str:
        """Classes and sizes in one line, for people."""
        names = self.class_names
        listed = f" ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})" if names else ""
        sizes = [f"{len(split):,}" for split in (self.train, self.val, self.test)]
        of = self.train.what.format(shape=" x ".join(map(str, self.input_shape)))
        counts = f"{sizes[0]} training, {sizes[1]} validation and {sizes[2]} test {of}"
        return f"{counts}, {self.num_classes:,} classes{listed}"


def _hash(values: Any, digest: hashlib._Hash) -> None:
    """Feeds the numbers of a tensor, or of what holds tensors, to a digest."""
    if isinstance(values, Tensor):
        digest.update(f"{values.dtype} {tuple(values.shape)}".encode())
        raw = values.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(raw.numpy().data)
    elif isinstance(values, Mapping):
        for name in sorted(values, key=str):
            digest.update(str(name).encode())
            _hash(values[name], digest)
    elif isinstance(values, list | tuple):
        for value in values:
            _hash(value, digest)
    elif is_dataclass(values):
        _hash(vars(values), digest)


class Dataset(ABC):
    """A recipe for data: a few settings, and :meth:`load`.

    A dataset of your own is a subclass (or any object with ``load``) named by ``_target_``
    in a YAML file of the group ``dataset``.
    """

    @abstractmethod
    def load(self, data_dir: Path) -> Data:
        """Reads, or first downloads, the data.

        Args:
            data_dir: The folder named by ``paths.data_dir``; files are read from it, and a
                download goes to it.

        Raises:
            minesweep.errors.UserError: A file is missing and cannot be had, or is damaged.
        """
