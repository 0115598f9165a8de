"""Arrays of the user's own, as people save them: read, dealt, scaled, or told; runs on them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Train
from sklearn.datasets import load_digits, load_wine
from test_tables import sizes

from minesweep.datasets.base import Data
from minesweep.datasets.npz import Npz
from minesweep.errors import UserError

DIGITS = load_digits()
X, Y = DIGITS.images.astype(np.uint8), DIGITS.target


def arrays(folder: Path, **content: Any) -> Path:
    np.savez(folder / "a.npz", **content)
    return folder / "a.npz"


def load_npz(path: Path, **settings: Any) -> Data:
    return Npz(str(path), **settings).load(Path("nowhere"))


def test_arrays_are_dealt_and_scaled(tmp_path: Path) -> None:
    data = load_npz(arrays(tmp_path, x=X, y=Y), normalize="none")
    assert sizes(data) == [1259, 179, 359]
    assert (data.input_shape, data.num_classes) == ((1, 8, 8), 10)
    parts = (data.train, data.val, data.test)
    found = torch.cat([torch.cat([s.inputs.flatten(1), s.labels[:, None]], 1) for s in parts])
    whole = np.column_stack([X.reshape(-1, 64), Y])
    assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, whole.tolist()))
    scaled = load_npz(tmp_path / "a.npz").train.inputs
    assert scaled.mean().abs() < 1e-4
    assert scaled.std(correction=0).item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    "names",
    [
        *(("x", "y"), ("X", "Y"), ("data", "target"), ("images", "labels"), ("inputs", "targets")),
        *(("features", "classes"), ("image", "label")),
    ],
)
def test_arrays_of_the_usual_names(names: tuple[str, str], tmp_path: Path) -> None:
    path = arrays(tmp_path, **dict(zip(names, (X, Y), strict=True)))
    assert sizes(load_npz(path)) == [1259, 179, 359]


@pytest.mark.parametrize("form", ["x_{}", "{}_images", "X{}", "{}_data"])
def test_arrays_of_each_split(form: str, tmp_path: Path) -> None:
    labels = {"x_{}": "y_{}", "{}_images": "{}_labels", "X{}": "Y{}", "{}_data": "{}_target"}[form]
    content = {}
    for number, part in enumerate(("train", "val", "test")):
        part = part.capitalize() if form == "X{}" else part
        content[form.format(part)] = X[number::3]
        content[labels.format(part)] = Y[number::3]
    assert sizes(load_npz(arrays(tmp_path, **content))) == [599, 599, 599]
    del content[form.format("Val" if form == "X{}" else "val")]
    with pytest.raises(UserError, match="has not both inputs and labels of the val data"):
        load_npz(arrays(tmp_path, **content))


@pytest.mark.parametrize(
    ("change", "shape"),
    [
        (lambda x: x.reshape(-1, 64), (64,)),
        (lambda x: x[:, None], (1, 8, 8)),
        (lambda x: x[..., None], (1, 8, 8)),
        (lambda x: np.repeat(x[..., None], 3, 3), (3, 8, 8)),
        (lambda x: x.astype(np.float64) / 16, (1, 8, 8)),
        (lambda x: x.astype(np.int64), (1, 8, 8)),
        (lambda x: x > 8, (1, 8, 8)),
        (lambda x: x.sum((1, 2)), (1,)),
    ],
)
def test_arrays_of_every_shape_and_type(
    change: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...], tmp_path: Path
) -> None:
    data = load_npz(arrays(tmp_path, x=change(X), y=Y))
    assert data.input_shape == shape
    assert data.train.inputs.dtype == torch.float32
    assert data.train.inputs.isfinite().all()


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (Y[:, None], list("0123456789")),
        (np.eye(10)[Y], list("0123456789")),
        (Y.astype(np.float32), list("0123456789")),
        (Y + 5, [str(n) for n in range(5, 15)]),
        (Y > 4, ["False", "True"]),
        (np.array(list("abcdefghij"))[Y], list("abcdefghij")),
        (np.array(list("abcdefghij")).astype("S1")[Y], list("abcdefghij")),
    ],
)
def test_labels_of_every_kind(labels: np.ndarray, names: list[str], tmp_path: Path) -> None:
    assert load_npz(arrays(tmp_path, x=X, y=labels)).class_names == names


def test_names_of_classes_are_taken(tmp_path: Path) -> None:
    names = np.array([f"digit {n}" for n in range(10)])
    assert load_npz(arrays(tmp_path, x=X, y=Y, class_names=names)).class_names == list(names)


def objects() -> np.ndarray:
    return np.array([{}, None], dtype=object)


TOLD_NPZ: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no labels": ({"x": X}, {}, "which array holds the labels\\? Set dataset.labels to one of x"),
    "other names": ({"a": X, "b": Y}, {}, "which array holds the inputs"),
    "a wrong name": ({"a": X, "b": Y}, {"inputs": "c"}, "dataset.inputs=c is not one of a, b"),
    "two inputs": ({"x": X, "data": X, "y": Y}, {}, "several arrays of inputs"),
    "short labels": ({"x": X, "y": Y[:-1]}, {}, r"the inputs \(1797, 8, 8\) and labels \(1796,\)"),
    "objects": ({"x": objects(), "y": Y[:2]}, {}, "it holds Python objects"),
    "texts": ({"x": np.array(["a", "b"]), "y": Y[:2]}, {}, "inputs are of type <U1, not numbers"),
    "complex": ({"x": X * 1j, "y": Y}, {}, "inputs are of type complex128"),
    "NaN": (
        {"x": np.where(X == 16, np.nan, X), "y": Y},
        {},
        "inputs hold NaN, infinite values or numbers above",
    ),
    "NaN labels": ({"x": X, "y": np.where(Y == 3, np.nan, Y)}, {}, "labels hold NaN"),
    "soft labels": ({"x": X, "y": np.eye(10)[Y] * 0.9 + 0.01}, {}, r"labels have the shape"),
    "a regression": ({"x": X, "y": Y + 0.5}, {}, "looks like a number to predict"),
    "one label": ({"x": X, "y": Y * 0}, {}, "all labels are 0"),
    "shapes": (
        {"x_train": X, "y_train": Y, "x_test": X[:, :4], "y_test": Y},
        {},
        "examples of several shapes",
    ),
    "whole and split": ({"x": X, "y": Y, "x_train": X, "y_train": Y}, {}, "of all data and of sp"),
    "nothing": ({}, {}, "which array holds the inputs"),
    "no features": ({"x": X[:, :0, 0], "y": Y}, {}, r"\(1797, 0\) hold no feature"),
    "too large": ({"x": X * 1e300, "y": Y}, {}, "infinite values or numbers above 1e38"),
    "empty labels": ({"x": X, "y": np.array(["", "a"])[Y % 2]}, {}, "891 labels are empty"),
    "no rows": ({"x": X[:0], "y": Y[:0]}, {}, "there are no examples"),
}


@pytest.mark.parametrize("name", TOLD_NPZ, ids=str)
def test_what_arrays_cannot_be_is_told_in_one_line(name: str, tmp_path: Path) -> None:
    content, settings, message = TOLD_NPZ[name]
    with pytest.raises(UserError, match=message) as caught:
        load_npz(arrays(tmp_path, **content), **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY", b"hello", b"\x80\x04K\x01."])
def test_files_that_are_no_npz_are_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot be read as an \.npz file") as caught:
        load_npz(tmp_path / "a.npz")
    assert "\n" not in str(caught.value)
    out = io.BytesIO()
    np.save(out, X)
    (tmp_path / "a.npz").write_bytes(out.getvalue())
    with pytest.raises(UserError, match="one array alone"):
        load_npz(tmp_path / "a.npz")


def test_runs_on_a_table_and_on_arrays(train: Train, tmp_path: Path) -> None:
    bunch = load_wine(as_frame=True)
    bunch.frame.to_csv(tmp_path / "wine.csv", index=False)
    arrays(tmp_path, x=X, y=Y)
    short = ["model=mlp", "miner=ohem", "trainer.batch_size=16", "miner.k=8", "optimizer.lr=0.01"]
    for chosen in (
        ["dataset=csv", f"dataset.path={tmp_path / 'wine.csv'}"],
        ["dataset=npz", "dataset.path=a.npz", f"paths.data_dir={tmp_path}"],
    ):
        summary = train(*chosen, *short, "trainer.max_steps=60")
        assert summary["test/accuracy"] > 0.8
