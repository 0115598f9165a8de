"""Data of the user's own: what is harmless is mended and told, the rest is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Train
from torch import Tensor

from minesweep.datasets.base import Batch, Data, Split
from minesweep.datasets.blobs import Blobs
from minesweep.datasets.check import checked
from minesweep.errors import UserError

SIZES = {"train": 40, "val": 20, "test": 20}


def good(**changes: Any) -> Data:
    """Three classes of points; a change is a function of a split's inputs or labels."""
    splits = {}
    for number, (part, size) in enumerate(SIZES.items()):
        draws = torch.Generator().manual_seed(number)
        labels = torch.arange(size) % 3
        inputs = torch.randn(size, 4, generator=draws) + 2 * labels[:, None]
        splits[part] = Split(inputs, labels)
    return Data(**splits, num_classes=3, input_shape=(4,), **changes)


def with_labels(change: Callable[[Tensor], Any], *parts: str, **changes: Any) -> Data:
    data = good()
    for part in parts or SIZES:
        split = getattr(data, part)
        split.labels = change(split.labels)
    return replace(data, **changes)


def with_inputs(change: Callable[[Tensor], Any], *parts: str, **changes: Any) -> Data:
    data = good()
    for part in parts or SIZES:
        split = getattr(data, part)
        split.inputs = change(split.inputs)
    return replace(data, **changes)


def one_hot(labels: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(labels, 3)


MENDED_LABELS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "int32": (lambda y: y.int(), ""),
    "uint8": (lambda y: y.to(torch.uint8), ""),
    "int16": (lambda y: y.short(), ""),
    "float": (lambda y: y.float(), "labels are torch.float32, and became int64"),
    "double": (lambda y: y.double(), "labels are torch.float64, and became int64"),
    "half": (lambda y: y.half(), "labels are torch.float16"),
    "column": (lambda y: y[:, None], "labels are [n, 1], and became [n]"),
    "float column": (lambda y: y[:, None].float(), "labels are [n, 1]"),
    "one-hot": (one_hot, "labels are one-hot"),
    "one-hot float": (lambda y: one_hot(y).float(), "labels are one-hot"),
    "one-hot bool": (lambda y: one_hot(y).bool(), "labels are one-hot"),
    "from 1": (lambda y: y + 1, "labels are 1, 2, 3, and became 0 to 2"),
    "from -1": (lambda y: y - 1, "labels are -1, 0, 1, and became 0 to 2"),
    "with gaps": (lambda y: y * 10 + 5, "labels are 5, 15, 25, and became 0 to 2"),
    "NumPy": (lambda y: y.numpy(), "labels are a ndarray, and became a tensor"),
    "list": (lambda y: y.tolist(), "labels are a list, and became a tensor"),
}


@pytest.mark.parametrize("name", MENDED_LABELS, ids=str)
def test_labels_that_can_be_mended_are(name: str, caplog: pytest.LogCaptureFixture) -> None:
    change, told = MENDED_LABELS[name]
    data = checked(with_labels(change))
    for part in SIZES:
        labels = getattr(data, part).labels
        assert labels.dtype == torch.int64
        assert torch.equal(labels, getattr(good(), part).labels)
    assert told in caplog.text
    assert bool(caplog.text) == bool(told)


def test_two_classes_as_bool_and_as_signs_are_0_and_1() -> None:
    for change in (lambda y: y > 0, lambda y: (y > 0) * 2 - 1, lambda y: (y > 0) + 1.0):
        data = checked(with_labels(change, num_classes=2))
        assert torch.equal(data.val.labels, (good().val.labels > 0).long())


MENDED_INPUTS: dict[str, Callable[[Tensor], Any]] = {
    "double": lambda x: x.double(),
    "half": lambda x: x.half(),
    "bfloat16": lambda x: x.bfloat16(),
    "uint8": lambda x: (10 + x.abs()).to(torch.uint8),
    "bool": lambda x: x > 0,
    "NumPy": lambda x: x.numpy(),
    "NumPy double": lambda x: x.double().numpy(),
    "list": lambda x: x.tolist(),
}


