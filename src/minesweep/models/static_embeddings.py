"""A vector for each token, and their mean: a text encoder that is a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from minesweep.datasets.text import Tokens
from minesweep.datasets.tokenizers import WORDLLAMA, wordllama_file
from minesweep.errors import UserError
from minesweep.models.inputs import check_texts

RANDOM = "random"
WEIGHTS = ("model.safetensors", "embeddings.safetensors")


class StaticEmbeddings(nn.Module):
    """Maps texts to the mean of their tokens' vectors.

    Args:
        table: Where the vectors start: ``wordllama`` (256 numbers a token, inside the package of
            that name), ``random``, or a folder with ``model.safetensors``, such as one of
            model2vec. It must be of the dataset's tokenizer.
        width: Numbers a token, of ``random``; of ``wordllama`` the first so many, 256 at most: its
            table is trained so that the first ones serve alone (Kusupati et al., arXiv 2205.13147).
        input_shape: ``(number of different tokens,)``.
        num_classes: Not looked at.

    Raises:
        UserError: The table is missing, or not of the dataset's tokenizer.

    Maps :class:`~minesweep.datasets.text.Tokens` of n texts to ``[n, width]``.
    """

    def __init__(
        self,
        table: str = WORDLLAMA,
        width: int = 256,
        *,
        input_shape: Sequence[int],
        num_classes: int,
    ) -> None:
        super().__init__()
        check_texts("model=static_embeddings", input_shape)
        size = input_shape[0]
        start = torch.randn(size, width) / width**0.5
        weights = start if table == RANDOM else _read(table)
        if table == WORDLLAMA:
            if not 1 <= width <= weights.shape[1]:
                raise UserError(f"model.width={width} must be 1 to {weights.shape[1]}: wordllama's")
            weights = weights[:, :width].clone()
        if len(weights) != size:
            raise UserError(
                f"model.table={table} has {len(weights)} tokens, and the dataset's tokenizer has "
                f"{size}: give both the same, e.g. dataset.tokenizer={table}"
            )
        self.table = nn.EmbeddingBag.from_pretrained(weights, freeze=False, mode="mean")

    def forward(self, tokens: Tokens) -> Tensor:
        flat = tokens.ids[tokens.inside()]
        outputs: Tensor = self.table(flat, tokens.lengths.cumsum(0) - tokens.lengths)
        return outputs


def _read(table: str) -> Tensor:
    """``[tokens, width]`` float32."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if table == WORDLLAMA:
        path = wordllama_file("weights/l2_supercat_256.safetensors")
    else:
        folder = Path(table).expanduser()
        found = [folder / name for name in WEIGHTS if (folder / name).is_file()]
        if not found:
            raise UserError(
                f"model.table={table} is not wordllama, random or a folder with {WEIGHTS[0]}"
            )
        path = found[0]
    try:
        tensors = [value for value in load_file(path).values() if value.ndim == 2]
    except SafetensorError as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if len(tensors) != 1:
        raise UserError(f"{path} holds {len(tensors)} tables, and one is needed")
    return tensors[0].float()
