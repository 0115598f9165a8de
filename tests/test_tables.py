"""Tables of the user's own, as people save them: read, dealt, scaled, or told."""

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
from sklearn.datasets import load_iris

from minesweep.datasets.base import Data
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