@pytest.mark.parametrize("name", MENDED_INPUTS, ids=str)
def test_inputs_that_can_be_mended_are(name: str, caplog: pytest.LogCaptureFixture) -> None:
    data = checked(with_inputs(MENDED_INPUTS[name]))
    expected = torch.as_tensor(MENDED_INPUTS[name](good().val.inputs)).float()
    assert data.val.inputs.dtype == torch.float32
    assert torch.equal(data.val.inputs, expected)
    assert "train inputs are" in caplog.text


def test_images_of_uint8_are_scaled_and_told(caplog: pytest.LogCaptureFixture) -> None:
    data = good()
    for part, size in SIZES.items():
        pixels = torch.randint(0, 256, (size, 1, 5, 5), dtype=torch.uint8)
        getattr(data, part).inputs = pixels
    pixels = data.train.inputs
    found = checked(replace(data, input_shape=(1, 5, 5)))
    torch.testing.assert_close(found.train.inputs, pixels.float() / 255)
    assert "train inputs are uint8, and became float32 in [0, 1]" in caplog.text


def test_token_numbers_stay_whole_numbers() -> None:
    assert checked(with_inputs(lambda x: x.abs().long())).train.inputs.dtype == torch.int64


def test_good_data_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    data = good()
    found = checked(data)
    for part in SIZES:
        assert getattr(found, part).inputs is getattr(data, part).inputs
    assert not caplog.text
    shared = Blobs(held_out=None).load(Path())
    found = checked(shared)
    assert found.val is found.train


class Fetching(Split):
    """Makes its examples itself, wrongly."""

    def fetch(self, rows: Tensor) -> Batch:
        batch = super().fetch(rows)
        return Batch(self.change(batch.inputs), batch.labels, rows)


def fetching(change: Callable[[Tensor], Tensor]) -> Data:
    data = good()
    split = Fetching(data.train.inputs, data.train.labels)
    split.change = change  # type: ignore[attr-defined]
    return replace(data, train=split)


def emptied(part: str) -> Data:
    data = good()
    return replace(data, **{part: Split(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))})


def at(row: int, value: float) -> Callable[[Tensor], Tensor]:
    def change(inputs: Tensor) -> Tensor:
        inputs[row, 1] = value
        return inputs

    return change


def flipped() -> Data:
    data = good()
    data.train.flipped = torch.zeros(3, dtype=torch.bool)
    return data


class Short(Split):
    def fetch(self, rows: Tensor) -> Batch:
        return super().fetch(rows[1:])


