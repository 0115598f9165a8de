"""Image files: folders and zips of every kind, damaged ones too; what is read, dealt and told."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Killed, Train
from image_files import archive, files, folder, load, picture, pixels, sizes
from PIL import Image
from test_training import only_run, results
from torch import Tensor

from minesweep.config.compose import compose
from minesweep.config.identity import identity
from minesweep.datasets.decode import Decoder, Place, square
from minesweep.datasets.image_folder import ImageFolder
from minesweep.datasets.images import Files
from minesweep.errors import UserError

# --- splits --------------------------------------------------------------------------------------


def test_a_folder_and_a_zip_of_it_are_the_same(tmp_path: Path) -> None:
    content = files()
    one = load(folder(tmp_path / "a", content))
    for under in ("", "top/", "top/below/"):
        deep = {f"{under}{name}": data for name, data in content.items()}
        other = load(archive(tmp_path / f"{len(under)}.zip", deep))
        assert other.class_names == one.class_names == ["class_0", "class_1", "class_2"]
        for mine, its in ((one.train, other.train), (one.val, other.val), (one.test, other.test)):
            assert torch.equal(mine.labels, its.labels)
            rows = torch.arange(len(mine))
            assert torch.equal(mine.fetch(rows).inputs, its.fetch(rows).inputs)


def test_each_class_is_dealt_by_its_shares_and_the_split_seed_fixes_it(tmp_path: Path) -> None:
    path = folder(tmp_path / "a", files())
    data = load(path, val_share=0.1, test_share=0.2)
    assert sizes(data) == [21, 3, 6]
    for split, count in ((data.train, 7), (data.val, 1), (data.test, 2)):
        assert split.labels.bincount().tolist() == [count] * 3
    assert len(pixels(data).unique(dim=0)) == 30
    again, other = load(path), load(path, split_seed=1)
    assert again.fingerprint() == data.fingerprint() != other.fingerprint()
    # The training images are not sorted by class: a limit keeps some of each.
    assert load(path, limit=12).train.labels.unique().tolist() == [0, 1, 2]
    # A class more changes nothing for the others.
    folder(tmp_path / "a", {f"new/{n}.png": picture(n) for n in range(10)})
    old, new = data.test.fetch(torch.arange(6)), load(path).test.fetch(torch.arange(8))
    assert torch.equal(old.inputs, new.inputs[:6])


def test_lists_say_the_splits_and_what_they_do_not_say_is_dealt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = files()
    names = sorted(content)
    content["test.txt"] = "\n".join(names[::2]).encode()
    path = folder(tmp_path / "a", content)
    assert sizes(load(path, val_share=0.2)) == [12, 3, 15]
    (path / "train.txt").write_text("\n".join([*names[1:20:2], "", "class_9/00.png"]))
    assert sizes(load(path, val_share=0.2)) == [8, 2, 15]
    assert "left out 1 images that are not there, e.g. class_9/00.png" in caplog.text
    assert "left out 5 images that no list names" in caplog.text
    (path / "train.txt").write_text(names[0])
    with pytest.raises(UserError, match=r"class_0/00.png is both in test.txt and in train.txt"):
        load(path)


def test_folders_say_the_splits(tmp_path: Path) -> None:
    content = files(each=4, under="train/") | files(each=2, under="val/")
    assert sizes(load(folder(tmp_path / "a", content), test_share=0.25)) == [9, 6, 3]
    content |= files(each=3, under="test/")
    data = load(folder(tmp_path / "b", content))
    assert sizes(data) == [12, 6, 9]
    assert data.class_names == ["class_0", "class_1", "class_2"]


# --- images of every kind ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        *(("L", "PNG"), ("LA", "PNG"), ("P", "GIF"), ("RGBA", "PNG"), ("1", "BMP")),
        *(("CMYK", "JPEG"), ("L", "JPEG"), ("RGB", "WEBP"), ("RGB", "TIFF")),
    ],
)
def test_every_mode_becomes_rgb(mode: str, kind: str) -> None:
    found = square(picture(0, mode, kind), 6)
    assert (found.shape, found.dtype) == ((3, 6, 6), np.uint8)
    assert found.std() > 10
    if mode == "L":
        assert (found[0] == found[1]).all()


def test_sixteen_bits_are_scaled_and_not_cut() -> None:
    out = io.BytesIO()
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(ramp).save(out, "PNG")
    found = square(out.getvalue(), 8)
    assert np.abs(found[0] - ramp / 257).max() <= 1


def test_the_central_square_is_kept_and_a_camera_held_upright() -> None:
    wide = Image.new("RGB", (30, 10), "black")
    wide.paste("red", (10, 0, 20, 10))
    out = io.BytesIO()
    wide.save(out, "PNG")
    found = square(out.getvalue(), 10)
    assert (found[0] == 255).all()
    assert (found[1:] == 0).all()
    half = Image.new("RGB", (8, 8), "white")
    half.paste("black", (0, 0, 8, 4))  # above
    exif = Image.Exif()
    exif[0x0112] = 6  # held on its side: to be turned by a quarter, clockwise
    out = io.BytesIO()
    half.save(out, "JPEG", exif=exif, quality=95)
    turned = square(out.getvalue(), 8)[0]
    assert turned[:, 6:].mean() < 60  # black is right
    assert turned[:, :2].mean() > 190


HOSTILE = {
    "class_0/cut.jpg": picture(1, kind="JPEG", size=(64, 64))[:600],
    "class_0/empty.png": b"",
    "class_1/text.png": b"<html>not found</html>",
    "class_1/cut.png": picture(2, size=(64, 64))[:500],
    "class_2/bomb.png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
    + b"\x7f\xff\xff\xff" * 2
    + b"\x08\x02",
}


def test_damaged_files_are_left_out_with_their_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = load(folder(tmp_path / "a", files() | HOSTILE))
    assert sum(sizes(data)) == 30
    assert len(pixels(data).unique(dim=0)) == 30
    (line,) = [record.getMessage() for record in caplog.records]
    assert "left out 5 images that cannot be decoded, e.g. " in line


def test_other_files_are_left_out_with_their_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = files() | {
        "class_0/notes.md": b"x",
        "class_1/Thumbs.db": b"x",
        "readme.png": picture(1),
        ".hidden/a.png": picture(1),
        "__MACOSX/class_0/a.png": b"x",
        "class_0/.DS_Store": b"x",
    }
    path = folder(tmp_path / "a", content)
    (path / "nothing").mkdir()
    data = load(path)
    assert data.class_names == ["class_0", "class_1", "class_2"]
    assert sum(sizes(data)) == 30
    told = caplog.text
    assert "nothing: an empty folder, left out" in told
    assert "left out 2 files that are no images, e.g. class_0/notes.md" in told
    assert "left out 1 images in no class folder, e.g. readme.png" in told


def test_a_zip_that_points_outside_is_read_without_those_entries(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = files() | {"../evil/a.png": picture(1), "/etc/b.png": picture(2)}
    data = load(archive(tmp_path / "a.zip", content))
    assert sum(sizes(data)) == 30
    assert "left out 2 entries that point out of the archive" in caplog.text
    assert sorted(os.listdir(tmp_path)) == ["a.zip"]


def test_a_link_to_a_folder_above_is_followed_once(tmp_path: Path) -> None:
    path = folder(tmp_path / "a", files())
    (path / "class_0" / "loop").symlink_to(path)
    (tmp_path / "elsewhere").mkdir()
    folder(tmp_path / "elsewhere", {f"{n}.png": picture(n) for n in range(5)})
    (path / "linked").symlink_to(tmp_path / "elsewhere")
    data = load(path)
    assert data.class_names == ["class_0", "class_1", "class_2", "linked"]
    assert sum(sizes(data)) == 35


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no images; known are .avif, .bmp, "),
        ({"class_0/a.txt": b"x"}, "holds no images"),
        (files(classes=1), "there must be two at least, one for each class"),
        ({f"{n}.png": picture(n) for n in range(5)}, "holds 0 class folder"),
        (files(each=1), "leaves no images for the val split"),
        (
            {f"{c}/{n}.png": b"broken" for c in "ab" for n in range(9)},
            "no image of the train split can be decoded",
        ),
    ],
)
def test_what_cannot_be_used_is_told(
    content: dict[str, bytes], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        load(folder(tmp_path / "a", {"x.txt": b""} | content))


def test_a_missing_folder_and_a_broken_zip_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"images is not there: set dataset.path to a folder"):
        ImageFolder("images", image_size=8).load(tmp_path)
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 and nothing more")
    with pytest.raises(UserError, match=r"a.zip cannot be read as a zip archive"):
        load(tmp_path / "a.zip")
    with pytest.raises(UserError, match="leave nothing to train on"):
        ImageFolder("images", image_size=8, val_share=0.5, test_share=0.5)


def test_label_noise_and_scale_are_those_of_every_dataset(tmp_path: Path) -> None:
    path = folder(tmp_path / "a", files())
    clean, noisy = load(path, normalize="zscore"), load(path, label_noise=0.3)
    assert noisy.train.flipped is not None
    assert noisy.train.flipped.sum() == round(0.3 * 21)
    assert torch.equal(noisy.train.labels != clean.train.labels, noisy.train.flipped)
    seen = clean.train.fetch(torch.arange(21)).inputs
    assert seen.mean((0, 2, 3)).abs().max() < 0.05
    assert 0.4 < seen.std() < 1.05  # resized, so smoother than what is held
    assert load(path, normalize="unit").train.fetch(torch.arange(21)).inputs.min() >= 0
    assert load(path).train.fetch(torch.arange(21)).inputs.max() > 100


# --- held in memory, or read by workers ----------------------------------------------------------


def test_images_on_disk_are_those_in_memory_with_workers_or_without(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", files())
    held = load(path, memory=1)
    assert isinstance(held.train.inputs, Tensor)
    for workers in (0, 2):
        disk = load(path, memory=0, workers=workers)
        split = disk.train.for_run(seed=0, views=2)
        assert isinstance(split.inputs, Files)
        assert split.ahead == (2 if workers else 0)
        assert disk.fingerprint() == held.fingerprint()
        expected = held.train.for_run(seed=0, views=2)
        for step in range(5):
            rows = torch.randperm(21)[:8]
            if workers:
                split.expect(rows if step != 2 else rows.flip(0), step)  # announced wrongly once
                split.expect(rows, step)
            assert torch.equal(split.draw(rows, step).inputs, expected.draw(rows, step).inputs)
        split.inputs.decoder.close()


def test_a_damaged_file_on_disk_is_told_by_its_name(tmp_path: Path) -> None:
    data = load(folder(tmp_path / "a", files() | HOSTILE), memory=0, normalize="none")
    with pytest.raises(UserError, match=r"class_\d/\w+.\w+ cannot be decoded .*dataset.memory"):
        pixels(data)


def test_a_worker_that_dies_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder(tmp_path / "a", files())
    decoder = Decoder(Place(path), 8, workers=1)
    assert len(decoder(["class_0/00.png"])) == 1
    assert decoder._pool is not None
    for process in decoder._pool._processes.values():
        process.kill()
    with pytest.raises(UserError, match=r"a process that decodes images died.*dataset.workers"):
        decoder(["class_0/00.png"])
    assert isinstance(decoder(["class_0/00.png"])[0], np.ndarray)  # a new one
    decoder.close()


CHILD = """
import os, signal
from pathlib import Path
from minesweep.datasets.decode import Decoder, Place

