"""Datasets of Hugging Face from folders, without a network; texts with a class, and their model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Train
from PIL import Image

from minesweep.datasets.base import Data
from minesweep.datasets.check import checked
from minesweep.datasets.huggingface import HuggingFace
from minesweep.datasets.sentences import Sentences, sentence_data
from minesweep.datasets.show import shown
from minesweep.datasets.text import Tokens
from minesweep.errors import UserError
from minesweep.models.bag_of_words import BagOfWords

pytestmark = pytest.mark.filterwarnings("ignore:Cannot (locate|pickle)")  # dill, of pyarrow

ANIMALS = {"cat": "purrs and sleeps", "dog": "barks at the post", "owl": "hoots all night"}
NAMES = sorted(ANIMALS)


def texts(count: int = 30) -> tuple[list[str], list[int]]:
    labels = [n % 3 for n in range(count)]
    return [f"No {n}: it {ANIMALS[NAMES[label]]}." for n, label in enumerate(labels)], labels


def made() -> Data:
    parts, labels = {}, {}
    for part, count in (("train", 30), ("val", 9), ("test", 12)):
        parts[part], numbers = texts(count)
        labels[part] = torch.tensor(numbers)
    return sentence_data(parts, labels, NAMES, min_count=2)


def test_texts_are_numbered_by_the_training_words() -> None:
    data = checked(made())
    split = data.test
    assert isinstance(split, Sentences)
    batch = split.fetch(torch.tensor([2, 0]))
    assert isinstance(batch.inputs, Tokens)
    assert batch.labels.tolist() == [2, 0]
    assert batch.inputs.ids[0].tolist()[1] == 1  # the number of the text stands in no other one
    assert shown(split, torch.tensor([1])) == [("No 1: it barks at the post.",)]
    assert "30 training, 9 validation and 12 test texts of " in data.describe()
    other = made()
    assert other.fingerprint() == data.fingerprint()
    other = made()
    other.test.texts[3] += "!"  # type: ignore[attr-defined]
    assert other.fingerprint() != data.fingerprint()


def test_a_text_is_the_mean_of_its_words_whatever_the_batch() -> None:
    data = made()
    model = BagOfWords(8, input_shape=data.input_shape, num_classes=3)
    whole = model(data.val.fetch(torch.arange(9)).inputs)
    for row in range(9):
        alone = data.val.fetch(torch.tensor([row])).inputs
        torch.testing.assert_close(model(alone)[0], whole[row])
        words = model.words.weight[alone.ids[0].long()]
        torch.testing.assert_close(model.embed(alone)[0], words.mean(0))


def test_the_model_of_texts_refuses_images() -> None:
    with pytest.raises(UserError, match="takes texts, not data of shape"):
        BagOfWords(8, input_shape=(1, 8, 8), num_classes=3)
    with pytest.raises(UserError, match="takes texts: choose dataset=huggingface"):
        BagOfWords(8, input_shape=(8,), num_classes=3)(torch.zeros(2, 8))


OWN = """
from minesweep.datasets.sentences import sentence_data
import test_huggingface

class Texts:
    def load(self, data_dir):
        return test_huggingface.made()
"""


@pytest.mark.parametrize("miner", ["ohem", "random_k", "selective_backprop", "all"])
def test_texts_are_trained_on_with_mining(
    miner: str, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_texts.py").write_text(OWN)
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "texts.yaml").write_text("_target_: own_texts.Texts\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    chosen = ["dataset=texts", "model=bag_of_words", f"miner={miner}", "optimizer.lr=0.1"]
    summary = train(*chosen, "trainer.batch_size=12", "trainer.max_steps=40", config_dir=tmp_path)
    assert summary["test/accuracy"] == 1


# --- with the package ----------------------------------------------------------------------------


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return pytest.importorskip("datasets")


def load(name: object, data_dir: Path = Path("nowhere"), **settings: Any) -> Data:
    small: dict[str, Any] = {"image_size": 8, "stored_size": 8, "normalize": "none"}
    return HuggingFace(str(name), **(small | settings)).load(data_dir)


def table(package: Any, count: int, **columns: Any) -> Any:
    lines, labels = texts(count)
    features = package.Features(
        {"text": package.Value("string"), "label": package.ClassLabel(names=NAMES)}
    )
    return package.Dataset.from_dict({"text": lines, "label": labels} | columns, features=features)


def pictures(package: Any, count: int) -> Any:
    draws = np.random.default_rng(count)
    images = [Image.fromarray(draws.integers(0, 255, (8, 8, 3), np.uint8)) for _ in range(count)]
    features = package.Features(
        {"img": package.Image(), "fine_label": package.ClassLabel(names=NAMES)}
    )
    labels = [n % 3 for n in range(count)]
    return package.Dataset.from_dict({"img": images, "fine_label": labels}, features=features)


def test_saved_texts(package: Any, tmp_path: Path) -> None:
    table(package, 30).save_to_disk(str(tmp_path / "one"))
    data = load(tmp_path / "one")
    assert [len(split) for split in (data.train, data.val, data.test)] == [21, 3, 6]
    assert data.class_names == NAMES
    parts = {"train": table(package, 30), "validation": table(package, 9)}
    withheld = table(package, 12, label=[-1] * 12)
    package.DatasetDict(parts | {"test": withheld}).save_to_disk(str(tmp_path / "three"))
    data = load("three", tmp_path)
    assert [len(split) for split in (data.train, data.val, data.test)] == [24, 9, 6]


def test_saved_images(package: Any, tmp_path: Path) -> None:
    package.DatasetDict(train=pictures(package, 30), test=pictures(package, 12)).save_to_disk(
        str(tmp_path / "images")
    )
    data = load(tmp_path / "images")
    assert [len(split) for split in (data.train, data.val, data.test)] == [27, 3, 12]
    expected = {
        np.asarray(row["img"]).transpose(2, 0, 1).tobytes() for row in pictures(package, 12)
    }
    assert {image.numpy().tobytes() for image in data.test.inputs} == expected


# datasets 3.0 leaves it to Python to close a CSV file.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_folders_of_plain_files(package: Any, tmp_path: Path) -> None:
    (tmp_path / "csv").mkdir()
    lines, labels = texts(30)
    rows = "".join(f"{line},{NAMES[label]}\n" for line, label in zip(lines, labels, strict=True))
    (tmp_path / "csv" / "train.csv").write_text(f"text,label\n{rows}")
    data = load(tmp_path / "csv")
    assert (data.class_names, len(data.train)) == (NAMES, 21)


def test_what_cannot_be_loaded_is_told(package: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset.name=no/such cannot be loaded") as caught:
        load("no/such")
    assert "\n" not in str(caught.value)
    table(package, 30).save_to_disk(str(tmp_path / "one"))
    with pytest.raises(UserError, match=r"dataset.label=lable .*did you mean 'label'"):
        load(tmp_path / "one", label="lable")
    with pytest.raises(UserError, match=r"dataset.inputs=words is not one of text, label"):
        load(tmp_path / "one", inputs="words")
    both = table(package, 30).add_column("title", ["a"] * 30)
    both.save_to_disk(str(tmp_path / "both"))
    with pytest.raises(UserError, match=r"which column holds the inputs\? Set dataset.inputs to"):
        load(tmp_path / "both")
    holes = table(package, 30, text=[None, *texts()[0][1:]])
    holes.save_to_disk(str(tmp_path / "holes"))
    with pytest.raises(UserError, match="column text holds no text in row 0"):
        load(tmp_path / "holes")


def test_without_the_package_the_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(UserError, match=r"needs the package datasets .*minesweep\[huggingface\]"):
        load("imdb")
