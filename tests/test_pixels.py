"""Pixels: what is selected equals other projects' rules, written again as loops."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from minesweep.datasets.base import Batch, Data, Split
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
from minesweep.models.unet import UNet
from minesweep.objectives.pixels import PixelCrossEntropy, PixelFocal

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
