"""Tables and arrays of the user's own, as people save them: read, dealt, scaled, or told."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Train
from sklearn.datasets import load_digits, load_iris, load_wine

from minesweep.datasets.base import Data
from minesweep.datasets.npz import Npz
from minesweep.datasets.table import Csv
from minesweep.errors import UserError


def iris(**changes: Any) -> pd.DataFrame:
    bunch = load_iris()
    frame = pd.DataFrame(bunch.data, columns=["sl", "sw", "pl", "pw"])
    frame["species"] = bunch.target_names[bunch.target]
    for name, values in changes.items():
        frame[name] = values
    return frame


def put(folder: Path, content: bytes | str | pd.DataFrame, name: str = "a.csv") -> Path:
    if isinstance(content, pd.DataFrame):
        content = content.to_csv(index=False)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder / name


def load(path: Path, **settings: Any) -> Data:
    return Csv(str(path), **settings).load(Path("nowhere"))


def sizes(data: Data) -> list[int]:
    return [len(split) for split in (data.train, data.val, data.test)]


# --- tables --------------------------------------------------------------------------------------


def test_a_table_is_dealt_by_class_and_scaled_by_its_training_rows(tmp_path: Path) -> None:
    path = put(tmp_path, iris())
    data, raw = load(path), load(path, normalize="none")
    assert sizes(data) == [105, 15, 30]
    assert data.class_names == ["setosa", "versicolor", "virginica"]
    for split, count in ((data.train, 35), (data.val, 5), (data.test, 10)):
        assert split.labels.bincount().tolist() == [count] * 3
    seen = [torch.cat([s.inputs, s.labels[:, None]], 1) for s in (raw.train, raw.val, raw.test)]
    bunch = load_iris()
    whole = np.column_stack([bunch.data, bunch.target]).astype(np.float32)
    assert sorted(map(tuple, torch.cat(seen).tolist())) == sorted(map(tuple, whole.tolist()))
    mean, deviation = raw.train.inputs.mean(0), raw.train.inputs.std(0, correction=0)
    for part in ("train", "val", "test"):
        expected = (getattr(raw, part).inputs - mean) / deviation
        torch.testing.assert_close(getattr(data, part).inputs, expected, rtol=1e-4, atol=1e-5)
    assert load(path, split_seed=1).fingerprint() != data.fingerprint() == load(path).fingerprint()
    unit = load(path, normalize="unit").train.inputs
    assert (unit.min(), unit.max()) == (0, 1)


READ: dict[str, Callable[[], str | bytes]] = {
    "semicolons": lambda: iris().to_csv(index=False, sep=";"),
    "semicolons and decimal commas": lambda: iris().to_csv(index=False, sep=";", decimal=","),
    "tabs": lambda: iris().to_csv(index=False, sep="\t"),
    "byte-order mark": lambda: iris().to_csv(index=False).encode("utf-8-sig"),
    "UTF-16": lambda: iris().to_csv(index=False, sep="\t").encode("utf-16"),
    "Windows line ends": lambda: iris().to_csv(index=False, lineterminator="\r\n"),
    "old Mac line ends": lambda: iris().to_csv(index=False, lineterminator="\r"),
    "packed": lambda: gzip.compress(iris().to_csv(index=False).encode()),
    "quoted": lambda: iris().to_csv(index=False, quoting=1),
    "spaces behind commas": lambda: iris().to_csv(index=False).replace(",", ", "),
    "blank lines": lambda: iris().to_csv(index=False).replace("\n", "\n\n"),
    "the index of pandas": lambda: iris().to_csv(),
    "a line's end in quotes": lambda: (
        iris().rename(columns={"sl": "sepal\nlength"}).to_csv(index=False)
    ),
    "an id that numbers the rows": lambda: pd.concat(
        [pd.Series(range(1, 151), name="Id"), iris()], axis=1
    ).to_csv(index=False),
}


@pytest.mark.parametrize("name", READ, ids=str)
def test_tables_in_the_usual_forms(name: str, tmp_path: Path) -> None:
    expected = load(put(tmp_path, iris(), "plain.csv"))
    found = load(put(tmp_path, READ[name]()))
    assert torch.equal(found.train.inputs, expected.train.inputs)
    assert torch.equal(found.test.labels, expected.test.labels)
    assert found.class_names == expected.class_names


def test_a_table_without_names_has_numbered_columns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = put(tmp_path, iris().to_csv(index=False, header=False))
    data = load(path, label="5")
    assert (sizes(data), data.input_shape) == ([105, 15, 30], (4,))
    assert "row 1 is no row of names: columns are 1 to 5" in caplog.text


def test_columns_say_label_split_and_what_is_left_out(tmp_path: Path) -> None:
    words = ["Train", "validation", "TEST"] * 50
    frame = iris(part=words, note="x", other=range(150)).rename(columns={"species": "kind"})
    data = load(put(tmp_path, frame), label="kind", split="part", ignore=["note", "other"])
    assert (sizes(data), data.input_shape) == ([50, 50, 50], (4,))
    assert data.train.labels.bincount().tolist() == [17, 17, 16]


def test_a_folder_holds_a_table_for_each_split(tmp_path: Path) -> None:
    frame = iris()
    put(tmp_path, frame.iloc[::2], "Training.csv")
    put(tmp_path, frame.iloc[1::2], "test_data.csv")
    data = load(tmp_path, val_share=0.2)
    assert sizes(data) == [60, 15, 75]
    put(tmp_path, frame.iloc[1::2].drop(columns="pw"), "test_data.csv")
    with pytest.raises(UserError, match=r"test_data.csv has other columns than Training.csv: pw"):
        load(tmp_path)


def test_numbers_as_labels_keep_their_order(tmp_path: Path) -> None:
    frame = iris(species=np.arange(150) % 12).rename(columns={"species": "y"})
    assert load(put(tmp_path, frame)).class_names == [str(n) for n in range(12)]
    frame["y"] = frame["y"] * 1.0
    assert load(put(tmp_path, frame)).class_names == [str(n) for n in range(12)]
    frame["y"] = frame["y"] > 5
    assert load(put(tmp_path, frame)).class_names == ["False", "True"]


def test_a_column_of_one_value_becomes_zeros(tmp_path: Path) -> None:
    data = load(put(tmp_path, iris(sl=5.1, flag=[True, False] * 75)))
    assert (data.train.inputs[:, 0] == 0).all()
    assert data.train.inputs[:, 4].unique().numel() == 2


def holes(column: str, *rows: int) -> pd.DataFrame:
    frame = iris()
    frame[column] = frame[column].astype(object)
    frame.loc[list(rows), column] = None
    return frame


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("xl/workbook.xml", "<workbook/>")
    return out.getvalue()


TOLD: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "no such label": (iris, {"label": "specie"}, "dataset.label=specie .*did you mean 'species'"),
    "which label": (
        lambda: iris().rename(columns={"species": "kind"}),
        {},
        "which column is the label\\? Set dataset.label to one of sl, sw, pl, pw, kind",
    ),
    "two labels": (lambda: iris(label=1), {}, "which column is the label"),
    "no such column left out": (iris, {"ignore": ["foo"]}, "dataset.ignore=foo is not one of sl"),
    "no such split": (iris, {"split": "part"}, "dataset.split=part is not one of"),
    "missing labels": (
        lambda: holes("species", 3, 9),
        {},
        "column species has no value in 2 of 150 rows, first in row 5 .*: fill them in",
    ),
    "missing numbers": (lambda: holes("sw", 7), {}, "column sw has no value in 1 of 150 rows"),
    "text": (
        lambda: iris(city="Bern"),
        {},
        "column city is text, first 'Bern' in row 2: .*dataset.ignore=\\[city\\]",
    ),
    "mixed": (
        lambda: iris(sl=["5"] * 77 + ["?"] + ["6"] * 72),
        {},
        "column sl holds 1 values that are no numbers, first '\\?' in row 79",
    ),
    "units": (lambda: iris(sl="5 cm"), {}, "column sl is text, first '5 cm'"),
    "dates": (lambda: iris(day="2024-05-01"), {}, "column day is text"),
    "a number to predict": (
        lambda: iris(),
        {"label": "pl", "ignore": ["species"]},
        "a label is 1.4: .*looks like a number to predict",
    ),
    "a label of each row": (
        lambda: iris(name=[f"n{i}" for i in range(150)]),
        {"label": "name", "ignore": ["species"]},
        "150 examples have 150 different labels",
    ),
    "one label": (lambda: iris(species="a"), {}, "all labels are a: there must be two classes"),
    "no features": (lambda: iris()[["species", "sl"]], {"ignore": ["sl"]}, "no column of feat"),
    "one column": (lambda: iris()[["species"]], {}, "is no table: its first row 'species' has one"),
    "nothing": (lambda: "", {}, "is empty"),
    "blanks": (lambda: " \n\n", {}, "is empty"),
    "names alone": (lambda: "a,b,label\n", {}, "has no rows below its names"),
    "two of one name": (
        lambda: iris().rename(columns={"sl": "sw"}),
        {},
        "has two columns named sw: give each a name of its own",
    ),
    "two of the label's name": (
        lambda: iris().rename(columns={"sl": "species"}),
        {},
        "has two columns named species",
    ),
    "None as a label": (
        lambda: iris(species=["None", "a", "b"] * 50),
        {},
        r"has no value in 50 of 150 rows, first in row 2 \(NA, None and null are none\)",
    ),
    "a column of nothing": (
        lambda: iris(sl=None),
        {},
        r"or leave the rows, or the column \(dataset.ignore=\[sl\]\), out",
    ),
    "too large": (
        lambda: iris(sl=1e300),
        {},
        "column sl holds infinite values or numbers above 1e38, first in row 2",
    ),
    "Excel": (lambda: zipped(), {}, "is an Excel or zip file, not a table: save it as CSV"),
    "Parquet": (lambda: b"PAR1\x15\x04,\n", {}, "is a Parquet file, not a table"),
    "a web page": (lambda: "<!DOCTYPE html>\n<p>a, b, c", {}, "is a web page, not a table"),
    "JSON": (lambda: '[{"a": 1, "label": 0}]', {}, "is JSON, not a table"),
    "a pointer": (
        lambda: "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        {},
        r"the pointer of a file that Git LFS holds \(git lfs pull\)",
    ),
    "spaces between columns": (
        lambda: iris().to_csv(index=False, sep=" "),
        {},
        "has one column; separate columns by commas, semicolons or tabs",
    ),
    "a picture": (lambda: b"\x89PNG\r\n\x1a\n\x00\x00", {}, "is no table"),
    "half a packed file": (lambda: gzip.compress(b"a,b\n" * 99)[:20], {}, "cannot be read"),
    "broken rows": (lambda: "a,b,y\n1,2,0\n1,2,3,4,5\n", {}, "cannot be read as a table"),
    "a strange split": (
        lambda: iris(part="later"),
        {"split": "part"},
        "column part says 'later', not train, val or test",
    ),
    "infinite": (
        lambda: iris(sl=np.inf),
        {},
        "column sl holds infinite values or numbers above 1e38, first in row 2",
    ),
    "held out": (iris, {"held_out_classes": [5]}, "must name classes from 0 to 2"),
    "shares": (iris, {"val_share": 0.6, "test_share": 0.5}, "leave nothing to train on"),
    "few rows": (lambda: iris().iloc[::50], {}, "leaves no examples for the val split"),
}


@pytest.mark.parametrize("name", TOLD, ids=str)
def test_what_a_table_cannot_be_is_told_in_one_line(name: str, tmp_path: Path) -> None:
    make, settings, message = TOLD[name]
    with pytest.raises(UserError, match=message) as caught:
        load(put(tmp_path, make()), **settings)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_an_empty_folder_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"b.csv is not there: set dataset.path to a file in") as e:
        Csv("b.csv").load(tmp_path)
    assert "is here" not in str(e.value)
    put(tmp_path, iris(), "b.csv")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"b.csv is here: add paths.data_dir=\."):
        Csv("b.csv").load(tmp_path / "data")
    with pytest.raises(UserError, match=r"holds no train.csv"):
        load(tmp_path)


# --- arrays --------------------------------------------------------------------------------------

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
    put(tmp_path, bunch.frame, "wine.csv")
    arrays(tmp_path, x=X, y=Y)
    short = ["model=mlp", "miner=ohem", "trainer.batch_size=16", "miner.k=8", "optimizer.lr=0.01"]
    for chosen in (
        ["dataset=csv", f"dataset.path={tmp_path / 'wine.csv'}"],
        ["dataset=npz", "dataset.path=a.npz", f"paths.data_dir={tmp_path}"],
    ):
        summary = train(*chosen, *short, "trainer.max_steps=60")
        assert summary["test/accuracy"] > 0.8
