"""Datasets: real MNIST, splits, scale, limit, label noise, errors."""

import math
import os
import subprocess
import sys
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minesweep.config.build import TRUSTED
from minesweep.config.compose import compose
from minesweep.datasets.base import Data
from minesweep.datasets.blobs import Blobs
from minesweep.datasets.digits import Digits
from minesweep.datasets.download import md5
from minesweep.datasets.mnist import FashionMnist, Mnist
from minesweep.datasets.options import Options
from minesweep.datasets.prepare import Images, channel_moments, flip_labels, prepare
from minesweep.errors import UserError

ROOT = Path(__file__).parent.parent
IMAGES = "train-images-idx3-ubyte.gz"


# --- real data ---


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    folder = Path(os.environ.get("MINESWEEP_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "MNIST" / "raw").is_dir():
        pytest.skip("no MNIST here: set MINESWEEP_DATA to a folder that has it")
    return folder


def test_real_mnist(mnist_dir):
    data = Mnist().load(mnist_dir)
    assert [len(s) for s in (data.train, data.val, data.test)] == [55_000, 5_000, 10_000]
    assert data.input_shape == (1, 28, 28)
    assert data.num_classes == 10
    for split in (data.train, data.val, data.test):
        assert split.inputs.shape == (len(split), 1, 28, 28)
        assert split.inputs.dtype == torch.float32
        assert split.labels.dtype == torch.int64
        assert (split.inputs.min(), split.inputs.max()) == (0, 1)
    # Facts about MNIST: its mean grey, the test set's first labels and class counts.
    assert data.train.inputs.mean().item() == pytest.approx(0.1307, abs=5e-4)
    assert data.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert data.test.labels.bincount().tolist() == counts
    together = torch.cat([data.train.labels, data.val.labels]).bincount()
    assert together.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def test_checksums_of_the_real_files(mnist_dir):
    for name, checksum in Mnist.checksums.items():
        assert md5(mnist_dir / "MNIST" / "raw" / name) == checksum
    assert not set(Mnist.checksums.values()) & set(FashionMnist.checksums.values())
    assert Mnist.checksums.keys() == FashionMnist.checksums.keys()


def test_fashion_mnist_has_its_own_folder(mnist_dir, tmp_path):
    class Offline(FashionMnist):
        mirrors = ()

    raw = tmp_path / "FashionMNIST" / "raw"
    with pytest.raises(UserError, match="FashionMNIST"):
        Offline().load(tmp_path)
    raw.mkdir(parents=True)
    (raw / IMAGES).write_bytes((mnist_dir / "MNIST" / "raw" / IMAGES).read_bytes())
    with pytest.raises(UserError, match="is damaged"):  # MNIST's digits are not its clothes
        Offline().load(tmp_path)


# --- digits, splits, scale ---


def digits(**options) -> Data:
    return Digits(**options).load(Path("nowhere"))


def test_digits_are_all_there_once():
    from sklearn.datasets import load_digits

    data = digits(normalize="none")
    parts = (data.train, data.val, data.test)
    assert [len(s) for s in parts] == [1079, 359, 359]
    assert data.input_shape == (1, 8, 8)
    found = torch.cat([torch.cat([s.inputs.flatten(1), s.labels[:, None]], 1) for s in parts])
    bunch = load_digits()
    whole = np.column_stack([bunch.images.reshape(-1, 64), bunch.target])
    assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, whole.tolist()))


def test_splits_depend_on_split_seed_and_on_nothing_else():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = digits(label_noise=0.3)
    assert torch.equal(torch.get_rng_state(), before)  # the training seed's generator rests
    torch.manual_seed(2)
    again = digits(label_noise=0.3)
    assert first.fingerprint() == again.fingerprint()
    assert torch.equal(first.train.flipped, again.train.flipped)
    other = digits(label_noise=0.3, split_seed=1)
    assert not torch.equal(first.train.inputs, other.train.inputs)
    assert not torch.equal(first.train.flipped, other.train.flipped)


def test_normalize_words_are_affine_maps_of_the_training_pixels():
    raw, unit, zscore = (digits(normalize=word) for word in ("none", "unit", "zscore"))
    assert raw.train.inputs.max() == 16
    torch.testing.assert_close(unit.train.inputs, raw.train.inputs / 16)
    mean, std = raw.train.inputs.mean(), raw.train.inputs.std(correction=0)
    for part in ("train", "val", "test"):  # all three by the training split's statistics
        expected = (getattr(raw, part).inputs - mean) / std
        torch.testing.assert_close(getattr(zscore, part).inputs, expected, rtol=1e-4, atol=1e-5)


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=4, max_dims=4, max_side=5)))
def test_channel_moments_are_numpys(pixels):
    mean, std = channel_moments(torch.from_numpy(pixels))
    np.testing.assert_allclose(mean, pixels.mean((0, 2, 3)), atol=1e-9)
    np.testing.assert_allclose(std, pixels.std((0, 2, 3)), atol=1e-6)


