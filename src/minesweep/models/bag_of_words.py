"""A text's class from the mean of its words' vectors."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from minesweep.datasets.text import PADDING, Tokens
from minesweep.errors import UserError
from minesweep.models.inputs import check_texts


class BagOfWords(nn.Module):
    """The mean of word vectors and a linear layer (fastText: Joulin et al., arXiv 1607.01759).

    Args:
        width: Of a word's vector.
        input_shape: ``(number of different tokens,)``.
        num_classes: Number of outputs.

    Raises:
        UserError: The dataset holds no texts.

    Maps :class:`~minesweep.datasets.text.Tokens` of n texts to ``[n, num_classes]``.
    """

    def __init__(self, width: int = 64, *, input_shape: Sequence[int], num_classes: int) -> None:
        super().__init__()
        check_texts("model=bag_of_words", input_shape)
        self.words = nn.Embedding(input_shape[0], width, padding_idx=PADDING)
        self.head = nn.Linear(width, num_classes)

    def embed(self, texts: Tokens) -> Tensor:
        """``[n, width]`` means of the words' vectors."""
        if not isinstance(texts, Tokens):
            raise UserError("model=bag_of_words takes texts: choose dataset=huggingface")
        sums = self.words(texts.ids).sum(1)  # padding is zero
        return sums / texts.lengths[:, None].to(sums)

    def forward(self, texts: Tokens) -> Tensor:
        return self.head(self.embed(texts))
