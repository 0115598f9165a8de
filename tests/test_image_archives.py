"""Caltech and CIFAR: their official archives, damaged ones too."""

from __future__ import annotations

import io
import logging
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SHARED
from image_files import files, folder, picture, sizes
from test_mnist_files import md5

from minesweep.datasets.caltech import Caltech101, Caltech256
from minesweep.datasets.cifar import Cifar10
from minesweep.errors import UserError


def tar(content: dict[str, bytes], mode: str = "w:gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as packed:  # type: ignore[call-overload]
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return out.getvalue()


def official(images: str, kind: type[Caltech101]) -> bytes:
    content = files(under=f"{images}/")
    if kind is Caltech256:
        return tar(content, "w")
    content[f"{images}/BACKGROUND_Google/a.png"] = picture(1)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as outer:
        outer.writestr(f"caltech-101/{images}.tar.gz", tar(content))
    return out.getvalue()


@pytest.mark.parametrize("kind", [Caltech101, Caltech256])
def test_caltechs_official_archive_is_unpacked_once(
    kind: type[Caltech101], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = official(kind.images, kind)
    folder(tmp_path / kind.folder, {kind.archive: content})
    dataset = kind(image_size=8)
    with pytest.raises(UserError, match=rf"damaged \(MD5 {md5(content)}, not {kind.checksum}\)"):
        dataset.load(tmp_path)
    monkeypatch.setattr(kind, "checksum", md5(content))
    data = dataset.load(tmp_path)
    assert data.class_names == ["class_0", "class_1", "class_2"]
    assert sizes(data) == [21, 3, 6]
    assert sorted(os.listdir(tmp_path / kind.folder)) == sorted([kind.archive, kind.images])
    (tmp_path / kind.folder / kind.archive).unlink()
    assert kind(image_size=8).load(tmp_path).fingerprint() == data.fingerprint()


def test_a_hostile_archive_writes_nothing_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = tar({"../../evil.png": picture(1)}, "w")
    folder(tmp_path / "caltech256", {Caltech256.archive: content})
    monkeypatch.setattr(Caltech256, "checksum", md5(content))
    with pytest.raises(UserError, match=r"256_ObjectCategories.tar cannot be unpacked: "):
        Caltech256(image_size=8).load(tmp_path)
    assert os.listdir(tmp_path) == ["caltech256"]
    assert os.listdir(tmp_path / "caltech256") == [Caltech256.archive]


@pytest.mark.parametrize("kind", [Caltech101, Caltech256, Cifar10])
def test_where_nothing_is_there_and_nothing_can_be_had_it_says_what_to_do(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, "mirrors", ("http://127.0.0.1:9/",))
    with pytest.raises(UserError, match=r"could not be downloaded \(127.0.0.1:9: .*paths.data_dir"):
        kind(image_size=8).load(tmp_path)


@pytest.mark.skipif(not (SHARED / "caltech101").is_dir(), reason="needs Caltech-101")
def test_caltech101_is_read_out_of_its_zip_and_dealt_by_its_lists(
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = Caltech101(image_size=16, stored_size=16).load(SHARED)
    assert sizes(data) == [5206, 578, 2893]
    assert data.num_classes == 101
    assert data.input_shape == (3, 16, 16)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


class TinyCifar(Cifar10):
    rows = 20
    validation = 10


def cifar_files() -> dict[str, bytes]:
    draws = np.random.default_rng(0)
    names = [name for part in Cifar10.files.values() for name in part]
    tables = {name: draws.integers(0, 256, (20, 3073), dtype=np.uint8) for name in names}
    for table in tables.values():
        table[:, 0] %= 10
    return {f"{Cifar10.folder}/{name}": table.tobytes() for name, table in tables.items()}


def test_cifar10_is_read_from_its_archive_and_from_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = cifar_files()
    packed = folder(tmp_path / "packed", {Cifar10.archive: tar(content)})
    with pytest.raises(UserError, match=r"cifar-10-binary.tar.gz is damaged \(MD5"):
        TinyCifar().load(packed)
    monkeypatch.setattr(TinyCifar, "checksum", md5((packed / Cifar10.archive).read_bytes()))
    data = TinyCifar(normalize="none").load(packed)
    assert sizes(data) == [90, 10, 20]
    assert data.input_shape == (3, 32, 32)
    unpacked = folder(tmp_path / "unpacked", content)
    again = TinyCifar(normalize="none").load(unpacked)
    assert again.fingerprint() == data.fingerprint()
    # The format by hand: label, then red, green and blue rows.
    raw = np.frombuffer(content[f"{Cifar10.folder}/test_batch.bin"], np.uint8).reshape(20, 3073)
    found = data.test.fetch(torch.tensor([7]))
    assert found.labels.item() == raw[7, 0]
    expected = torch.from_numpy(raw[7, 1:].reshape(3, 32, 32).astype(np.float32))
    torch.testing.assert_close(found.inputs[0], expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("change", ["short", "label", "missing"])
def test_damaged_cifar10_is_told(change: str, tmp_path: Path) -> None:
    content = cifar_files()
    name = f"{Cifar10.folder}/data_batch_3.bin"
    if change == "missing":
        del content[name]
    else:
        content[name] = content[name][:-1] if change == "short" else b"\x0a" + content[name][1:]
    with pytest.raises(UserError, match=r"cifar-10-batches-bin.*(cannot be read|is damaged)"):
        TinyCifar().load(folder(tmp_path, content))