def short_fetch() -> Data:
    data = good()
    return replace(data, train=Short(data.train.inputs, data.train.labels))


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "nothing": (lambda: None, r"load\(\) returned None, not a minesweep Data"),
    "a tuple": (lambda: (1, 2), r"load\(\) returned a tuple"),
    "a TensorDataset": (
        lambda: replace(good(), val=torch.utils.data.TensorDataset(torch.zeros(3))),
        "the val split is a TensorDataset, not a minesweep Split",
    ),
    "no test": (lambda: replace(good(), test=None), "the test split is None"),
    "an empty val": (lambda: emptied("val"), "the val split is empty"),
    "an empty train": (lambda: emptied("train"), "the train split is empty"),
    "short labels": (
        lambda: with_labels(lambda y: y[:-1], "train"),
        "train has 40 inputs and 39 labels",
    ),
    "long labels": (
        lambda: with_labels(lambda y: torch.cat([y, y]), "test"),
        "test has 20 inputs and 40 labels",
    ),
    "a label too large": (
        lambda: with_labels(lambda y: y.index_fill(0, torch.tensor([3]), 7), "val"),
        "a label is 7, where num_classes=3 allows 0 to 2",
    ),
    "-1 beside all classes": (
        lambda: with_labels(lambda y: y.index_fill(0, torch.tensor([3]), -1)),
        "a label is -1, where num_classes=3",
    ),
    "-100": (
        lambda: with_labels(lambda y: y.index_fill(0, torch.tensor([3]), -100)),
        "a label is -100",
    ),
    "targets of a regression": (
        lambda: with_labels(lambda y: y + 0.5),
        "train labels are torch.float32 such as 0.5: a label is a whole number from 0",
    ),
    "NaN labels": (lambda: with_labels(lambda y: y * torch.nan), "such as nan"),
    "infinite labels": (lambda: with_labels(lambda y: y * torch.inf), "labels are torch.float32"),
    "soft labels": (
        lambda: with_labels(lambda y: one_hot(y) * 0.8 + 0.1),
        "train labels are torch.float32 such as 0.",
    ),
    "several labels": (
        lambda: with_labels(lambda y: one_hot(y) + one_hot((y + 1) % 3)),
        "train labels have the shape 40 x 3",
    ),
    "one-hot of other width": (
        lambda: with_labels(lambda y: torch.nn.functional.one_hot(y, 5)),
        "train labels have the shape 40 x 5",
    ),
    "names as labels": (
        lambda: with_labels(lambda y: ["cat"] * len(y)),
        "train labels are a list, which is no tensor of numbers",
    ),
    "one label": (lambda: with_labels(lambda y: y[0]), "the train split is empty"),
    "complex labels": (lambda: with_labels(lambda y: y * 1j), "complex"),
    "NaN in train": (
        lambda: with_inputs(at(5, torch.nan), "train"),
        "1 of 40 train inputs hold NaN or infinite values, the first is row 5",
    ),
    "NaN in val": (lambda: with_inputs(at(0, torch.nan), "val"), "1 of 20 val inputs hold NaN"),
    "infinity in test": (lambda: with_inputs(at(2, -torch.inf), "test"), "1 of 20 test inputs"),
    "too large for float32": (
        lambda: with_inputs(lambda x: x.double() * 1e300, "val"),
        "val inputs hold NaN or infinite",
    ),
    "complex inputs": (lambda: with_inputs(lambda x: x * 1j), "train inputs are complex64"),
    "texts": (lambda: with_inputs(lambda x: ["a"] * len(x)), "train inputs are a list, which is"),
    "objects": (
        lambda: with_inputs(lambda x: np.array([{}] * len(x))),
        "train inputs are a ndarray, which is no tensor",
    ),
    "another shape": (
        lambda: replace(good(), input_shape=(2, 2)),
        r"input_shape is \(2, 2\), and an example has the shape \(4,\)",
    ),
    "another shape in val": (
        lambda: with_inputs(lambda x: x[:, :3], "val"),
        r"a val example has the shape \(3,\), and a training one \(4,\)",
    ),
    "no shape": (lambda: replace(good(), input_shape=None), "input_shape is None"),
    "one class": (lambda: replace(good(), num_classes=1), "num_classes=1: there must be two"),
    "no number of classes": (lambda: replace(good(), num_classes=None), "num_classes is None"),
    "classes as text": (lambda: replace(good(), num_classes="3"), "num_classes is '3'"),
    "true classes": (lambda: replace(good(), num_classes=True), "num_classes is True"),
    "too few names": (
        lambda: replace(good(), class_names=["a", "b"]),
        "2 class names and num_classes=3",
    ),
    "names of another kind": (lambda: replace(good(), class_names="abc"), "class_names is a str"),
    "names as a mapping": (
        lambda: replace(good(), class_names={0: "a", 1: "b", 2: "c"}),
        "class_names is a dict, not a list of names",
    ),
    "sparse inputs": (lambda: with_inputs(Tensor.to_sparse), "train inputs are sparse"),
    "flips of other rows": (flipped, "train has 40 labels, and flipped is 3"),
    "fetch of fewer": (short_fetch, r"fetch\(\) of 40 rows of the train split returns a Batch"),
    "fetch of double": (lambda: fetching(Tensor.double), r"fetch\(\) of the train split returns"),
    "fetch of NaN": (lambda: fetching(lambda x: x * torch.nan), "train inputs hold NaN"),
}


