"""Zips of images as strangers pack them: read rightly, or told."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest
import torch
from image_files import NAMES, animals, archive, files, folder, load, picture, sizes

from minesweep.datasets.decode import square
from minesweep.errors import UserError


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
