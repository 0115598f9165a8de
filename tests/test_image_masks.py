"""Folders of images and masks: what is read, what is refused, and that both are augmented alike."""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Train
from PIL import Image

from minesweep.datasets.image_masks import ImageMasks
from minesweep.datasets.views import Views
from minesweep.errors import UserError

SIDE = 24


def scene(seed: int, height: int = SIDE, width: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """An image whose red channel is 100 times the class of the pixel, and its mask."""
    mask = np.zeros((height, width), dtype=np.uint8)
    top, left = np.random.default_rng(seed).integers(2, 10, 2)
    mask[top : top + 8, left : left + 6] = 1 + seed % 2
    return np.stack([100 * mask, mask * 0 + 50, mask * 0], 2), mask


def write(folder: Path, count: int = 20, names: tuple[str, str] = ("images", "masks")) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
    for seed in range(count):
        image, mask = scene(seed)
        Image.fromarray(image).save(folder / names[0] / f"{seed:02}.png")
        saved = Image.fromarray(mask)
        if seed % 3 == 0:  # a palette, as Pascal VOC has it
            saved.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        saved.save(folder / names[1] / f"{seed:02}.png")
    return folder


def load(folder: Path, **settings: Any) -> Any:
    plain = {"image_size": SIDE, "stored_size": SIDE, "normalize": "unit"}
    return ImageMasks(str(folder), **{**plain, **settings}).load(Path())


def test_images_and_masks_are_read_and_dealt(tmp_path: Path) -> None:
    data = load(write(tmp_path / "a"))
    assert [len(split) for split in (data.train, data.val, data.test)] == [14, 2, 4]
    assert (data.num_classes, data.class_names) == (3, ["0", "1", "2"])
    for split in (data.train, data.val, data.test):
        batch = split.fetch(torch.arange(len(split)))
        red = (batch.inputs[:, 0] * 255 / 100).round()
        assert torch.equal(red.long(), batch.labels.long())
    again, other = load(tmp_path / "a"), load(tmp_path / "a", split_seed=1)
    assert data.fingerprint() == again.fingerprint() != other.fingerprint()


def test_folders_say_the_splits_and_a_zip_is_read_as_a_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", names=("JPEGImages", "SegmentationClass"))
    for top in ("JPEGImages", "SegmentationClass"):
        for number, path in enumerate(sorted((folder / top).iterdir())):
            part = folder / top / ("val" if number < 5 else "train")
            part.mkdir(exist_ok=True)
            path.rename(part / path.name)
    data = load(folder, class_names=["ground", "one", "two"])
    assert len(data.val) == 5
    assert len(data.train) + len(data.test) == 15
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for path in folder.rglob("*.png"):
            archive.write(path, f"top/{path.relative_to(folder)}")
    zipped = load(tmp_path / "b.zip")
    assert torch.equal(zipped.train.inputs, data.train.inputs)
    assert torch.equal(zipped.train.labels, data.train.labels)


def test_the_layout_of_pascal_voc(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write(tmp_path / "a", names=("JPEGImages", "SegmentationClass"))
    image, _ = scene(99)
    Image.fromarray(image).save(folder / "JPEGImages" / "99.png")  # has no mask
    write(tmp_path / "b", names=("JPEGImages", "SegmentationObject"))
    (tmp_path / "b" / "SegmentationObject").rename(folder / "SegmentationObject")
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (folder / "ImageSets" / "Main").mkdir()
    (folder / "ImageSets" / "Main" / "train.txt").write_text("05\n06\n")
    train, val = [f"{n:02}" for n in range(12)], [f"{n:02}" for n in range(12, 17)]
    for name, keys in {"train": train, "val": val, "trainval": train + val}.items():
        (lists / f"{name}.txt").write_text("\n".join(keys))
    with caplog.at_level(logging.WARNING):
        data = load(folder)
    assert "left out images without a partner: 1, e.g. JPEGImages/99.png" in caplog.text
    assert "left out images in no split: 3, e.g. JPEGImages/17.png" in caplog.text
    # The test is dealt from the training images, a fifth of 12.
    assert [len(split) for split in (data.train, data.val, data.test)] == [10, 5, 2]
    wanted = torch.from_numpy(np.stack([scene(int(key))[1] for key in val]))
    assert torch.equal(data.val.fetch(torch.arange(5)).labels, wanted)


def test_the_layout_of_penn_fudan_has_instances(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", names=("PNGImages", "PedMasks"))
    for path in (folder / "PedMasks").iterdir():
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    (folder / "Annotation").mkdir()
    (folder / "Annotation" / "00.txt").write_text("boxes")
    data = load(folder, binary=True, class_names=["ground", "person"])
    batch = data.train.fetch(torch.arange(len(data.train)))
    assert len(data.train) == 14
    assert torch.equal(batch.labels.bool(), batch.inputs[:, 0] > 0)
    with pytest.raises(UserError, match="binary=true makes the classes"):
        load(folder, binary=True, values=[0, 1])


@pytest.mark.parametrize("above", [True, False])
def test_words_of_other_folders(above: bool, tmp_path: Path) -> None:
    folder = write(tmp_path / "a", names=("Images", "annotations"))
    for path in [*folder.rglob("*.png")]:
        part = "training" if int(path.stem) < 14 else "validation"
        top = path.parent.name
        target = folder / (f"{part}/{top}" if above else f"{top}/{part}") / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    data = load(folder)
    assert [len(split) for split in (data.train, data.val, data.test)] == [11, 6, 3]


@pytest.mark.parametrize("kind", ["rgb", "rgba", "grey and alpha", "16 bits", "32 bits", "float"])
def test_numbers_in_wider_files_are_read(kind: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "a")
    for path in (folder / "masks").iterdir():
        mask = scene(int(path.stem))[1]
        clear = np.full_like(mask, 255)
        values, suffix = {
            "rgb": (np.stack([mask] * 3, 2), ".png"),
            "rgba": (np.stack([mask] * 3 + [clear], 2), ".png"),
            "grey and alpha": (np.stack([mask, clear], 2), ".png"),
            "16 bits": (mask.astype(np.uint16), ".png"),
            "32 bits": (mask.astype(np.int32), ".tif"),
            "float": (mask.astype(np.float32), ".tiff"),
        }[kind]
        path.unlink()
        Image.fromarray(values).save(path.with_suffix(suffix))
    assert torch.equal(load(folder).train.labels, load(write(tmp_path / "b")).train.labels)


def test_a_mask_is_cropped_and_flipped_as_its_image(tmp_path: Path) -> None:
    data = load(write(tmp_path / "a"), views=Views(crop_scale=(0.3, 1.0), flip=0.5))
    rows = torch.arange(len(data.train))
    seen = set()
    for step in range(30):
        batch = data.train.for_run(3, 1).draw(rows, step)
        drawn = (batch.inputs[:, 0] * 255 / 100).round()
        # Between two classes the image is blended and the mask is not.
        assert (drawn == batch.labels).float().mean() > 0.93
        seen.add(batch.labels.numpy().tobytes())
        again = data.train.for_run(3, 1).draw(rows.flip(0), step).labels.flip(0)
        assert torch.equal(again, batch.labels)
    assert len(seen) == 30


def test_values_name_the_classes_and_all_others_are_ignored(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", 6)
    for path in (folder / "masks").iterdir():
        mask = np.asarray(Image.open(path)).copy()
        mask[mask == 1] = 255
        Image.fromarray(mask).save(path)
    data = load(folder, values=[0, 255], val_share=0.2)
    assert data.class_names == ["0", "255"]
    found = torch.cat([split.labels for split in (data.train, data.val, data.test)]).unique()
    assert found.tolist() == [0, 1, 255]


def test_what_has_no_partner_is_left_out_with_a_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write(tmp_path / "a")
    for name in ("00", "03"):
        (folder / "masks" / f"{name}.png").unlink()
    (folder / "images" / "07.png").unlink()
    with caplog.at_level(logging.INFO):
        data = load(folder)
    assert len(data.train) + len(data.val) + len(data.test) == 17
    assert "left out images without a partner: 2, e.g. images/00.png" in caplog.text
    assert "left out masks without a partner: 1, e.g. masks/07.png" in caplog.text
    assert "0.0 % without a class" in caplog.text


def spoil(folder: Path, what: str) -> None:
    first = folder / "masks" / "00.png"
    mask = np.asarray(Image.open(first).convert("L"))
    if what == "size":
        Image.fromarray(mask[:20]).save(first)
    elif what == "colour":
        Image.fromarray(np.stack([mask, mask, 0 * mask], 2)).save(first)
    elif what == "wide":
        Image.fromarray(300 * mask.astype(np.uint16)).save(first)
    elif what == "jpeg":
        Image.fromarray(mask).save(first.with_suffix(".jpg"))
        first.unlink()
    elif what == "damaged":
        first.write_bytes(first.read_bytes()[:40])
    elif what == "empty":
        first.write_bytes(b"")
    elif what == "twins":
        Image.fromarray(mask).save(first.with_suffix(".bmp"))
    elif what == "no masks":
        (folder / "masks").rename(folder / "answers")
    elif what == "names":
        for path in (folder / "masks").iterdir():
            path.rename(path.with_name(f"{path.stem}_m.png"))
    elif what == "palettes":
        Image.fromarray(np.stack([mask, 0 * mask, 0 * mask], 2)).quantize(2).save(first)
    else:
        table = {"one class": [0, 0, 0], "255": [0, 255, 255], "numbers": [0, 90, 200]}[what]
        for path in (folder / "masks").iterdir():
            numbers = np.asarray(Image.open(path))
            Image.fromarray(np.array(table, dtype=np.uint8)[numbers]).save(path)


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("size", r"images/00\.png is 24 x 24 and masks/00\.png is 24 x 20"),
        ("colour", r"masks/00\.png has colours \(mode RGB\)"),
        ("wide", r"masks/00\.png has values of 0 to \d+: they must be whole"),
        ("jpeg", r"masks/00\.jpg: this kind of file changes numbers"),
        ("damaged", r"masks/00\.png cannot be decoded"),
        ("empty", r"masks/00\.png cannot be decoded \(no known kind of image\)"),
        ("palettes", r"\d is the colour \(.*\) in masks/.*: save all masks with one palette"),
        ("twins", "have the same name: remove one"),
        ("no masks", "holds answers, images: it must hold images in images/"),
        ("names", r"no image has a partner: images/00\.png needs one of the same name in masks/"),
        ("one class", "the masks hold class 0 alone: there must be two classes"),
        ("255", r"class 0 alone \(255 stands for none\).*dataset\.values=\[0,255\]"),
        ("numbers", r"hold the numbers 0, 90, 200: set dataset\.values=\[0,90,200\]"),
    ],
)
def test_a_wrong_folder_is_told_in_one_line(what: str, told: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "a")
    spoil(folder, what)
    with pytest.raises(UserError, match=told) as found:
        load(folder)
    assert "\n" not in str(found.value)


def test_settings_that_cannot_be_meant_are_told(tmp_path: Path) -> None:
    folder = write(tmp_path / "a")
    for settings, told in [
        ({"class_names": ["a"]}, "has 1 names for 3 classes"),
        ({"val_share": 0.5, "test_share": 0.5}, "leave nothing to train on"),
        ({"views": Views(rand_augment={"ops": 1, "magnitude": 3})}, "their masks would stay"),
        ({"val_share": 0.0}, "of 20 images none is left for the val split"),
        ({"values": [0, 300]}, "two different numbers of 0 to 255"),
        ({"class_names": ["a", "a", "b"]}, "must be different names"),
    ]:
        with pytest.raises(UserError, match=told):
            load(folder, **settings)
    with pytest.raises(UserError, match=r"is not there: set dataset\.path"):
        load(tmp_path / "b")


def test_it_trains(train: Train, tmp_path: Path) -> None:
    chosen = ["dataset=image_masks", f"dataset.path={write(tmp_path / 'a')}", "model.widths=[8]"]
    small = ["dataset.image_size=16", "trainer.batch_size=8", "trainer.max_steps=40"]
    summary = train(*chosen, *small, "miner=pixel_threshold", "optimizer.lr=0.03")
    assert summary["test/pixel_accuracy"] > 0.8
    assert summary["test/mean_iou"] > 0.35  # the ground alone has 0.29
