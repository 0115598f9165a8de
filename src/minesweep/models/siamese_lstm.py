"""The encoder of the siamese question model: embedding, LSTM, mean over the tokens, unit length."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from minesweep.datasets.text import Tokens
from minesweep.models.inputs import check_texts
from minesweep.models.lstm import PackedLSTM
from minesweep.words import check_word

MEANS = ("tokens", "padded")


class SiameseLSTM(nn.Module):
    """Maps sentences to unit vectors, so that a dot product is a cosine.

    With ``mean: tokens`` a sentence's vector does not depend on the batch that it is in.

    Args:
        width: Of a token's vector and of the LSTM, hence of a sentence's vector.
        mean: ``tokens``: over a sentence's own tokens. ``padded``: over the batch's padded
            length, the padding running through the LSTM like a token, as in the assignment
            C3_W4 of DeepLearning.AI, where the padded length is the power of two not below the
            longest sentence: then a sentence's vector depends on its batch.
        embedding_std: Standard deviation of the tokens' vectors at the start.
        input_shape: ``(number of different tokens,)``.
        num_classes: Not looked at.

    Raises:
        UserError: An unknown word, or a dataset without sentences.

    Maps :class:`~minesweep.datasets.text.Tokens` of n sentences to ``[n, width]``.
    """

    def __init__(
        self,
        width: int = 128,
        mean: str = "tokens",
        embedding_std: float = 0.088,
        *,
        input_shape: Sequence[int],
        num_classes: int,
    ) -> None:
        super().__init__()
        check_texts("model=siamese_lstm", input_shape)
        self.mean = check_word("model.mean", mean, MEANS)
        self.embedding = nn.Embedding(input_shape[0], width)
        nn.init.normal_(self.embedding.weight, std=embedding_std)
        self.lstm = PackedLSTM(width, width)

    def forward(self, tokens: Tokens) -> Tensor:
        ids, lengths = tokens.ids, tokens.lengths
        if self.mean == "padded":
            longest = 1 << (int(lengths.max()) - 1).bit_length()
            ids = functional.pad(ids, (0, longest - ids.shape[1]))
            lengths = torch.full_like(lengths, longest)
        # Packed: step after step, the sentences that are still going on, the longest first.
        order = lengths.argsort(descending=True, stable=True)
        going = lengths[order] > torch.arange(ids.shape[1], device=ids.device)[:, None]
        packed = PackedSequence(self.embedding(ids[order].T[going]), going.sum(1).cpu())
        outputs = self.lstm.outputs(packed)
        sentence = order.expand(going.shape)[going]
        sums = outputs.new_zeros(len(lengths), outputs.shape[1]).index_add_(0, sentence, outputs)
        return functional.normalize(sums / lengths[:, None], dim=1)
