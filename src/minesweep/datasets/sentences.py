"""Splits whose rows are texts with a class."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from minesweep.datasets.base import Batch, Data, Split
from minesweep.datasets.layout import PARTS
from minesweep.datasets.prepare import flip_labels
from minesweep.datasets.text import Tokenizer, Tokens, Vocabulary, encode


@dataclass
class Sentences(Split):
    """Texts as token numbers.

    Attributes:
        inputs: ``[N]`` rows of ``tokens``.
        labels: ``[N]`` class numbers.
        tokens: All texts of the split.
        texts: The same as they were written, for people to read.
    """

    what = "texts of {shape} different tokens"

    tokens: Tokens = None  # type: ignore[assignment]
    texts: Sequence[str] = ()

    @property
    def lengths(self) -> Tensor:
        """``[N]`` tokens of each text."""
        return self.tokens.lengths

    def to(self, device: torch.device | str) -> Sentences:
        return Sentences(
            inputs=self.inputs.to(device),
            labels=self.labels.to(device),
            flipped=None if self.flipped is None else self.flipped.to(device),
            bucket=self.bucket,
            tokens=self.tokens.to(device),
            texts=self.texts,
        )

    def fetch(self, rows: Tensor) -> Batch:
        """The texts at ``rows``; ``inputs`` is a :class:`~minesweep.datasets.text.Tokens`."""
        return Batch(self.tokens[self.inputs[rows]], self.labels[rows], rows)

    def hash_into(self, digest: hashlib._Hash) -> None:
        digest.update(self.labels.cpu().numpy().tobytes())
        digest.update("\0".join(self.texts).encode())


def sentence_data(
    texts: Mapping[str, Sequence[str]],
    labels: Mapping[str, Tensor],
    class_names: Sequence[str],
    *,
    lowercase: bool = True,
    min_count: int = 2,
    max_tokens: int = 256,
    bucket: int = 1,
    label_noise: float = 0.0,
    split_seed: int = 0,
) -> Data:
    """Numbers the words of texts; the vocabulary is that of the training split.

    Args:
        texts: Of each split.
        labels: ``[N]`` int64 of each split.
        class_names: A name for each label.
        lowercase: Whether case is dropped.
        min_count: Tokens rarer than this in the training texts are unknown.
        max_tokens: Longer texts are cut.
        bucket: How many batches are sorted by length together; 1 for none.
        label_noise: Share of the training labels that are replaced.
        split_seed: Fixes the label noise.
    """
    tokenizer = Tokenizer(lowercase)
    words = {part: [tokenizer(text) for text in texts[part]] for part in PARTS}
    vocabulary = Vocabulary(words["train"], min_count)
    splits = {}
    for part in PARTS:
        seen, flipped = labels[part], None
        if part == "train" and label_noise:
            seen, flipped = flip_labels(seen, label_noise, len(class_names), split_seed)
        splits[part] = Sentences(
            inputs=torch.arange(len(seen)),
            labels=seen,
            flipped=flipped,
            bucket=bucket,
            tokens=encode([vocabulary.numbers(text) for text in words[part]], max_tokens),
            texts=texts[part],
        )
    return Data(
        splits["train"],
        splits["val"],
        splits["test"],
        num_classes=len(class_names),
        input_shape=(len(vocabulary),),
        class_names=list(class_names),
    )
