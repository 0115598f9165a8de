"""Folders, zips, lists and files of images as strangers have them: read rightly, or told."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_images import archive, files, folder, load, picture, sizes

from minesweep.datasets.base import Data
from minesweep.datasets.decode import square
from minesweep.errors import UserError

NAMES = ("cat", "dog", "eel")


def animals(each: int = 10, under: str = "", first: int = 0) -> dict[str, bytes]:
    """Images of three classes, ``cat/x0.png`` and so on, all different."""
    return {
        f"{under}{name}/x{number}.png": picture(1000 * c + number + first)
        for c, name in enumerate(NAMES)
        for number in range(each)
    }


def in_splits(*names: str, inner: str = "") -> dict[str, bytes]:
    content: dict[str, bytes] = {}
    for place, name in enumerate(names):
        content |= animals(4 - place, f"{name}/{inner}", 100 * place)
    return content


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


# --- lists ---------------------------------------------------------------------------------------

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


# --- what an image shows -------------------------------------------------------------------------


def saved(image: Image.Image, kind: str = "PNG", **settings: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **settings)
    return out.getvalue()


RAMP = np.add.outer(np.arange(16), np.arange(16)).astype(np.float64) / 30


def close(content: bytes, expected: np.ndarray, within: float = 1.5) -> None:
    found = square(content, 16).astype(np.float64)
    assert np.abs(found - expected).max() <= within


@pytest.mark.parametrize("colour", [0, 255])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_content_in_the_alpha_channel_alone_is_seen(mode: str, colour: int) -> None:
    alpha = (RAMP * 255).round().astype(np.uint8)
    bands = [np.full_like(alpha, colour)] * (3 if mode == "RGBA" else 1)
    content = saved(Image.fromarray(np.stack([*bands, alpha], 2)))
    # Black lies on white, and white, which would not be seen there, on black.
    close(content, RAMP * 255 if colour else 255 - RAMP * 255)


def test_a_palette_with_transparency_lies_on_white() -> None:
    image = Image.fromarray((RAMP > 0.5).astype(np.uint8))
    image = image.convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    found = square(saved(image, transparency=0), 16)
    assert set(map(tuple, found.reshape(3, -1).T.tolist())) >= {(255, 255, 255), (40, 50, 60)}


def test_an_opaque_image_with_an_alpha_channel_is_itself() -> None:
    plain = Image.open(io.BytesIO(picture(3, size=(16, 16))))
    assert np.array_equal(square(saved(plain.convert("RGBA")), 16), square(saved(plain), 16))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (RAMP.astype(np.float32), RAMP * 255),
        ((RAMP * 65535).astype(np.float32), RAMP * 255),
        ((RAMP * 255).astype(np.float32), RAMP * 255),
        ((RAMP * 65535).astype(np.int32), RAMP * 255),
        ((RAMP * 255).astype(np.int32), RAMP * 255),
        ((RAMP * 65535).astype(np.uint16), RAMP * 255),
    ],
)
def test_deep_tiffs_are_scaled(values: np.ndarray, expected: np.ndarray) -> None:
    close(saved(Image.fromarray(values), "TIFF"), expected)


@pytest.mark.parametrize(
    "values",
    [-RAMP, RAMP * 1e6, np.where(RAMP > 0.9, np.nan, RAMP), np.where(RAMP > 0.9, np.inf, RAMP)],
)
def test_values_of_no_known_scale_are_refused(values: np.ndarray) -> None:
    content = saved(Image.fromarray(values.astype(np.float32)), "TIFF")
    with pytest.raises(ValueError, match="have no known scale: save it with 8 or 16 bits"):
        square(content, 16)


def test_broken_marks_of_the_camera_change_nothing() -> None:
    exif = Image.Exif()
    exif[0x0112] = 1
    content = saved(Image.open(io.BytesIO(picture(5, size=(16, 16)))), "JPEG", exif=exif)
    broken = content.replace(b"MM\x00*", b"MM\x00!").replace(b"II*\x00", b"II!\x00")
    assert broken != content
    assert np.array_equal(square(broken, 16), square(content, 16))


def test_one_bit_and_cmyk_are_what_they_show() -> None:
    bits = Image.fromarray(RAMP > 0.5)
    assert set(np.unique(square(saved(bits, "TIFF"), 16))) == {0, 255}
    red = saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "TIFF")
    assert square(red, 16)[:, 8, 8].tolist() == [255, 0, 0]


def test_a_large_image_is_read_and_a_huge_one_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(Image.new("L", (14_000, 14_000), 70), "PNG")
    before = Image.MAX_IMAGE_PIXELS
    assert (square(content, 8) == 70).all()
    assert before == Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr("minesweep.datasets.decode.MOST_PIXELS", 1000)
    with pytest.raises(ValueError, match="14000 x 14000 pixels are too many"):
        square(content, 8)


# --- zips ----------------------------------------------------------------------------------------


def patched(path: Path, flags: int = 0, method: int | None = None) -> Path:
    """Sets flags, or the packing method, of every member, as another tool would write them."""
    data = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(mark)
        while place >= 0:
            old, packing = struct.unpack_from("<HH", data, place + at)
            struct.pack_into(
                "<HH", data, place + at, old | flags, packing if method is None else method
            )
            place = data.find(mark, place + 4)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("flags", "method", "message"),
    [
        (1, None, "30 of 30 images are encrypted: pack them again as a plain zip"),
        (1, 99, "30 of 30 images are encrypted"),
        (0, 9, "30 of 30 images are packed by Deflate64, which Python does not unpack"),
        (0, 98, "packed by PPMd"),
        (0, 77, "packed by method 77"),
        (0x20, None, "are patches of another archive"),
    ],
)
def test_zips_that_python_cannot_unpack_are_told(
    flags: int, method: int | None, message: str, tmp_path: Path
) -> None:
    path = patched(archive(tmp_path / "a.zip", animals()), flags, method)
    with pytest.raises(UserError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packed_zips_are_read(method: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as out:
        for name, data in animals().items():
            out.writestr(name, data)
    assert sum(sizes(load(tmp_path / "a.zip"))) == 30


@pytest.mark.parametrize("change", ["./{}", ".\\{}", "top/./{}", "top\\{}"])
def test_member_names_of_other_systems(change: str, tmp_path: Path) -> None:
    content = {
        change.format(name).replace("/", "\\" if "\\" in change else "/"): data
        for name, data in animals().items()
    }
    data = load(archive(tmp_path / "a.zip", content))
    assert (data.class_names, sum(sizes(data))) == (list(NAMES), 30)


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("utf-8", ["käse", "müsli", "日本"]),
        ("cp437", ["käse", "müsli", "épée"]),
        ("cp866", ["кошка", "собака", "рыба"]),
        ("cp932", ["ねこ", "いぬ", "さかな"]),
        ("cp936", ["猫科动物", "犬科动物", "鱼类"]),
    ],
)
def test_member_names_in_legacy_code_pages(page: str, names: list[str], tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    marks = {name: "".join(chr(65 + n) for _ in name.encode(page)) for n, name in enumerate(names)}
    content = {
        f"{marks[name]}/{i}.png": picture(100 * n + i)
        for n, name in enumerate(names)
        for i in range(9)
    }
    data = archive(path, content).read_bytes()
    for name, mark in marks.items():
        data = data.replace(f"{mark}/".encode(), name.encode(page) + b"/")
    path.write_bytes(data)
    assert load(path).class_names == sorted(names)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a zip archive"),
        (b"7z\xbc\xaf\x27\x1c", "cannot be read as a zip archive: .* unpacked first"),
        (picture(1), "cannot be read as a zip archive"),
        (b"PK\x05\x06" + bytes(18), "holds no images"),
    ],
)
def test_files_that_are_no_zip_of_images(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path / "a.zip")
    assert "\n" not in str(caught.value)


def test_a_member_with_a_wrong_checksum_is_a_damaged_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = archive(tmp_path / "a.zip", animals())
    data = bytearray(path.read_bytes())
    data[data.find(b"IDAT") + 8] ^= 255
    path.write_bytes(data)
    assert sum(sizes(load(path))) == 29
    assert "left out 1 images that cannot be decoded" in caplog.text


def test_a_member_that_claims_gigabytes_is_a_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = archive(tmp_path / "a.zip", files() | {"class_0/zz.png": picture(1) + bytes(10**6)})
    monkeypatch.setattr("minesweep.datasets.archive.LARGEST", 10**5)
    assert sum(sizes(load(path))) == 30
    assert "are no image" in caplog.text


def test_labels_stay_with_their_images_where_some_are_damaged(tmp_path: Path) -> None:
    content = animals() | {"cat/x1.png": b"", "dog/x4.png": b"x"}
    data = load(folder(tmp_path / "a", content), image_size=8, stored_size=8)
    of = {square(picture(1000 * c + n), 8).tobytes(): c for c in range(3) for n in range(10)}
    for split in (data.train, data.val, data.test):
        rows = torch.arange(len(split))
        assert [of[image.numpy().tobytes()] for image in split.inputs] == split.labels[
            rows
        ].tolist()
