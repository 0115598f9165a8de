"""Augmentation: each image by its own draws, as torchvision would, and the same at any time."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from conftest import choices
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from minesweep.compat import import_torchvision
from minesweep.config.build import build
from minesweep.config.compose import compose
from minesweep.datasets import augment
from minesweep.datasets.images import ImageSplit
from minesweep.datasets.views import WHOLE, Views
from minesweep.errors import UserError
from minesweep.seeding import uniform

EFFECTS: dict[str, dict[str, Any]] = {
    "crop": {"crop_scale": (0.2, 1.0)},
    "flip": {"flip": 0.5},
    "jitter": {"jitter": {"brightness": 0.4}},
    "hue": {"jitter": {"hue": 0.1}},
    "grayscale": {"grayscale": 0.5},
    "blur": {"blur": 0.5, "blur_sigma": (5.0, 9.0)},
    "erase": {"erase": 0.5},
    "rand_augment": {"rand_augment": {"ops": 2, "magnitude": 9}},
}


def only(effect: str) -> Views:
    return Views(**({"crop_scale": None, "flip": 0.0} | EFFECTS[effect]))


def images(count: int, side: int = 24, low: int = 0, high: int = 256) -> Tensor:
    draws = torch.Generator().manual_seed(count)
    return torch.randint(low, high, (count, 3, side, side), generator=draws, dtype=torch.uint8)


def view(views: Views, pixels: Tensor, size: int = 16, purpose: str = "views/0/0") -> Tensor:
    return views(pixels, torch.arange(len(pixels)), size, seed=0, purpose=purpose)


def sample(views: Views = WHOLE, count: int = 16, side: int = 24, **settings: Any) -> ImageSplit:
    labels = torch.arange(count) % 2
    return ImageSplit(images(count, side), labels, size=16, views=views, **settings)


# --- each image by its own draws -----------------------------------------------------------------


@pytest.mark.parametrize("effect", EFFECTS)
def test_sixteen_equal_images_come_out_different(effect: str) -> None:
    # The mistake to avoid: one draw for the whole batch.
    same = images(1).expand(16, -1, -1, -1)
    views = view(only(effect), same)
    different = len({row.numpy().tobytes() for row in views})
    yes_or_no = effect in ("flip", "grayscale")
    assert different == 2 if yes_or_no else different >= 8
    assert not torch.equal(views, view(only(effect), same, purpose="views/1/0"))


@pytest.mark.parametrize("setting", choices("views"))
def test_every_setting_gives_two_different_views_or_the_image_itself(setting: str) -> None:
    cfg = compose(["dataset=cifar10", f"views@dataset.views={setting}"])
    split = sample(build(cfg.dataset, "views")).for_run(seed=0, views=2)
    first, second = split.draw(torch.arange(16), step=0).inputs
    assert first.shape == (16, 3, 16, 16)
    assert first.isfinite().all()
    whole = split.fetch(torch.arange(16)).inputs
    if setting == "none":
        assert torch.equal(first, whole)
        assert torch.equal(second, whole)
    else:
        assert ((first - second).abs().amax((1, 2, 3)) > 0.01).sum() >= 12
        assert ((first - whole).abs().amax((1, 2, 3)) > 0.01).sum() >= 8


def test_a_draw_depends_on_seed_step_and_row_alone() -> None:
    cfg = compose(["dataset=cifar10"])
    split = sample(build(cfg.dataset, "views"), count=64).for_run(seed=3, views=2)
    rows = torch.randperm(64)
    whole = split.draw(rows, step=7).inputs
    assert torch.equal(split.draw(rows, step=7).inputs, whole)
    # Another batch, another order: what ranks of one run, or a changed miner, would ask for.
    parts = [split.draw(part, step=7).inputs for part in rows.split(23)]
    torch.testing.assert_close(torch.cat(parts, 1), whole)
    assert not torch.equal(split.draw(rows, step=8).inputs, whole)
    assert not torch.equal(split.for_run(seed=4, views=2).draw(rows, step=7).inputs, whole)
    # One view is the first of two.
    assert torch.equal(split.for_run(seed=3, views=1).draw(rows, step=7).inputs, whole[0])


@pytest.mark.gpu
@pytest.mark.parametrize("setting", [name for name in choices("views") if name != "randaugment"])
def test_a_gpu_draws_what_a_cpu_draws(setting: str) -> None:
    cfg = compose(["dataset=cifar10", f"views@dataset.views={setting}"])
    split = sample(build(cfg.dataset, "views"), count=64).for_run(seed=0, views=2)
    rows = torch.arange(64)
    on_gpu = split.to("cuda").draw(rows.cuda(), step=3).inputs
    assert on_gpu.is_cuda
    torch.testing.assert_close(on_gpu.cpu(), split.draw(rows, step=3).inputs, atol=1e-3, rtol=0)


def test_one_effect_more_changes_no_other() -> None:
    pixels = images(16)
    flips = [
        view(Views(crop_scale=None, flip=0.5, grayscale=share), pixels).mean(1)
        for share in (0.0, 1e-9)
    ]
    torch.testing.assert_close(*flips)


def test_shares_are_the_probabilities() -> None:
    pixels = images(1).expand(2000, -1, -1, -1)
    whole = view(WHOLE, pixels[:1])
    changed = view(only("flip"), pixels) != whole
    assert changed.flatten(1).any(1).double().mean().item() == pytest.approx(0.5, abs=0.05)
    grey = view(only("grayscale"), pixels)
    assert (grey.std(1).amax((1, 2)) < 1e-4).double().mean().item() == pytest.approx(0.5, abs=0.05)


def test_drawing_leaves_torchs_global_generator_alone() -> None:
    before = torch.get_rng_state()
    view(only("rand_augment"), images(4))
    assert torch.equal(torch.get_rng_state(), before)


# --- as torchvision has it -----------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    st.integers(4, 40),
    st.integers(4, 40),
    st.integers(0, 8),
    st.integers(0, 8),
    st.integers(4, 40),
    st.booleans(),
)
def test_a_resized_crop_is_torchvisions(
    height: int, width: int, top: int, left: int, size: int, flip: bool
) -> None:
    functional = import_torchvision("transforms.v2").functional
    pixels = images(3, 48).float()
    expected = functional.resized_crop(pixels, top, left, height, width, [size, size])
    start, length = torch.tensor([left / 48]), torch.tensor([width / 48])
    if flip:
        expected, start, length = functional.horizontal_flip(expected), start + length, -length
    vertical = augment.resampling(torch.tensor([top / 48]), torch.tensor([height / 48]), 48, size)
    horizontal = augment.resampling(start, length, 48, size)
    found = augment.resample(pixels, vertical.expand(3, -1, -1), horizontal.expand(3, -1, -1))
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)  # of 255


@pytest.mark.parametrize(
    ("effect", "function", "factor"),
    [
        (0, "adjust_brightness", 1.3),
        (0, "adjust_brightness", 0.7),
        (1, "adjust_contrast", 1.2),
        (1, "adjust_contrast", 0.6),
        (2, "adjust_saturation", 1.3),
        (2, "adjust_saturation", 0.0),
    ],
)
def test_colours_are_torchvisions_where_nothing_is_clamped(
    effect: int, function: str, factor: float
) -> None:
    functional = import_torchvision("transforms.v2").functional
    pixels = images(5, low=90, high=160).float() / 255
    factors = torch.tensor([1.0, 1.0, 1.0, 0.0]).repeat(5, 1)
    factors[:, effect] = factor
    found = recoloured(pixels, factors, torch.arange(4).expand(5, 4))
    expected = getattr(functional, function)(pixels, factor)
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)


def recoloured(pixels: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    matrix, offset = augment.colour_maps(factors, order, pixels.mean((2, 3)))
    return torch.einsum("nij,njhw->nihw", matrix, pixels) + offset[:, :, None, None]


def test_the_effects_of_colour_are_composed_in_each_images_own_order() -> None:
    pixels = images(6).float() / 255
    factors = torch.tensor([0.8, 1.3, 0.7, 0.05]).expand(6, 4)
    order = uniform(0, "order", torch.arange(6), 4).argsort(1)
    assert len(order.unique(dim=0)) > 2
    one_by_one = pixels
    neutral = torch.tensor([1.0, 1.0, 1.0, 0.0])
    for effect in order.unbind(1):
        alone = torch.where(torch.arange(4) == effect[:, None], factors, neutral)
        one_by_one = recoloured(one_by_one, alone, torch.arange(4).expand(6, 4))
    torch.testing.assert_close(recoloured(pixels, factors, order), one_by_one, atol=1e-5, rtol=0)


def test_hue_turns_red_to_green_to_blue_and_keeps_grey() -> None:
    grey = torch.full((1, 3, 4, 4), 0.4)
    red = torch.tensor([0.5, 0.3, 0.3]).view(1, 3, 1, 1)
    order = torch.arange(4).expand(1, 4)

    def turned(image: Tensor, turn: float) -> Tensor:
        return recoloured(image, torch.tensor([[1.0, 1.0, 1.0, turn]]), order)

    torch.testing.assert_close(turned(grey, 0.2), grey, atol=1e-5, rtol=0)
    torch.testing.assert_close(turned(red, 1.0), red, atol=1e-5, rtol=0)
    assert turned(red, 1 / 3).flatten().argmax() == 1
    assert turned(red, -1 / 3).flatten().argmax() == 2
    luma = torch.tensor(augment.GREY).view(3, 1, 1)
    assert (turned(red, 0.1) * luma).sum().item() == pytest.approx((red * luma).sum().item())


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
def test_a_blur_is_torchvisions_away_from_the_edge(sigma: float) -> None:
    functional = import_torchvision("transforms.v2").functional
    pixels = images(2, 48).float()
    gauss = augment.blurring(torch.tensor([sigma, sigma]), 48)
    expected = functional.gaussian_blur(pixels, [21, 21], [sigma, sigma])
    inside = slice(12, -12)
    found = augment.resample(pixels, gauss, gauss)[..., inside, inside]
    torch.testing.assert_close(found, expected[..., inside, inside], atol=0.02, rtol=0)
    none = augment.blurring(torch.zeros(1), 16)[0]
    assert torch.equal(none, torch.eye(16))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**40),
    st.tuples(st.floats(0.01, 0.9), st.floats(0.0, 0.1)),
    st.floats(0.2, 1.0),
)
def test_boxes_lie_inside_and_have_area_and_shape_as_asked(
    seed: int, area: tuple[float, float], ratio: float
) -> None:
    draws = uniform(seed, "crop", torch.arange(200), 2 * augment.TRIES + 2)
    low, high = area[0], area[0] + area[1]
    left, top, width, height = augment.boxes(draws, (low, high), (ratio, 1 / ratio)).T
    for start, length in ((left, width), (top, height)):
        assert (start >= 0).all()
        assert (start + length <= 1 + 1e-6).all()
    uncut = (width < 1) & (height < 1)
    assert ((width * height)[uncut] >= low - 1e-5).all()
    assert (width * height <= high + 1e-5).all()
    shape = (width / height)[uncut].log().abs()
    assert (shape <= math.log(1 / ratio) + 1e-4).all()


def test_an_erased_box_has_the_images_mean_colour_and_the_rest_is_untouched() -> None:
    pixels = images(200)
    plain, erased = view(WHOLE, pixels), view(Views(None, flip=0.0, erase=0.5), pixels)
    changed = (plain != erased).any(1)
    touched = changed.flatten(1).any(1)
    assert 70 < touched.sum() < 130
    share = changed[touched].double().mean((1, 2))
    assert share.min() > 0.004
    assert share.max() < 0.4
    mean = plain.mean((2, 3), keepdim=True).expand_as(plain)
    assert torch.equal(
        erased[changed[:, None].expand_as(plain)], mean[changed[:, None].expand_as(plain)]
    )
    # The box is whole: its rows and columns that are touched are touched alike.
    for mask in changed[touched]:
        rows, columns = mask.any(1), mask.any(0)
        assert mask.sum() == rows.sum() * columns.sum()


# --- splits --------------------------------------------------------------------------------------


def test_evaluation_sees_the_whole_image_normalised_and_not_under_autocast() -> None:
    split = sample(offset=torch.full((3, 1, 1), 0.5), scale=torch.full((3, 1, 1), 4.0))
    rows = torch.tensor([3, 1])
    expected = torch.nn.functional.interpolate(
        split.inputs[rows].float() / 255, (16, 16), mode="bilinear", antialias=True
    )
    found = split.fetch(rows)
    torch.testing.assert_close(found.inputs, (expected - 0.5) * 4, atol=1e-5, rtol=0)
    assert torch.equal(found.labels, split.labels[rows])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(split.fetch(rows).inputs, found.inputs)


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ("dataset.views.crop_scale=[0.5]", "dataset.views.crop_scale=[0.5] must be [low, high]"),
        ("dataset.views.crop_scale=[0.9,0.2]", "must be [low, high], above 0 and up to 1"),
        ("dataset.views.blur_sigma=[0,1]", "dataset.views.blur_sigma=[0, 1] must be"),
        ("dataset.views.jitter.hue=0.6", "dataset.views.jitter.hue=0.6 must be in [0, 0.5]"),
        ("+dataset.views.jitter.gamma=1", "dataset.views.jitter.gamma is not one of brightness"),
        ("dataset.views.rand_augment={n: 2}", "dataset.views.rand_augment.n is not one of ops"),
    ],
)
def test_a_wrong_view_is_told(views: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        build(compose(["dataset=cifar10", views]), "dataset")


def test_a_dataset_without_views_says_so() -> None:
    from minesweep.datasets.base import Split

    split = Split(torch.zeros(4, 2), torch.zeros(4, dtype=torch.long))
    assert split.for_run(0, 1) is split
    with pytest.raises(UserError, match="compares 2 views of each image, and this dataset gives"):
        split.for_run(0, 2)
