"""Encoders of texts by name: a table of static embeddings, sentence-transformers, or a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from minesweep.datasets.tokenizers import WORDLLAMA, WORDS, tokenize
from minesweep.errors import UserError
from minesweep.models.sentence_transformer import NEEDED, load_sentence_transformer
from minesweep.models.static_embeddings import StaticEmbeddings
from minesweep.training.load import load_run

Encode = Callable[[list[str]], Tensor]
LONGEST = 512


def text_encoder(name: str) -> Encode:
    """A function from texts to ``[n, dim]`` vectors.

    Args:
        name: ``wordllama``; a folder of static embeddings (model2vec) or of sentence-transformers;
            or the folder of a run whose dataset has a tokenizer.

    Raises:
        UserError: There is no such encoder, or its package is missing.
    """
    folder = Path(name).expanduser()
    if (folder / "config.yaml").is_file():
        return _of_run(folder)
    if (folder / NEEDED).is_file():
        return _sentence_transformer(folder)
    _, size = tokenize(name, ["a"], 1)
    model = StaticEmbeddings(name, input_shape=(size,), num_classes=1).eval()
    return _with(model, name, LONGEST, special=False)


def _with(model: torch.nn.Module, tokenizer: str, longest: int, special: bool) -> Encode:
    @torch.no_grad()
    def encode(texts: list[str]) -> Tensor:
        vectors: Tensor = model(tokenize(tokenizer, texts, longest, special)[0])
        return vectors

    return encode


def _of_run(folder: Path) -> Encode:
    model, cfg = load_run(folder)
    tokenizer = cfg.dataset.get("tokenizer")
    if tokenizer is None or tokenizer == WORDS:
        raise UserError(
            f"--model={folder}: the run's dataset has no tokenizer of its own: take a run on "
            f"dataset.tokenizer={WORDLLAMA}"
        )
    return _with(model, tokenizer, cfg.dataset.max_tokens, cfg.dataset.special_tokens)


def _sentence_transformer(folder: Path) -> Encode:
    model = load_sentence_transformer("--model", folder)

    def encode(texts: list[str]) -> Tensor:
        vectors = model.encode(texts, convert_to_tensor=True, show_progress_bar=False)
        assert isinstance(vectors, Tensor)
        return vectors

    return encode