def test_zscore_is_per_channel_and_survives_a_constant_one():
    pixels = torch.randint(0, 256, (20, 3, 4, 4), generator=torch.Generator().manual_seed(0))
    pixels[:, 1] = 7
    part = Images(pixels.to(torch.uint8), torch.arange(20) % 2)
    data = prepare(
        part, part, part, maximum=255, class_names="ab", options=Options(normalize="zscore")
    )
    torch.testing.assert_close(data.train.inputs.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    assert (data.train.inputs[:, 1] == 0).all()
    assert data.train.inputs[:, 2].std(correction=0).item() == pytest.approx(1)


@pytest.mark.parametrize(("limit", "rows"), [(1, 1), (100, 100), (5000, 1079), (None, 1079)])
def test_limit_takes_the_first_training_rows_and_only_those(limit, rows):
    whole, limited = digits(), digits(limit=limit)
    assert len(limited.train) == rows
    assert torch.equal(limited.train.inputs, whole.train.inputs[:rows])
    assert torch.equal(limited.test.inputs, whole.test.inputs)


def test_fetch_gives_the_rows_asked_for():
    train = digits(limit=50).train
    batch = train.fetch(torch.tensor([3, 3, 49]))
    assert batch.rows.tolist() == [3, 3, 49]
    assert torch.equal(batch.inputs, train.inputs[[3, 3, 49]])
    assert torch.equal(batch.labels, train.labels[[3, 3, 49]])


# --- label noise ---


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    size=st.integers(1, 300),
    classes=st.integers(2, 12),
    share=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_label_noise(size, classes, share, seed):
    clean = torch.arange(size) % classes
    noisy, flipped = flip_labels(clean, share, classes, seed)
    assert flipped.sum() == round(share * size)
    assert torch.equal(noisy != clean, flipped)  # never to the same class
    assert noisy.min() >= 0
    assert noisy.max() < classes
    less, fewer = flip_labels(clean, share / 2, classes, seed)
    assert not (fewer & ~flipped).any()
    assert torch.equal(less[fewer], noisy[fewer])


def test_label_noise_is_uniform_over_the_other_classes():
    clean = torch.full((9000,), 4)
    noisy, _ = flip_labels(clean, 1.0, 10, 0)
    counts = noisy.bincount(minlength=10)
    assert counts[4] == 0
    others = torch.cat([counts[:4], counts[5:]]).double()
    chi2 = ((others - 1000) ** 2 / 1000).sum()
    assert chi2 < 26.1  # 0.999 quantile at 8 degrees of freedom; the draw is fixed


def test_label_noise_leaves_validation_and_test_alone():
    clean, noisy = digits(), digits(label_noise=0.4)
    assert clean.train.flipped is None
    assert noisy.train.flipped.sum() == round(0.4 * 1079)
    assert torch.equal(noisy.train.labels != clean.train.labels, noisy.train.flipped)
    assert torch.equal(noisy.train.inputs, clean.train.inputs)
    for part in ("val", "test"):
        assert torch.equal(getattr(noisy, part).labels, getattr(clean, part).labels)
        assert getattr(noisy, part).flipped is None


# --- held-out classes ---


def test_held_out_classes_are_never_trained_on():
    whole, part = digits(normalize="none"), digits(normalize="none", held_out_classes=[7, 8, 9])
    assert part.train.labels.unique().tolist() == [0, 1, 2, 3, 4, 5, 6]
    kept = whole.train.labels < 7
    assert torch.equal(part.train.inputs, whole.train.inputs[kept])
    for name in ("val", "test"):
        held, before = getattr(part, name), getattr(whole, name)
        assert held.labels.unique().tolist() == [7, 8, 9]
        assert torch.equal(held.inputs, before.inputs[before.labels >= 7])
    assert part.num_classes == 10  # labels keep their names


def test_limit_and_noise_look_at_the_classes_that_are_left():
    data = digits(held_out_classes=[0, 4], limit=500, label_noise=1.0)
    clean = digits(held_out_classes=[0, 4], limit=500)
    assert len(data.train) == 500
    assert data.train.flipped.all()
    assert (data.train.labels != clean.train.labels).all()
    assert data.train.labels.unique().tolist() == [1, 2, 3, 5, 6, 7, 8, 9]


def test_real_mnist_with_held_out_classes(mnist_dir):
    data = Mnist(held_out_classes=[5, 6, 7, 8, 9]).load(mnist_dir)
    assert data.train.labels.unique().tolist() == [0, 1, 2, 3, 4]
    assert data.test.labels.bincount().tolist() == [0, 0, 0, 0, 0, 892, 958, 1028, 974, 1009]


# --- blobs ---


def blobs(**options) -> Data:
    return Blobs(**options).load(Path("nowhere"))


@pytest.mark.parametrize(("size", "dim"), [(100, 10), (500, 10), (1000, 20), (5000, 50)])
def test_random_blobs_are_uniform_with_labels_that_tell_nothing(size, dim):
    data = blobs(size=size, dim=dim)
    parts = (data.train, data.val, data.test)
    assert [len(part) for part in parts] == [size, 500, 500]
    assert data.input_shape == (dim,)
    for part in parts:
        assert part.inputs.shape == (len(part), dim)
        assert (part.inputs.abs() < 1).all()
        # Means of a uniform draw: within five standard errors of 0, and of 1/2.
        error = 5 / math.sqrt(3 * part.inputs.numel())
        assert part.inputs.mean().abs() < error
        assert (part.labels.double().mean() - 0.5).abs() < 5 * 0.5 / math.sqrt(len(part))
        means = torch.stack([part.inputs[part.labels == label].mean(0) for label in (0, 1)])
        assert (means[0] - means[1]).abs().max() < 5 * math.sqrt(4 / 3 / len(part))


def test_blobs_come_from_split_seed_and_from_nothing_else():
    first, again, other = blobs(), blobs(), blobs(split_seed=1)
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    larger = blobs(size=2000)  # another size of the training split leaves the others as they are
    for part in ("val", "test"):
        assert torch.equal(getattr(larger, part).inputs, getattr(first, part).inputs)
    assert not torch.equal(first.val.inputs, first.test.inputs)
    assert not torch.equal(first.val.inputs, first.train.inputs[:500])


def test_blobs_that_hold_nothing_out():
    data = blobs(held_out=None, size=100)
    assert torch.equal(data.val.inputs, data.train.inputs)
    assert torch.equal(data.test.labels, data.train.labels)


def test_clusters_have_their_spread_and_share_their_centres():
    data = blobs(classes=7, spread=0.2, size=3000, held_out=2000, dim=5)
    assert data.num_classes == 7
    centres = []
    for part in (data.train, data.test):
        groups = [part.inputs[part.labels == label] for label in range(7)]
        assert all(group.std(0).mean().item() == pytest.approx(0.2, rel=0.1) for group in groups)
        centres.append(torch.stack([group.mean(0) for group in groups]))
    torch.testing.assert_close(centres[0], centres[1], rtol=0, atol=0.08)
    assert centres[0].std(0).mean() > 0.3  # apart
    assert len(blobs(spread=0.0).train.inputs.unique(dim=0)) == 2


def test_blobs_limit_takes_the_first_rows():
    whole, limited = blobs(), blobs(limit=30)
    assert torch.equal(limited.train.inputs, whole.train.inputs[:30])
    assert len(limited.val) == 500


@pytest.mark.parametrize("key", ["size", "held_out", "limit"])
def test_blobs_errors(key):
    with pytest.raises(UserError, match=f"dataset.{key}=0 must be at least 1"):
        Blobs(**{key: 0})


# --- errors and configs ---


@pytest.mark.parametrize("dataset", [Mnist, FashionMnist, Digits])
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("normalize", "zscor", "did you mean 'zscore'"),
        ("normalize", "units", "not one of unit, zscore, none"),
        ("normalize", None, "dataset.normalize"),
        ("label_noise", 1.01, "0.0 to 1.0"),
        ("label_noise", -0.1, "0.0 to 1.0"),
        ("label_noise", float("nan"), "0.0 to 1.0"),
        ("label_noise", "much", "0.0 to 1.0"),
        ("limit", 0, "at least 1"),
        ("limit", 1.5, "at least 1"),
        ("limit", True, "at least 1"),
        ("split_seed", "a", "dataset.split_seed=a"),
        ("held_out_classes", 5, "must be a list of different classes"),
        ("held_out_classes", [3, 3], "must be a list of different classes"),
        ("held_out_classes", [10], "must name classes from 0 to 9"),
        ("held_out_classes", ["cat"], "must name classes from 0 to 9"),
        ("held_out_classes", [*range(9)], "leave at least two"),
    ],
)
def test_bad_arguments_are_told_before_any_file_is_read(dataset, key, value, message):
    with pytest.raises(UserError, match=message) as caught:
        dataset(**{key: value})
    assert f"dataset.{key}={value}" in str(caught.value)


@pytest.mark.parametrize("path", sorted((ROOT / "conf" / "dataset").glob("*.yaml")), ids=str)
def test_configs_are_the_classes_defaults(path):
    from hydra.utils import instantiate

    built = instantiate(compose([f"dataset={path.stem}"]).dataset, **TRUSTED)
    if isinstance(built, Mnist | Digits):
        assert built.options == Options()


def test_checking_options_does_not_import_torch():
    program = (
        "import sys, minesweep.datasets, minesweep.models, minesweep.datasets.options; "
        "sys.exit('torch' in sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    assert subprocess.run([sys.executable, "-c", program], env=env).returncode == 0


def test_data_moves_with_its_flipped_rows():
    moved = digits(label_noise=0.5, limit=20).to("meta")
    assert moved.train.flipped.device.type == moved.train.device.type == "meta"
    assert len(moved.train) == 20
