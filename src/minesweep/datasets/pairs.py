"""Splits whose rows are pairs of sentences."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from minesweep.datasets.base import Batch, Split
from minesweep.datasets.text import Tokens


@dataclass
class SentencePairs(Split):
    """Rows are pairs of sentences.

    A batch of n pairs hands the model 2n sentences: the n first ones, then the n second ones,
    so that both towers of a siamese model are one call.

    Attributes:
        inputs: ``[N, 2]`` rows of ``sentences``.
        labels: ``[N]``. In training, where every row is a positive pair, the group of sentences
            that mean the same (rows of one group are never each other's negatives); elsewhere
            1 for a positive pair and 0 for a negative one.
        sentences: Every distinct sentence of the split.
        texts: The same sentences as they were written, for people to read.
        sources: Rows of each source, by its name; empty where the file names none.
    """

    what = "pairs of {shape} different tokens"

    sentences: Tokens = None  # type: ignore[assignment]
    texts: Sequence[str] = ()
    sources: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def lengths(self) -> Tensor:
        """``[N]`` tokens of the longer sentence of each pair."""
        return self.sentences.lengths[self.inputs].amax(1)

    def to(self, device: torch.device | str) -> SentencePairs:
        return SentencePairs(
            inputs=self.inputs.to(device),
            labels=self.labels.to(device),
            bucket=self.bucket,
            sentences=self.sentences.to(device),
            texts=self.texts,
            sources=self.sources,
        )

    def hash_into(self, digest: hashlib._Hash) -> None:
        for values in (self.labels, self.inputs):
            digest.update(values.cpu().numpy().tobytes())
        digest.update("\n".join(self.texts).encode())

    def fetch(self, rows: Tensor) -> Batch:
        """The pairs at ``rows``; ``inputs`` is a :class:`~minesweep.datasets.text.Tokens` of 2n."""
        sentences = self.sentences[self.inputs[rows].T.flatten()]
        return Batch(sentences, self.labels[rows], rows)
