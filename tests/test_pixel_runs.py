"""Pixels: runs, models, and what a person sees of what was mined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Train
from omegaconf import OmegaConf
from test_pixels import CLASSES, SCENES

from minesweep.config.compose import compose
from minesweep.datasets.digit_scenes import DigitScenes
from minesweep.errors import UserError
from minesweep.models.timm_pixels import TimmPixels
from minesweep.models.unet import UNet
from minesweep.training.load import load_run

# --- data, model, runs ----------------------------------------------------------------------------


def test_scenes_are_drawn_from_a_seed_and_their_labels_lie_on_ink() -> None:
    settings = {"source": "digits", "scenes": 40, "held_out": 5, "noise": 0.0}
    one, again = (DigitScenes(**settings).load(Path("nowhere")) for _ in range(2))  # type: ignore[arg-type]
    other = DigitScenes(**settings, split_seed=1).load(Path("nowhere"))  # type: ignore[arg-type]
    assert one.fingerprint() == again.fingerprint() != other.fingerprint()
    images, masks = one.train.inputs[:, 0], one.train.labels
    assert images.shape == masks.shape == (40, 20, 20)
    assert (len(one.val), len(one.test)) == (5, 10)
    assert set(masks.unique().tolist()) == {0, 1, 2}
    assert (images[masks > 0] > 0.3).all()
    assert (images[masks == 0] > 0.3).any()  # the clutter
    assert (masks > 0).float().mean() < 0.2
    alone = DigitScenes(**settings, objects=1).load(Path("nowhere"))  # type: ignore[arg-type]
    assert all(len(mask.unique()) <= 2 for mask in alone.train.labels)


def test_the_unet_takes_any_size_and_an_example_does_not_depend_on_the_batch() -> None:
    for side in (5, 16, 33):
        model = UNet([4, 8, 8], True, input_shape=(3, side, side), num_classes=CLASSES)
        images = torch.randn(3, 3, side, side + 2)
        outputs, further = model(images)
        assert outputs.shape == further.shape == (3, CLASSES, side, side + 2)
        torch.testing.assert_close(model.eval()(images[:1]), outputs[:1])


@pytest.mark.parametrize(
    "chosen",
    [
        ["miner=ohem", "miner.per=image"],
        ["miner=random_k"],
        ["miner=selective_backprop"],
        ["miner=all", "objective=pixel_focal", "model.auxiliary=true"],
        ["miner=pixel_threshold", "objective.class_weights=balanced"],
        ["miner=negative_ratio", "miner.ratio=3"],
    ],
)
def test_it_learns_scenes_and_counts_images(
    chosen: list[str], train: Train, runs_dir: Path
) -> None:
    from minesweep.tracking.journal import read_rows

    summary = train(*SCENES, *chosen, "trainer.max_steps=6", "logger.every=1")
    assert summary["samples/forward"] == summary["samples/backward"] == 6 * 8
    assert {"val/mean_iou_best", "test/mean_iou", "test/pixel_accuracy", "test/iou/0"} <= set(
        summary
    )
    (journal,) = (runs_dir / "single").glob("*/journal.jsonl")
    rows = read_rows(journal)
    assert rows[-1]["train/loss_batch"] < rows[0]["train/loss_batch"]
    assert all(0 <= row["mining/selected_share"] <= 1 for row in rows)


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        (["objective=cross_entropy", "model=mlp"], "has a label for each pixel"),
        (["model=mlp"], "the model gives"),
        (["miner=closest_negative", "objective=pixel_cross_entropy"], "scores a pixel"),
        (["miner.k=100000"], "k=100000 after the hardest 0 is more than the n=3200"),
        (["objective.class_weights=[1,2]"], "has 2 numbers for 3 classes"),
        (["objective.class_weights=equal"], "balanced or null"),
        (["dataset.least=20"], r"4 <= least <= most"),
        (["logger.embeddings.every=5"], "set it to null"),
        (["miner=pixel_threshold", "miner.min_kept=1.5"], "must be a whole number of pixels"),
    ],
)
def test_what_does_not_fit_is_told_in_a_line(chosen: list[str], told: str, train: Train) -> None:
    with pytest.raises(UserError, match=told) as found:
        train(*SCENES[:2], "dataset.scenes=48", "trainer.batch_size=8", *chosen)
    assert "\n" not in str(found.value)


def test_pixels_of_examples_make_no_sense(train: Train) -> None:
    with pytest.raises(UserError, match=r"miner\.per=image chooses among the pixels"):
        train("miner=ohem", "miner.per=image")
    with pytest.raises(UserError, match="mines a pixel"):
        train("miner=pixel_threshold", "objective=cross_entropy", "model=mlp")
    with pytest.raises(UserError, match="has one label for each example"):
        train("objective=pixel_cross_entropy")


def test_the_choice_that_a_dataset_brings_gives_way_to_the_users() -> None:
    cfg = compose(["dataset=digit_scenes"])
    assert cfg.model._target_.endswith("UNet")
    assert cfg.objective._target_.endswith("PixelCrossEntropy")
    cfg = compose(["dataset=digit_scenes", "objective=pixel_focal", "optimizer.lr=0.1"])
    assert cfg.objective._target_.endswith("PixelFocal")
    assert cfg.optimizer.lr == 0.1


# --- what was mined -------------------------------------------------------------------------------


def test_the_record_keeps_masks_and_the_page_shows_them_on_the_image(
    train: Train, runs_dir: Path
) -> None:
    from minesweep.dashboard.masks import COLOURS, layers
    from minesweep.dashboard.mined import write_mined
    from minesweep.tracking.journal import read_rows

    train(*SCENES, "miner=ohem", "miner.ratio=0.1", "trainer.max_steps=4", "logger.mined=3")
    (folder,) = (path.parent for path in (runs_dir / "single").glob("*/status.json"))
    (record,) = read_rows(folder / "mined.jsonl")
    assert record["values"]["score"] == sorted(record["values"]["score"], reverse=True)
    masks = record["masks"]
    assert [len(masks[name]) for name in ("prediction", "selected")] == [3, 3]
    loaded = load_run(folder)
    data = DigitScenes(source="digits", scenes=48, held_out=8).load(Path())
    rows = record["rows"]["example"]
    for row, share, (image, label, _, overlay) in zip(
        rows,
        record["values"]["selected_share"],
        layers(data.train, loaded.config, rows, record["step"], masks),
        strict=True,
    ):
        assert [image[0], label[0], overlay[0]] == ["image", "label", "selected pixels"]
        assert (label[1] == COLOURS[data.train.labels[row]]).all()
        # The share of coloured pixels is the share of selected ones.
        bright = overlay[1][:, :, 0] != overlay[1][:, :, 1]
        assert bright.mean() == pytest.approx(share, abs=1e-6)
    page = write_mined(folder).read_text()
    assert page.count('alt="selected pixels"') == 3
    # Those of the step, and all that were scored: 4 steps of 8.
    assert page.count('alt="prediction"') == page.count('alt="label"') == 3 + 32
    assert "selected share" in page
    assert page.count("of its pixels selected") == 32
    for name, colour in (("background", "#000000"), ("0", "#e69f00"), ("1", "#56b4e9")):
        assert f'<i style="background: {colour}"></i> {name}</span>' in page


def test_the_page_shows_an_augmented_image_as_the_step_saw_it(train: Train, tmp_path: Path) -> None:
    from test_image_masks import write

    from minesweep.dashboard.masks import coloured, layers
    from minesweep.datasets.image_masks import ImageMasks
    from minesweep.datasets.views import Views

    folder = str(write(tmp_path / "a"))
    views = Views(crop_scale=(0.3, 0.9))
    data = ImageMasks(folder, image_size=16, views=views).load(Path())
    batch = data.train.for_run(5, 1).draw(torch.tensor([4, 1]), 7)
    found = layers(data.train, OmegaConf.create({"seed": 5}), [4, 1, 999], 8, {})
    for label, shown in zip(batch.labels.numpy(), found, strict=False):
        assert (shown[1][1] == coloured(label)).all()
    assert found[2] == []


@pytest.mark.parametrize("name", ["resnet18", "test_resnet", "mobilenetv3_small_050"])
def test_a_timm_encoder_labels_pixels_of_any_size(name: str) -> None:
    model = TimmPixels(name, width=8, input_shape=(1, 33, 40), num_classes=CLASSES)
    assert model.training
    images = torch.randn(2, 1, 33, 40)
    outputs = model(images)
    assert outputs.shape == (2, CLASSES, 33, 40)
    outputs.mean().backward()
    # Each level reaches the output.
    assert all(layer.weight.grad.any() for layer in model.lateral)  # type: ignore[operator, union-attr]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"name": "resnet81"}, "resnet18"),
        ({"name": "resnet18", "input_shape": (4,)}, "takes images"),
        ({"name": "resnet18", "colour": 3}, "gives no features here"),
        ({"name": "vit_tiny_patch16_224"}, "takes no images of 20 x 20"),
        ({"name": "swin_tiny_patch4_window7_224", "input_shape": (3, 224, 224)}, "another layout"),
    ],
)
def test_an_encoder_that_does_not_fit_is_told(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        TimmPixels(**{"input_shape": (1, 20, 20), **settings}, num_classes=CLASSES)


def test_a_report_tells_the_share_of_pixels_and_no_number_of_images(
    train: Train, runs_dir: Path
) -> None:
    from minesweep.reporting.read.study import read_study

    for share in (0.25, 0.5):
        train(*SCENES, "miner=ohem", f"miner.ratio={share}", "trainer.max_steps=1")
    assert sorted(read_study(runs_dir / "single").runs["k"]) == [0.25, 0.5]