if __name__ == "__main__":
    decoder = Decoder(Place(Path({path!r})), 8, workers=2)
    decoder(["class_0/00.png", "class_0/01.png"])
    print(*decoder._pool._processes, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_with_their_parent_however_it_ends(tmp_path: Path) -> None:
    path = folder(tmp_path / "a", files())
    (tmp_path / "child.py").write_text(CHILD.format(path=str(path)))
    command = [sys.executable, str(tmp_path / "child.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    # The pipes close with the last of the processes: that run() returned says that none is left.
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(done.stdout.split()) == 2


def test_many_files_are_decoded_in_order(tmp_path: Path) -> None:
    path = folder(tmp_path / "a", files(classes=10, each=20))
    names = sorted(str(file.relative_to(path)) for file in path.rglob("*.png"))
    alone, helped = (Decoder(Place(path), 8, workers) for workers in (0, 2))
    expected = [square((path / name).read_bytes(), 8) for name in names]
    for decoder in (alone, helped):
        found = list(decoder.all(names, "decoding"))
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    helped.close()


ON_FOLDER = [
    *("dataset=image_folder", "dataset.image_size=8", "trainer.batch_size=8", "model=mlp"),
    *("trainer.eval_every=9", "trainer.checkpoint_every=7", "logger.every=4", "miner=ohem"),
    "miner.k=4",
]


def test_a_run_is_the_same_from_memory_and_from_disk_and_after_a_kill(
    train: Train,
    kill_at: Any,
    runs_dir: Path,
    tmp_path: Path,
) -> None:
    path = folder(tmp_path / "a", files())
    chosen = [*ON_FOLDER, f"dataset.path={path}"]
    train(*chosen, "study=whole")
    disk = [*chosen, "dataset.memory=0", "dataset.workers=1", "study=killed"]
    for step in (4, 20):
        kill_at(step)
        with pytest.raises(Killed):
            train(*disk)
    kill_at(None)
    train(*disk)
    whole, killed = (only_run(runs_dir, study) for study in ("whole", "killed"))
    assert whole.name == killed.name  # where images are held changes no result
    assert results(whole) == results(killed)


def test_the_folder_is_part_of_what_a_run_is_and_how_it_is_read_is_not() -> None:
    one = identity(compose(["dataset=image_folder", "dataset.path=cats"]))
    assert one != identity(compose(["dataset=image_folder", "dataset.path=dogs"]))
    reading = ["dataset.memory=0", "dataset.workers=3", "paths.data_dir=elsewhere"]
    assert one == identity(compose(["dataset=image_folder", "dataset.path=cats", *reading]))
