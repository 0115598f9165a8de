"""``model=sentence_transformer``: a tiny model that is made here, and what is told without one."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import pytest
import torch
from conftest import Train
from test_documents import pairs_file, small

from minesweep.compat import import_torchvision
from minesweep.datasets.tokenizers import model_folder, tokenize
from minesweep.errors import UserError

HERE = importlib.util.find_spec("sentence_transformers") is not None
needed = pytest.mark.skipif(not HERE, reason="needs the extra 'sentence-transformers'")


def words() -> list[str]:
    texts = ["what", "is", "the", "answer", "also", "again", "?", "query", ":", "document"]
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *texts, *(f"w{i}" for i in range(60)), *"012345678"]


def tiny(folder: Path) -> Path:
    """A BERT of two layers of 16 with mean pooling, as sentence-transformers saves it."""
    import_torchvision()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.models import Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    vocabulary = {word: place for place, word in enumerate(words())}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep")}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
    )
    BertModel(config).save_pretrained(folder / "base")
    fast.save_pretrained(folder / "base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = SentenceTransformer(
            modules=[Transformer(str(folder / "base")), Pooling(16)], device="cpu"
        )
        model.save(str(folder / "tiny"))
    return folder / "tiny"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("model"))


def settings(folder: Path, path: Path) -> list[str]:
    names = [part for part in small(path) if not part.startswith(("model.", "dataset.tokenizer"))]
    model = ["model=sentence_transformer", f"model.name={folder}", "dataset.max_tokens=24"]
    return ["miner=corpus", "miner.refresh=2", *names, *model, "optimizer.lr=0.001"]


def test_the_model_of_a_name_that_is_missing_is_one_line(train: Train, tmp_path: Path) -> None:
    path = pairs_file(tmp_path / "a.jsonl")
    for name, told in (
        (str(tmp_path / "none"), "is not there: neither a folder with tokenizer.json, nor a name"),
        ("nobody/nothing", "tokenizer=nobody/nothing is not there"),
        (str(tmp_path), "is a folder without tokenizer.json"),
        ("a/b/c", "is not there"),
    ):
        with pytest.raises(UserError, match=told):
            train(*settings(Path(name), path))
    with pytest.raises(UserError, match=r"model\.name is missing"):
        train(*[x for x in settings(tmp_path, path) if not x.startswith("model.name")])


def test_a_name_in_the_cache_is_found_without_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--me--mine"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "tokenizer.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    assert model_folder("model.name", "me/mine", "tokenizer.json") == snapshot


@pytest.mark.skipif(HERE, reason="sentence-transformers is installed")
def test_without_the_package_it_is_one_line(tmp_path: Path) -> None:
    from minesweep.models.sentence_transformer import SentenceEncoder

    (tmp_path / "modules.json").write_text("[]")
    with pytest.raises(UserError, match=r"pip install 'minesweep\[sentence-transformers\]'"):
        SentenceEncoder(str(tmp_path), input_shape=(10,), num_classes=1)


@needed
def test_vectors_are_those_of_sentence_transformers(folder: Path) -> None:
    from minesweep.models.sentence_transformer import SentenceEncoder, load_sentence_transformer

    texts = ["what is w3 ?", "the answer 7 is w7", "w1", "query : also w2 again"]
    tokens, size = tokenize(str(folder), texts, 24, special=True)
    ours = SentenceEncoder(str(folder), input_shape=(size,), num_classes=1).eval()(tokens)
    theirs = load_sentence_transformer("model.name", folder).encode(texts, convert_to_tensor=True)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@needed
def test_it_trains_and_a_second_run_is_the_same_bit_for_bit(
    folder: Path, train: Train, tmp_path: Path
) -> None:
    common = settings(folder, pairs_file(tmp_path / "a.jsonl"))
    whole = train(*common, "study=whole", "dataset.query_prompt='query : '")
    assert 0 < whole["test/ndcg_at_10"] <= 1
    again = train(*common, "study=again", "dataset.query_prompt='query : '")
    assert whole == again


@needed
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("dataset.max_tokens=40", None),
        ("dataset.tokenizer=wordllama", r"knows 83 tokens, and the dataset's tokenizer has 32000"),
    ],
)
def test_what_does_not_fit_is_one_line(
    change: str, told: str | None, folder: Path, train: Train, tmp_path: Path
) -> None:
    common = settings(folder, pairs_file(tmp_path / "a.jsonl"))
    if told is None:
        train(*common, change)  # no text is as long as that
        return
    with pytest.raises(UserError, match=told):
        train(*common, change)


@needed
def test_a_broken_folder_is_one_line(folder: Path, tmp_path: Path) -> None:
    from minesweep.models.sentence_transformer import load_sentence_transformer

    (tmp_path / "modules.json").write_text("[{")
    with pytest.raises(UserError, match="cannot be read"):
        load_sentence_transformer("model.name", tmp_path)
