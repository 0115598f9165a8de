"""Texts to rows of token numbers: by a text model's own tokenizer, or by words."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from minesweep.datasets.text import PADDING, Tokenizer, Tokens, Vocabulary, encode
from minesweep.errors import UserError

WORDLLAMA, WORDS = "wordllama", "words"
AT_ONCE = 8192


def tokenize(
    tokenizer: str | None,
    texts: Sequence[str],
    longest: int,
    special: bool = False,
    learned: Iterable[int] = (),
) -> tuple[Tokens, int]:
    """The texts as token numbers, and how many different tokens there are.

    Args:
        tokenizer: ``wordllama``; a folder, or a name in Hugging Face's cache, with a
            ``tokenizer.json``; or ``words``, which numbers the lower-case words of the ``learned``
            texts.
        texts: The texts.
        longest: Longer ones are cut, in tokens.
        special: Whether the tokenizer's own first and last tokens are added.
        learned: Places of the texts that may be learned from.

    Raises:
        UserError: The tokenizer is missing or broken.
    """
    if tokenizer == WORDS:
        cut = Tokenizer()
        words = [cut(text) for text in texts]
        vocabulary = Vocabulary(words[place] for place in learned)
        return encode([vocabulary.numbers(text) for text in words], longest), len(vocabulary)
    return _tokenize(tokenizer, texts, longest, special)


def _tokenize(
    tokenizer: str | None, texts: Sequence[str], longest: int, special: bool
) -> tuple[Tokens, int]:
    try:
        import tokenizers
    except ImportError:
        raise UserError("tokenizers is not installed: pip install 'minesweep[text]'") from None
    path = _file(tokenizer)
    try:
        encoder = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # its own errors are bare Exceptions
        raise UserError(f"{path} is no tokenizer: {error}") from None
    encoder.no_padding()
    encoder.enable_truncation(longest)
    lengths: list[int] = []
    flat: list[torch.Tensor] = []
    for start in range(0, len(texts), AT_ONCE):
        encoded = encoder.encode_batch_fast(
            list(texts[start : start + AT_ONCE]), add_special_tokens=special
        )
        # A text of no token is one of padding, whose vector is not looked at.
        rows = [entry.ids or [PADDING] for entry in encoded]
        lengths += [len(row) for row in rows]
        flat.append(torch.tensor([n for row in rows for n in row], dtype=torch.int32))
    sizes = torch.tensor(lengths)
    places = torch.arange(int(sizes.max())) < sizes[:, None]
    ids = torch.full(places.shape, PADDING, dtype=torch.int32)
    return Tokens(ids.masked_scatter_(places, torch.cat(flat)), sizes), encoder.get_vocab_size()


def _file(tokenizer: str | None) -> Path:
    if tokenizer == WORDLLAMA:
        return wordllama_file("tokenizers/l2_supercat_tokenizer_config.json")
    if tokenizer is None:
        raise UserError(
            "model.name is missing: give a folder that sentence-transformers saved, or a name in "
            "Hugging Face's cache"
        )
    return model_folder("dataset.tokenizer", tokenizer, "tokenizer.json") / "tokenizer.json"


def model_folder(key: str, name: str | None, file: str) -> Path:
    """The folder of a model that is on this machine.

    Args:
        key: What the user gives it by; messages begin with it.
        name: A folder, or a name that is in Hugging Face's cache, which is read without network.
        file: What the folder must have.

    Raises:
        UserError: There is none.
    """
    if not name:
        raise UserError(f"{key} is missing: give a folder with {file}, or a name in the cache")
    folder = Path(name).expanduser()
    if (folder / file).is_file():
        return folder
    if folder.is_dir():
        raise UserError(f"{key}={name} is a folder without {file}")
    try:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(name, file)
    except ValueError:  # no name of a model
        found = None
    if not isinstance(found, str):
        raise UserError(
            f"{key}={name} is not there: neither a folder with {file}, nor a name in Hugging "
            "Face's cache"
        )
    return Path(found).parent


def wordllama_file(name: str) -> Path:
    """A file inside the package wordllama, which is not imported.

    Raises:
        UserError: The package is not installed.
    """
    spec = importlib.util.find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise UserError("wordllama is not installed: pip install 'minesweep[text]'")
    return Path(spec.origin).parent / name
