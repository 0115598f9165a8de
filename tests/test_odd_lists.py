"""Lists of images as strangers write them: read rightly, or told."""

from __future__ import annotations

from pathlib import Path

import pytest
from image_files import NAMES, animals, folder, in_splits, load, picture, sizes

from minesweep.datasets.base import Data
from minesweep.errors import UserError

FORMS = {
    "label behind a space": "{c}/{f}.png {n}",
    "label behind a comma": "{c}/{f}.png,{n}",
    "label behind a tab": "{c}/{f}.png\t{n}",
    "dot": "./{c}/{f}.png",
    "back-slash": "{c}\\{f}.png",
    "no ending": "{c}/{f}",
    "no ending and a label": "{c}/{f} {n}",
    "folder above": "folder/{c}/{f}.png",
    "absolute": "/home/me/data/images/{c}/{f}.png",
    "drive": "C:\\data\\{c}\\{f}.png",
    "quotes": '"{c}/{f}.png"',
    "single quotes": "'{c}/{f}.png'",
    "quoted columns": '"{c}/{f}.png","{c}",{n}',
    "second column": "{n},{c}/{f}.png,{c}",
    "semicolons": "{c}/{f}.png;{n}",
    "capitals": "{C}/{F}.PNG",
    "spaces around": "   {c}/{f}.png   ",
    "two labels": "{c}/{f}.png {n} {n}",
    "box": "{c}/{f}.png 0.1,0.2,0.3,0.4",
}


def listed(form: str, numbers: range) -> str:
    return "".join(
        form.format(c=c, f=f"x{i}", n=n, C=c.upper(), F=f"X{i}") + "\n"
        for n, c in enumerate(NAMES)
        for i in numbers
    )


def held(data: Data) -> set[bytes]:
    return {image.numpy().tobytes() for image in data.test.inputs}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> set[bytes]:
    content = animals() | {"test.txt": listed("{c}/{f}.png", range(3)).encode()}
    return held(load(folder(tmp_path_factory.mktemp("plain") / "a", content)))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_lists_in_the_usual_forms(form: str, expected: set[bytes], tmp_path: Path) -> None:
    content = animals() | {"test.txt": listed(FORMS[form], range(3)).encode()}
    data = load(folder(tmp_path / "a", content))
    assert len(data.test) == 9
    assert held(data) == expected


@pytest.mark.parametrize(
    ("encoding", "end"),
    [
        *(("utf-8-sig", "\n"), ("utf-16", "\n"), ("utf-16-le", "\n"), ("utf-16-be", "\r\n")),
        *(("utf-8", "\r\n"), ("utf-8", "\r"), ("utf-8", "\n\n"), ("utf-8-sig", "\r\n")),
    ],
)
def test_lists_in_every_encoding(
    encoding: str, end: str, expected: set[bytes], tmp_path: Path
) -> None:
    text = listed("{c}/{f}.png", range(3)).replace("\n", end)
    data = load(folder(tmp_path / "a", animals() | {"test.txt": text.encode(encoding)}))
    assert held(data) == expected


@pytest.mark.parametrize(
    "name",
    [
        "Test.txt",
        "TEST.TXT",
        "test_list.txt",
        "testing.lst",
        "test.csv",
        "TestImages.tsv",
        "lists/test.txt",
    ],
)
def test_lists_of_every_name(name: str, expected: set[bytes], tmp_path: Path) -> None:
    text = "filename,label\n" + listed("{c}/{f}.png,{n}", range(3))
    data = load(folder(tmp_path / "a", animals() | {name: text.encode()}))
    assert held(data) == expected


def test_bare_names_are_found_where_there_is_one_of_each(tmp_path: Path) -> None:
    content = {
        f"{c}/{c}{i}.png": picture(100 * n + i) for n, c in enumerate(NAMES) for i in range(9)
    }
    content["test.txt"] = b"cat0.png\ndog1\neel2.png\n"
    assert len(load(folder(tmp_path / "a", content)).test) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png\nb.png\ncat/x1.png", r"test.txt: 2 of 3 lines name no image here, e.g. 'a.png'"),
        ("", "test.txt: 0 of 0 lines name no image"),
        ("cat\ndog\n", "2 of 2 lines name no image here, e.g. 'cat': write lines such as cat/x0"),
        ("x0.png\nx1.png", "'x0.png' may be cat/x0.png or dog/x0.png"),
        ("\x00\x01\x02", "1 of 1 lines name no image"),
    ],
)
def test_lists_of_nothing_stop_the_run(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load(folder(tmp_path / "a", animals() | {"test.txt": text.encode()}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["train_test_split.txt", "splits.json", "train.json", "split.csv", "test.npy"]
)
def test_splits_in_a_form_that_is_not_read_stop_the_run(name: str, tmp_path: Path) -> None:
    path = folder(tmp_path / "a", animals() | {name: b"1 0\n2 1\n"})
    with pytest.raises(UserError, match="seems to say the splits, in a form that is not read"):
        load(path)
    (path / name).rename(path / "training_notes.txt")
    assert sum(sizes(load(path))) == 30


def test_two_lists_of_one_split_are_refused(tmp_path: Path) -> None:
    both = {
        name: listed("{c}/{f}.png", range(3)).encode() for name in ("test.txt", "test_list.txt")
    }
    with pytest.raises(UserError, match="has two lists of the test split"):
        load(folder(tmp_path / "a", animals() | both))


def test_lists_beside_folders_of_splits_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = in_splits("train", "val", "test") | {"test.txt": b"train/cat/x0.png\n"}
    assert sizes(load(folder(tmp_path / "a", content))) == [12, 9, 6]
    assert "folders say the splits, test.txt is not read" in caplog.text
