"""Sentences as tensors: a tokenizer, a vocabulary, and rows of token numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PADDING, UNKNOWN = 0, 1
WORD = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]")
"""A word, with its inner apostrophes (``don't``), or one sign of punctuation."""


@dataclass(frozen=True)
class Tokenizer:
    """Cuts a sentence into words and signs by :data:`WORD`.

    Attributes:
        lowercase: Whether case is dropped first.
    """

    lowercase: bool = True

    def __call__(self, sentence: str) -> list[str]:
        return WORD.findall(sentence.lower() if self.lowercase else sentence)


class Vocabulary:
    """Numbers for tokens; 0 is padding and 1 stands for every unknown token.

    Args:
        sentences: Tokens of each sentence that may be learned from.
        min_count: Rarer tokens are unknown. With 1 nothing is unknown in training, so that the
            vector of the unknown token is never learned.
    """

    def __init__(self, sentences: Iterable[Sequence[str]], min_count: int = 1) -> None:
        counts = Counter(token for sentence in sentences for token in sentence)
        kept = [(-count, token) for token, count in counts.items() if count >= min_count]
        self.tokens = ["<padding>", "<unknown>", *(token for _, token in sorted(kept))]
        self._numbers = {token: number for number, token in enumerate(self.tokens)}

    def __len__(self) -> int:
        return len(self.tokens)

    def numbers(self, sentence: Sequence[str]) -> list[int]:
        """The number of each token."""
        return [self._numbers.get(token, UNKNOWN) for token in sentence]


@dataclass(frozen=True)
class Tokens:
    """Sentences as token numbers.

    Attributes:
        ids: ``[n, longest]`` int32, :data:`PADDING` behind the end of each sentence.
        lengths: ``[n]`` int64, how many tokens each sentence has, at least 1.
    """

    ids: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def inside(self) -> Tensor:
        """``[n, longest]`` bool: tokens, not padding."""
        return torch.arange(self.ids.shape[1], device=self.ids.device) < self.lengths[:, None]

    def __getitem__(self, rows: Tensor) -> Tokens:
        """The sentences at ``rows``, cut to the longest of them."""
        lengths = self.lengths[rows]
        return Tokens(self.ids[rows, : int(lengths.max())], lengths)

    def to(self, device: torch.device | str) -> Tokens:
        return Tokens(self.ids.to(device), self.lengths.to(device))


def encode(sentences: Sequence[Sequence[int]], longest: int) -> Tokens:
    """Rows of token numbers, cut after ``longest``; an empty sentence is one unknown token."""
    rows = [list(sentence[:longest]) or [UNKNOWN] for sentence in sentences]
    lengths = torch.tensor([len(row) for row in rows])
    flat = torch.tensor([number for row in rows for number in row], dtype=torch.int32)
    places = torch.arange(int(lengths.max())) < lengths[:, None]
    return Tokens(
        torch.full(places.shape, PADDING, dtype=torch.int32).masked_scatter_(places, flat), lengths
    )
