"""Folders of images as strangers have them: splits and classes are told apart, or asked for."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from image_files import NAMES, animals, archive, folder, in_splits, load, picture, sizes
from PIL import Image

from minesweep.errors import UserError

# --- folders of splits ---------------------------------------------------------------------------

TWO = [
    *(("Train", "Test"), ("Training", "Testing"), ("train", "eval"), ("seg_train", "seg_test")),
    *(("TRAIN", "TEST"), ("train_images", "test_images"), ("TrainSet", "TestSet")),
    *(("train2017", "test2017"), ("1_train", "2_test"), ("trainset", "testset")),
    *(("training set", "test set"), ("x-train", "x-holdout"), ("train ", " test")),
    *(("Entrenamiento", "Prueba"), ("treino", "teste"), ("trainingsdaten", "testdaten")),
    *(("trainval", "test"), ("train_val", "test"), ("imagesTr_train", "imagesTr_tst")),
]


@pytest.mark.parametrize("names", TWO, ids="-".join)
@pytest.mark.parametrize("above", ["", "one/", "one/two/"])
def test_folders_of_two_splits_are_no_classes(
    names: tuple[str, str], above: str, tmp_path: Path
) -> None:
    content = in_splits(*(f"{above}{name}" for name in names))
    data = load(archive(tmp_path / "a.zip", content), val_share=0.25)
    assert data.class_names == list(NAMES)
    assert sizes(data) == [9, 3, 9]  # the validation split is dealt out of training


THREE = [
    *(("TRAIN", "VALID", "TEST"), ("train", "dev", "test"), ("train", "validation", "test")),
    *(("Training", "Validation", "Testing"), ("train", "eval", "test"), ("trn", "val", "tst")),
    *(
        ("train_data", "val_data", "test_data"),
        ("train", "devel", "eval"),
        ("训练", "验证", "测试"),
    ),
    *(("my_train", "my_valid", "my_test"), ("TrainData", "DevData", "TestData")),
]


@pytest.mark.parametrize("names", THREE, ids="-".join)
def test_folders_of_three_splits_are_no_classes(names: tuple[str, ...], tmp_path: Path) -> None:
    data = load(folder(tmp_path / "a", in_splits(*names)))
    assert data.class_names == list(NAMES)
    assert sizes(data) == [12, 9, 6]


@pytest.mark.parametrize(
    "names",
    [
        ("train/train", "test/test"),
        ("train/images", "test/photos/all"),
        ("seg_train/x", "seg_test"),
    ],
)
def test_folders_between_splits_and_classes_are_passed_over(
    names: tuple[str, str], tmp_path: Path
) -> None:
    data = load(folder(tmp_path / "a", in_splits(*names)), val_share=0.25)
    assert (data.class_names, sizes(data)) == (list(NAMES), [9, 3, 9])


def test_splits_below_the_classes(tmp_path: Path) -> None:
    content = {
        f"{name}/{split}/{number}.png": picture(1000 * c + 100 * s + number)
        for c, name in enumerate(NAMES)
        for s, split in enumerate(("Train", "Valid", "Test"))
        for number in range(3 - s)
    }
    data = load(folder(tmp_path / "a", content))
    assert (data.class_names, sizes(data)) == (list(NAMES), [9, 6, 3])


def test_a_folder_without_labels_beside_the_splits_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = in_splits("seg_train/seg_train", "seg_test/seg_test")
    content |= {f"seg_pred/seg_pred/{n}.png": picture(9000 + n) for n in range(5)}
    data = load(archive(tmp_path / "a.zip", content), val_share=0.25)
    assert (data.class_names, sizes(data)) == (list(NAMES), [9, 3, 9])
    assert "left out 5 images in no class folder" in caplog.text


def test_one_class_in_a_held_out_split_is_one_class(tmp_path: Path) -> None:
    content = animals(4, "train/") | {f"test/cat/a/{n}.png": picture(7000 + n) for n in range(3)}
    data = load(folder(tmp_path / "a", content), val_share=0.25)
    assert data.class_names == list(NAMES)
    assert data.test.labels.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (animals() | animals(3, "test/", 50), "cannot be told whether test are splits or classes"),
        (animals() | animals(3, "Validation/", 50), "whether Validation are splits or classes"),
        (in_splits("train", "test", "cat"), "test, train look like splits, and cat beside them"),
        (in_splits("val", "test"), "whether test, val are splits or classes"),
        (in_splits("train_station", "test_tube"), "whether test_tube, train_station are splits"),
        (in_splits("a/train", "a/test", "b"), "the folder a holds the splits test, train"),
        (in_splits("a/train", "a/test", "b/train"), "the folder a holds the splits test, train"),
        ({f"{s}/{n}.png": picture(n) for s in ("train", "test") for n in range(4)}, "no class fol"),
        (in_splits("trainA", "testB"), "whether testB, trainA are splits or classes"),
        (in_splits("images/train", "masks/train"), "images, masks look like images and their"),
        (in_splits("Images", "Annotations"), "Annotations, Images look like images and their"),
        (in_splits("train", "test", "val", "eval"), "whether eval, test, train ... are splits"),
    ],
)
def test_what_may_be_splits_or_classes_is_refused(
    content: dict[str, bytes], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load(folder(tmp_path / "a", content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "names",
    [
        *(("train", "bus", "car"), ("freight_train", "night_train"), ("test_tube", "test_strip")),
        *(("valid", "invalid"), ("value", "device"), ("latest", "oldest"), ("trail", "tested_ok")),
    ],
)
def test_classes_whose_names_look_a_little_like_splits_stay_classes(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    content = {f"{n}/{i}.png": picture(100 * c + i) for c, n in enumerate(names) for i in range(9)}
    assert load(folder(tmp_path / "a", content)).class_names == sorted(names)


def test_folders_that_all_hold_the_same_folders_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load(folder(tmp_path / "a", in_splits("lernen", "pruefen")))
    assert "lernen, pruefen count as classes, though each holds the same folders cat" in caplog.text


# --- folders and classes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("@eaDir", "lost+found", "__MACOSX", ".ipynb_checkpoints", ".hidden", "#recycle"),
        *("$RECYCLE.BIN", "System Volume Information", "__pycache__", "cat/@eaDir"),
    ],
)
def test_folders_of_the_system_are_no_classes(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = animals() | {f"{name}/{n}.png": picture(5000 + n) for n in range(10)}
    data = load(folder(tmp_path / "a", content))
    assert (data.class_names, sum(sizes(data))) == (list(NAMES), 30)
    assert "left out 10 images in hidden folders or those of the system" in caplog.text


@pytest.mark.parametrize(
    ("one", "other"), [("cat", " cat"), ("cat", "cat "), ("caf\u00e9", "cafe\u0301")]
)
def test_a_name_written_in_two_ways_is_one_class(
    one: str, other: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = {
        f"{n}/{i}{k}.png": picture(i + 20 * k)
        for k, n in enumerate((one, other, "dog"))
        for i in range(6)
    }
    data = load(folder(tmp_path / "a", content))
    assert data.class_names == [one, "dog"]
    assert "are taken for one class" in caplog.text


def test_links_to_nothing_pipes_and_names_of_other_encodings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder(tmp_path / "a", animals())
    (path / "cat" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(path / "dog" / "pipe.png")
    odd = os.path.join(os.fsencode(path), b"caf\xe9")
    os.mkdir(odd)
    for number in range(9):
        with open(os.path.join(odd, b"\xff%d.png" % number), "wb") as file:
            file.write(picture(400 + number))
    data = load(path)
    assert data.class_names == ["café", *NAMES] or data.class_names == sorted(["café", *NAMES])
    assert sum(sizes(data)) == 39
    assert "left out 2 broken links and pipes" in caplog.text
    assert data.fingerprint() == load(path).fingerprint()
    print(data.describe().encode())


def test_names_that_differ_in_case_are_two_classes_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = {f"{n}/{i}.png": picture(100 * c + i) for c, n in enumerate("aAb") for i in range(9)}
    assert load(folder(tmp_path / "a", content)).class_names == ["A", "a", "b"]
    assert "A and a differ in case alone" in caplog.text


def test_a_class_all_of_whose_images_are_damaged_is_no_class(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = animals() | {f"dog/x{n}.png": b"broken" for n in range(10)}
    data = load(folder(tmp_path / "a", content))
    assert (data.class_names, data.num_classes) == (["cat", "eel"], 2)
    assert data.train.labels.unique().tolist() == [0, 1]
    assert "no image of 1 classes (dog) can be decoded: no class" in caplog.text
    content |= {f"eel/x{n}.png": b"" for n in range(10)}
    with pytest.raises(UserError, match=r"images of 1 class\(es\) that can be decoded"):
        load(folder(tmp_path / "a", content))


def test_a_class_that_only_the_test_has_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = in_splits("train", "val", "test")
    content |= {f"test/fox/{n}.png": picture(8000 + n) for n in range(3)}
    data = load(folder(tmp_path / "a", content))
    assert data.class_names == [*NAMES, "fox"]
    assert "1 classes (fox) without a training image" in caplog.text


def test_images_in_two_splits_are_told_with_their_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = in_splits("train", "val", "test")
    content |= {"test/cat/y.png": content["train/cat/x0.png"]}
    content |= {"test/dog/z.png": content["train/dog/x1.png"]}
    load(folder(tmp_path / "a", content))
    assert (
        "2 images of the test split are in the train split too, e.g. train/cat/x0.png"
        in caplog.text
    )


def test_blank_images_are_told_by_class(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = io.BytesIO()
    Image.new("RGB", (9, 9), "white").save(out, "PNG")
    content = animals() | {f"dog/x{n}.png": out.getvalue() for n in range(10)}
    content["eel/x3.png"] = out.getvalue()
    load(folder(tmp_path / "a", content))
    assert "11 images are of one colour alone: 10 of 10 in dog, 1 of 10 in eel" in caplog.text


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "JPG", "JPEG", "Tiff", "pnm", "avif"])
def test_less_usual_endings_are_images(suffix: str, tmp_path: Path) -> None:
    kinds = {"Tiff": "TIFF", "pnm": "PPM", "avif": "AVIF"}
    content = {
        f"{name}/{n}.{suffix}": picture(n, kind=kinds.get(suffix, "JPEG"))
        for name in NAMES
        for n in range(9)
    }
    assert sum(sizes(load(folder(tmp_path / "a", content)))) == 27


def test_swapped_classes_and_a_repaired_file_are_other_data(tmp_path: Path) -> None:
    path = folder(tmp_path / "a", animals())
    one = load(path)
    assert load(path).fingerprint() == one.fingerprint()
    for name, other in (("cat", "keep"), ("dog", "cat"), ("keep", "dog")):
        (path / name).rename(path / other)
    swapped = load(path)
    assert swapped.train.labels.tolist() == one.train.labels.tolist()
    assert swapped.fingerprint() != one.fingerprint()
    (path / "eel" / "x7.png").write_bytes(picture(77))
    repaired = load(path)
    assert len({one.fingerprint(), swapped.fingerprint(), repaired.fingerprint()}) == 3
    (path / "eel").rename(path / "fox")
    assert load(path).fingerprint() != repaired.fingerprint()