@pytest.mark.parametrize("name", REFUSED, ids=str)
def test_what_cannot_be_mended_is_refused_in_one_line(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(UserError, match=message) as caught:
        checked(make())
    assert "\n" not in str(caught.value)


def maps(change: Callable[[Tensor], Tensor] = lambda y: y) -> Data:
    splits = {}
    for part, size in SIZES.items():
        labels = torch.arange(size * 16).view(size, 4, 4) % 3
        splits[part] = Split(torch.randn(size, 3, 4, 4), change(labels))
    return Data(**splits, num_classes=3, input_shape=(3, 4, 4))


def test_a_label_for_each_pixel_passes_and_so_does_what_is_ignored() -> None:
    for change in (
        lambda y: y,
        lambda y: y.to(torch.uint8).masked_fill(y == 0, 255),
        lambda y: y.masked_fill(y == 1, -100),
        lambda y: y[:, None],
        lambda y: y.float(),
    ):
        found = checked(maps(change)).train.labels
        assert found.shape == (40, 4, 4)
        assert not found.is_floating_point()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y + 1, "a label is 3, where num_classes=3 allows 0 to 2"),
        (lambda y: y[:, :2], "train labels are maps of 2 x 4, and images are 4 x 4"),
        (lambda y: y * 0 + 255, "no pixel has a label"),
        (lambda y: y + 0.5, "a label is a whole number"),
    ],
)
def test_label_maps_have_checks_of_their_own(
    change: Callable[[Tensor], Tensor], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        checked(maps(change))


def test_names_of_classes_become_text() -> None:
    assert checked(good(class_names=(0, 1, 2))).class_names == ["0", "1", "2"]
    assert checked(good(class_names=np.array(["a", "b", "c"]))).class_names == ["a", "b", "c"]


def test_one_class_alone_in_training_is_told(caplog: pytest.LogCaptureFixture) -> None:
    checked(with_labels(lambda y: y * 0, "train"))
    assert "all training labels are 0" in caplog.text


OWN = """
import torch
from minesweep.datasets.base import Data, Split

class Odd:
    def __init__(self, kind):
        self.kind = kind

    def load(self, data_dir):
        x, y = torch.randn(90, 4), torch.arange(90) % 3
        if self.kind == "mended":
            x, y = x.double(), (y + 1).float()[:, None]
        if self.kind == "refused":
            x[70] = torch.nan
        parts = [Split(x[part], y[part]) for part in (slice(60), slice(60, 75), slice(75, 90))]
        return Data(*parts, num_classes=3, input_shape=(4,), class_names=["a", "b", "c"])
"""


def test_a_run_says_what_it_trains_on(
    train: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "odd_code.py").write_text(OWN)
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "odd.yaml").write_text("_target_: odd_code.Odd\nkind: mended\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    chosen = ["dataset=odd", "model=mlp", "trainer.max_steps=3", "trainer.batch_size=8"]
    with caplog.at_level("INFO"):
        train(*chosen, config_dir=tmp_path)
    line = "60 training, 15 validation and 15 test examples of shape 4, 3 classes (a, b, c)"
    assert line in caplog.text
    with pytest.raises(UserError, match="1 of 15 val inputs hold NaN or infinite values"):
        train(*chosen, "dataset.kind=refused", config_dir=tmp_path)


def test_every_change_of_data_changes_the_fingerprint() -> None:
    one = good().fingerprint()
    assert one == good().fingerprint()
    changed = [
        with_inputs(at(17, 0.0), "test"),
        with_labels(lambda y: y.flip(0), "val"),
        replace(good(), class_names=["a", "b", "c"]),
        replace(good(), num_classes=4),
        replace(good(), file="x"),
    ]
    assert len({one, *(data.fingerprint() for data in changed)}) == 6
