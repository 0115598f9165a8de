"""Pixels: what is selected equals other projects' rules, written again as loops."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Train
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional

from minesweep.config.compose import compose
from minesweep.datasets.base import Batch, Data, Split
from minesweep.datasets.digit_scenes import DigitScenes
from minesweep.errors import UserError
from minesweep.miners import (
    All,
    NegativeRatio,
    Ohem,
    PixelThreshold,
    Pool,
    RandomK,
    SelectiveBackprop,
)
from minesweep.models.timm_pixels import TimmPixels
from minesweep.models.unet import UNet
from minesweep.objectives.pixels import PixelCrossEntropy, PixelFocal
from minesweep.training.load import load_run

IGNORED, CLASSES = 255, 4
CASES = range(200)
SCENES = ["dataset=digit_scenes", "dataset.source=digits", "dataset.scenes=48"]
SCENES += ["dataset.held_out=8", "model.widths=[8,16]", "trainer.batch_size=8"]


def case(seed: int) -> tuple[Tensor, Tensor]:
    """Logits ``[n, 4, H, W]`` and labels: some ignored, some images without objects, many ties."""
    draws = torch.Generator().manual_seed(seed)
    n, height, width = (int(torch.randint(1, 6, (), generator=draws)) for _ in range(3))
    logits = 3 * torch.randn(n, CLASSES, height, width, generator=draws)
    if seed % 3 == 0:
        logits = logits.round()  # ties
    labels = torch.randint(0, CLASSES, (n, height, width), generator=draws)
    labels[torch.rand(labels.shape, generator=draws) < (0.2, 0.0, 0.7)[seed % 3]] = IGNORED
    if seed % 4 == 0:
        labels[0][labels[0] != IGNORED] = 0  # an image without objects
    if seed % 10 == 0:
        labels[:] = IGNORED
    return logits, labels


def context(logits: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Any]]:
    valid = labels != IGNORED
    losses = functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
    probability = logits.softmax(1).gather(1, labels.where(valid, 0)[:, None]).squeeze(1)
    return losses, {"labels": labels, "valid": valid, "probability": probability, "step": 0}


@pytest.mark.parametrize("per_image", [False, True])
def test_the_threshold_selects_what_mmsegmentation_and_hrnet_select(per_image: bool) -> None:
    """mmsegmentation: OHEMPixelSampler; HRNet, PIDNet: OhemCrossEntropy. By looping over pixels."""
    for seed in CASES:
        logits, labels = case(seed)
        scores, known = context(logits, labels)
        thresh, least = (0.7, 0.3, 0.9)[seed % 3], (seed * 7) % 40
        groups = [[image] for image in range(len(labels))] if per_image else [range(len(labels))]
        wanted = torch.zeros(labels.shape)
        for images in groups:
            places = [
                (image, y, x)
                for image in images
                for y in range(labels.shape[1])
                for x in range(labels.shape[2])
                if labels[image, y, x] != IGNORED
            ]
            sure = [float(known["probability"][place]) for place in places]
            if not sure:
                continue
            bound = max(thresh, sorted(sure)[min(least, len(sure) - 1)])
            for place, probability in zip(places, sure, strict=True):
                wanted[place] = float(torch.tensor(probability) < torch.tensor(bound))
        miner = PixelThreshold(
            thresh, float(least) if least >= 1 else 0, "image" if per_image else "batch"
        )
        assert torch.equal(miner.select(scores, **known), wanted), seed
        # The loss: HRNet's mean over the selected pixels, which is NaN where there are none.
        loss = PixelCrossEntropy().reduce(scores, wanted, labels)
        chosen = [float(loss) for loss in scores[wanted > 0]]
        mean = math.fsum(chosen) / len(chosen) if chosen else 0.0
        assert float(loss) == pytest.approx(mean, abs=1e-6)


def test_without_a_threshold_the_pixels_of_highest_loss_are_selected() -> None:
    for seed in CASES:
        logits, labels = case(seed)
        scores, known = context(logits, labels)
        least = seed % 20
        flat, valid = scores.flatten().tolist(), known["valid"].flatten().tolist()
        order = sorted((i for i, v in enumerate(valid) if v), key=lambda i: -flat[i])
        wanted = torch.zeros(len(flat))
        wanted[order[:least]] = 1
        found = PixelThreshold(None, float(least)).select(scores, **known)
        assert torch.equal(found.flatten(), wanted), seed


@pytest.mark.parametrize("least", [0, 3])
def test_the_ratio_selects_what_torchvisions_ssd_selects(least: int) -> None:
    """torchvision: SSD.compute_loss, for pixels in the place of anchors; ``least`` is ours."""
    for seed in CASES:
        logits, labels = case(seed)
        scores, known = context(logits, labels)
        wanted = torch.zeros(labels.shape)
        for image, mask in enumerate(labels.tolist()):
            places = [(image, y, x) for y, row in enumerate(mask) for x in range(len(row))]
            positive = [p for p in places if labels[p] not in (0, IGNORED)]
            negative = [p for p in places if labels[p] == 0]
            hardest = sorted(negative, key=lambda p: -float(scores[p]))
            for place in positive + hardest[: max(least, 3 * len(positive))]:
                wanted[place] = 1
        found = NegativeRatio(3.0, least).select(scores, **known)
        assert torch.equal(found, wanted), seed


@pytest.mark.parametrize("per", ["batch", "image"])
def test_ohem_takes_the_hardest_of_the_labelled_pixels(per: str) -> None:
    for seed in CASES:
        logits, labels = case(seed)
        scores, known = context(logits, labels)
        images = range(len(labels))
        wanted = torch.zeros(labels.shape).flatten(1)
        flat, valid = scores.flatten(1), known["valid"].flatten(1)
        for group in [[image] for image in images] if per == "image" else [list(images)]:
            places = [(i, x) for i in group for x in range(flat.shape[1]) if valid[i, x]]
            order = sorted(places, key=lambda place: -float(flat[place]))
            first = round(0.1 * len(places))
            k = max(1, round(0.25 * len(places)))
            for place in order[first : first + k]:
                wanted[place] = 1
        miner = Ohem(ratio=0.25, skip_hardest=0.1, per=per)
        assert torch.equal(miner.select(scores, **known).flatten(1), wanted), seed


@pytest.mark.parametrize("per", ["batch", "image"])
def test_random_pixels_are_as_many_as_ohems_and_differ_from_step_to_step(per: str) -> None:
    logits, labels = case(1)
    scores, known = context(logits, labels)
    ohem, drawn = Ohem(ratio=0.25, per=per), RandomK(ratio=0.25, per=per)
    found = [drawn.select(scores, **{**known, "step": step}) for step in range(40)]
    each = (1, 2) if per == "image" else (0, 1, 2)
    for weights in found:
        assert torch.equal(weights.sum(each), ohem.select(scores, **known).sum(each))
        assert not (weights * ~known["valid"]).any()
    # Each labelled pixel is drawn at some step.
    assert torch.equal(torch.stack(found).amax(0) > 0, known["valid"])


def test_miners_of_examples_mine_pixels_as_if_the_valid_ones_were_a_batch() -> None:
    """Selective backprop and OHEM see the pixels that have a label, in their order."""
    for seed in range(20):
        logits, labels = case(seed)
        scores, known = context(logits, labels)
        valid = known["valid"]
        if not valid.any():
            continue
        k = max(1, int(valid.sum()) // 2)
        assert torch.equal(
            Ohem(k=k).select(scores, **known)[valid], Ohem(k=k).select(scores[valid], step=0)
        )
        assert not (SelectiveBackprop(1.0).select(scores, **known) * ~valid).any()
        assert torch.equal(SelectiveBackprop(0.0).select(scores, **known) > 0, valid)
        assert torch.equal(All().select(scores), torch.ones_like(scores))


def test_a_batch_without_a_label_teaches_nothing_and_breaks_nothing() -> None:
    model = UNet([8], input_shape=(1, 6, 6), num_classes=CLASSES)
    labels = torch.full((2, 6, 6), IGNORED, dtype=torch.uint8)
    batch = Batch(torch.randn(2, 1, 6, 6), labels, torch.arange(2))
    for miner in (All(), Ohem(), RandomK(), SelectiveBackprop(), PixelThreshold(), NegativeRatio()):
        outcome = PixelCrossEntropy()(model, batch, miner, 0)
        model.zero_grad()
        outcome.loss.backward()
        assert outcome.loss == 0
        assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)


def test_more_pixels_than_there_are_is_told() -> None:
    scores = torch.zeros(2, 3, 3)
    for miner in (Ohem(k=19), Ohem(k=10, per="image"), RandomK(k=19)):
        with pytest.raises(UserError, match=r"is more than the n="):
            miner.select(scores)
    # But a batch with few labels gives what it has.
    valid = torch.zeros(2, 3, 3, dtype=torch.bool)
    valid[0, 0, :2] = True
    assert Ohem(k=18).select(scores, valid=valid).sum() == 2


# --- objectives -----------------------------------------------------------------------------------


def pixel_data(labels: Tensor) -> Data:
    split = Split(torch.zeros(len(labels), 1, *labels.shape[1:]), labels)
    return Data(split, split, split, CLASSES, (1, *labels.shape[1:]))


def set_up(objective: PixelCrossEntropy, labels: Tensor) -> PixelCrossEntropy:
    pool = Pool(len(labels), labels, 1, 0, 1, lambda rows: rows, candidate="pixel")
    objective.setup(nn.Identity(), pool, pixel_data(labels))
    return objective


@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0, 3.0], "balanced"])
def test_the_loss_of_all_pixels_is_torchs(weights: Any) -> None:
    for seed in range(30):
        logits, labels = case(seed)
        if (labels == IGNORED).all():
            continue
        objective = set_up(PixelCrossEntropy(class_weights=weights), labels)
        batch = Batch(logits, labels, torch.arange(len(labels)))
        outcome = objective(nn.Identity(), batch, All(), 0)
        factors = None if weights is None else objective.weights
        wanted = functional.cross_entropy(logits, labels, factors, ignore_index=IGNORED)
        torch.testing.assert_close(outcome.loss, wanted)
        if weights == "balanced":
            counts = [(labels == label).sum() for label in range(CLASSES)]
            for factor, count in zip(objective.weights, counts, strict=True):
                if count:
                    assert factor == pytest.approx((labels != IGNORED).sum() / (CLASSES * count))


def test_focal_loss_is_its_formula_and_at_gamma_0_the_cross_entropy() -> None:
    for seed in range(1, 10):
        logits, labels = case(seed)
        scores, known = context(logits, labels)
        p = known["probability"].double()
        wanted = ((1 - p) ** 2 * -p.log()).where(known["valid"], 0)
        found = set_up(PixelFocal(2.0), labels).losses(logits, labels)
        torch.testing.assert_close(found.double(), wanted, atol=1e-6, rtol=1e-5)
        same = set_up(PixelFocal(0.0), labels).losses(logits, labels)
        torch.testing.assert_close(same, scores)


def test_an_auxiliary_head_learns_from_all_pixels_whatever_is_selected() -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, 2 * x

    logits, labels = case(1)
    batch = Batch(logits, labels, torch.arange(len(labels)))
    miner = Ohem(ratio=0.25)
    alone = PixelCrossEntropy()(nn.Identity(), batch, miner, 0)
    both = PixelCrossEntropy(auxiliary=0.4)(Twice(), batch, miner, 0)
    plain = functional.cross_entropy(2 * logits, labels, ignore_index=IGNORED)
    torch.testing.assert_close(both.loss, alone.loss + 0.4 * plain)
    assert torch.equal(both.weights, alone.weights)  # type: ignore[arg-type]


def test_evaluation_equals_a_count_over_pixels() -> None:
    logits, labels = case(2)
    logits, labels = logits[:, :3], labels.where(labels < 3, IGNORED)  # a class that is nowhere
    logits = torch.cat([logits, torch.full_like(logits[:, :1], -99.0)], 1)
    objective = PixelCrossEntropy()
    found = objective.evaluate(nn.Identity(), Split(logits, labels), chunk=1)
    predicted, valid = logits.argmax(1), labels != IGNORED
    iou = []
    for label in range(3):
        hit = ((predicted == label) & (labels == label)).sum()
        union = (((predicted == label) | (labels == label)) & valid).sum()
        iou.append(float(hit / union))
        assert found[f"iou/{label}"] == pytest.approx(iou[-1])
    assert "iou/3" not in found
    assert found["mean_iou"] == pytest.approx(sum(iou) / 3)
    assert found["pixel_accuracy"] == pytest.approx(
        float((predicted == labels)[valid].float().mean())
    )
    wanted = functional.cross_entropy(logits, labels, ignore_index=IGNORED)
    assert found["loss"] == pytest.approx(float(wanted), rel=1e-5)


# --- data, model, runs ----------------------------------------------------------------------------


def test_scenes_are_drawn_from_a_seed_and_their_labels_lie_on_ink() -> None:
    settings = {"source": "digits", "scenes": 40, "held_out": 5, "noise": 0.0}
    one, again = (DigitScenes(**settings).load(Path("nowhere")) for _ in range(2))  # type: ignore[arg-type]
    other = DigitScenes(**settings, split_seed=1).load(Path("nowhere"))  # type: ignore[arg-type]
    assert one.fingerprint() == again.fingerprint() != other.fingerprint()
    images, masks = one.train.inputs[:, 0], one.train.labels
    assert images.shape == masks.shape == (40, 32, 32)
    assert (len(one.val), len(one.test)) == (5, 10)
    assert set(masks.unique().tolist()) == {0, 1, 2, 3}
    assert (images[masks > 0] > 0.3).all()
    assert (images[masks == 0] > 0.3).any()  # the clutter
    assert (masks > 0).float().mean() < 0.15
    # One digit a scene at most.
    assert all(len(mask.unique()) <= 2 for mask in masks)


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
        (["miner.k=100000"], "k=100000 after the hardest 0 is more than the n=8192"),
        (["objective.class_weights=[1,2]"], "has 2 numbers for 4 classes"),
        (["objective.class_weights=equal"], "must be balanced"),
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
    assert page.count('alt="selected pixels"') == page.count('alt="prediction"') == 3
    assert "selected share" in page


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
