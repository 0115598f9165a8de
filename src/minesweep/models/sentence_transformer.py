"""A text encoder of sentence-transformers: any local folder, or a name in its cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from minesweep.compat import import_torchvision
from minesweep.datasets.text import Tokens
from minesweep.datasets.tokenizers import model_folder
from minesweep.errors import UserError

NEEDED = "modules.json"


class SentenceEncoder(nn.Module):
    """Maps texts to the vectors of a model of sentence-transformers; nothing is downloaded.

    Args:
        name: A folder that sentence-transformers saved, or a name that is in Hugging Face's cache.
        tokenizer: Of the dataset, which takes it from here by default; not looked at.
        special_tokens: Likewise.
        input_shape: ``(number of different tokens,)``.
        num_classes: Not looked at.

    Raises:
        UserError: There is no such model, the package is not installed, or the dataset's tokenizer
            is not the model's.

    Maps :class:`~minesweep.datasets.text.Tokens` of n texts to ``[n, dim]``.
    """

    def __init__(
        self,
        name: str | None = None,
        tokenizer: str | None = None,
        special_tokens: bool = True,
        *,
        input_shape: Sequence[int],
        num_classes: int,
    ) -> None:
        super().__init__()
        if len(input_shape) != 1:
            raise UserError(
                "model=sentence_transformer reads texts, and this dataset has none: choose "
                "dataset=quora_retrieval or dataset=retrieval"
            )
        folder = model_folder("model.name", name, NEEDED)
        self.encoder = load_sentence_transformer("model.name", folder)
        transformer = self.encoder[0]
        config = getattr(getattr(transformer, "auto_model", None), "config", None)
        if config is None:
            raise UserError(
                f"model.name={name} is no transformer but a {type(transformer).__name__}; a table "
                "of vectors is model=static_embeddings model.table=FOLDER dataset.tokenizer=FOLDER"
            )
        self.longest = getattr(config, "max_position_embeddings", None)
        size = transformer.auto_model.get_input_embeddings().num_embeddings
        if input_shape[0] > size:
            raise UserError(
                f"model.name={name} knows {size} tokens, and the dataset's tokenizer has "
                f"{input_shape[0]}: give dataset.tokenizer={name}"
            )

    def forward(self, tokens: Tokens) -> Tensor:
        ids = tokens.ids.long()
        if self.longest is not None and ids.shape[1] > self.longest:
            raise UserError(
                f"a text has {ids.shape[1]} tokens, and the model reads {self.longest} at most: "
                f"give dataset.max_tokens={self.longest}"
            )
        inside = tokens.inside()
        features = {"input_ids": ids, "attention_mask": inside.long()}
        vectors: Tensor = self.encoder(features)["sentence_embedding"]
        return vectors


def load_sentence_transformer(key: str, folder: Path) -> Any:
    """The model in a folder, on the CPU.

    Args:
        key: What the user gave the folder by; messages begin with it.
        folder: That of sentence-transformers' own files.

    Raises:
        UserError: sentence-transformers is not installed, or cannot read the folder.
    """
    import_torchvision()  # transformers imports it where it is installed
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        if "sentence_transformers" not in str(error):
            raise UserError(f"{key}: sentence-transformers cannot be imported: {error}") from None
        raise UserError(
            f"{key}={folder} needs sentence-transformers: "
            "pip install 'minesweep[sentence-transformers]'"
        ) from None
    from transformers.utils import logging as talk

    shown = talk.is_progress_bar_enabled()
    talk.disable_progress_bar()
    try:
        return SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    except Exception as error:  # a broken folder raises what its modules raise
        text = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(f"{key}={folder} cannot be read: {text}") from None
    finally:
        if shown:
            talk.enable_progress_bar()
