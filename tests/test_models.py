"""Models: shapes, initialisation, image sizes, errors; the door to torchvision."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.nn import functional

from minesweep.compat import import_torchvision
from minesweep.config.build import build
from minesweep.config.compose import compose
from minesweep.errors import UserError
from minesweep.models.mlp import ACTIVATIONS, MLP
from minesweep.models.timm import Timm, check_name

ROOT = Path(__file__).parent.parent


def built(group: str, shape: tuple[int, ...] = (1, 8, 8), /, **changes) -> nn.Module:
    """What the trainer builds from ``conf/model/<group>.yaml``."""
    cfg = OmegaConf.create({"model": {**compose([f"model={group}"]).model, **changes}})
    return build(cfg, "model", input_shape=shape, num_classes=10)


def learns(model: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether three steps on one batch bring its loss down, through every parameter."""
    draws = torch.Generator().manual_seed(0)
    images = torch.rand(8, *shape, generator=draws)
    labels = torch.arange(8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for _ in range(4):
        loss = functional.cross_entropy(model(images), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return min(losses[1:]) < losses[0]


# --- MLP ---


def test_the_seeds_network():
    torch.manual_seed(0)
    net = built("mlp_sigmoid", (1, 28, 28))
    assert [type(m) for m in net] == [nn.Flatten, nn.Linear, nn.Sigmoid, nn.Linear]
    assert [m.weight.shape for m in net if isinstance(m, nn.Linear)] == [(1024, 784), (10, 1024)]
    for layer, std in ((net[1], 1 / 1024), (net[3], 1 / 10)):
        weights = layer.weight.detach()
        assert weights.abs().max() <= 2 * std
        assert weights.abs().max() > 1.9 * std  # cut there, not before
        # A standard normal cut at two deviations has deviation 0.8796.
        assert weights.std().item() == pytest.approx(0.8796 * std, rel=0.02)
        assert weights.mean().abs().item() < 0.05 * std
        assert (layer.bias == 0).all()


def test_mlp_computes_what_it_says():
    net = MLP([5, 4], "tanh", input_shape=(2, 3), num_classes=3)
    inputs = torch.randn(7, 2, 3)
    hidden = inputs.flatten(1)
    first, second, last = (m for m in net if isinstance(m, nn.Linear))
    hidden = torch.tanh(torch.tanh(hidden @ first.weight.T + first.bias) @ second.weight.T
                        + second.bias)  # fmt: skip
    torch.testing.assert_close(net(inputs), hidden @ last.weight.T + last.bias)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("widths", [[], [16], [16, 8]])
def test_mlp_learns(activation, widths):
    torch.manual_seed(0)
    net = built("mlp", activation=activation, widths=widths)
    assert net(torch.rand(5, 1, 8, 8)).shape == (5, 10)
    assert learns(net, (1, 8, 8))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": "sigmoidd"}, "model.activation=sigmoidd .* did you mean 'sigmoid'"),
        ({"activation": "swish"}, "is not one of sigmoid, relu, tanh, gelu, silu"),
        ({"init": "truncated"}, "model.init=truncated .* did you mean 'truncated_normal'"),
        ({"widths": [16, 0]}, "model.widths"),
        ({"widths": 16}, "model.widths=16 must be a list"),
    ],
)
def test_mlp_errors(changes, message):
    with pytest.raises(UserError, match=message):
        MLP(**{"widths": [4], **changes}, input_shape=(4,), num_classes=2)


# --- embedding MLP ---


def test_the_first_pair_miners_network():
    net = built("embedding_mlp", (10,))
    layers = [m for m in net.modules() if isinstance(m, nn.Linear)]
    sizes = [(m.in_features, m.out_features) for m in layers]
    assert sizes == [(10, 100), (100, 50), (50, 25), (25, 10), (10, 3)]
    assert [type(m) for m in net.body][-3:] == [nn.Linear, nn.ReLU, nn.Linear]
    points = torch.randn(6, 10)
    assert torch.equal(net(points), net.body(points))
    assert torch.equal(net(points), net.embed(points))


def test_embeddings_of_images_projected_and_normalised():
    torch.manual_seed(0)
    net = built("embedding_mlp", widths=[32], dim=16, projection=5, normalize=True)
    images = torch.rand(4, 1, 8, 8)
    outputs, embeddings = net(images), net.embed(images)
    assert (outputs.shape, embeddings.shape) == ((4, 5), (4, 16))
    for vectors in (outputs, embeddings):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))
    head = net.head
    expected = net.body(images) @ head.weight.T + head.bias
    torch.testing.assert_close(outputs, functional.normalize(expected, dim=1))


def test_embedding_mlp_learns():
    torch.manual_seed(0)
    assert learns(built("embedding_mlp", widths=[16], dim=8, projection=8), (1, 8, 8))


# --- timm ---


@pytest.mark.parametrize(
    ("name", "side", "expected"),
    [
        ("resnet18", 8, 8),
        ("resnet18", 28, 28),
        ("vit_tiny_patch16_224", 8, 32),
        ("vit_tiny_patch16_224", 28, 32),  # 28 would leave out a border of 12 pixels
        ("convnext_atto", 8, 32),
        ("convnext_atto", 32, 32),
        ("mixer_s32_224", 28, 64),
    ],
)
def test_timm_takes_grey_images_of_the_datas_size(name, side, expected):
    model = built("timm", (1, side, side), name=name)
    assert model.size == (expected, expected)
    with torch.no_grad():
        assert model(torch.rand(3, 1, side, side)).shape == (3, 10)


@pytest.mark.parametrize("name", ["resnet18", "test_vit", "test_convnext"])
def test_timm_learns_on_digits(name):
    torch.manual_seed(0)
    assert learns(built("timm", name=name), (1, 8, 8))


def test_image_size_resizes_bilinearly():
    model = built("timm", name="test_resnet", image_size=16)
    model.net = nn.Identity()
    images = torch.rand(2, 1, 8, 8)
    expected = functional.interpolate(images, (16, 16), mode="bilinear")
    torch.testing.assert_close(model(images), expected)


def test_every_pixel_reaches_a_vit():
    model = built("timm", (1, 28, 28), name="test_vit").eval()
    images = torch.rand(1, 1, 28, 28, requires_grad=True)
    model(images).square().sum().backward()
    assert (images.grad != 0).all()


def test_three_channels_repeat_a_grey_image():
    model = built("timm", name="test_resnet", in_chans=3)
    model.net = nn.Identity()
    out = model(torch.rand(2, 1, 8, 8))
    assert out.shape == (2, 3, 8, 8)
    assert torch.equal(out[:, 0], out[:, 2])


def test_trying_sizes_moves_no_random_generator():
    torch.manual_seed(3)
    tried = built("timm", name="test_vit")  # 8 is tried in vain, then 32
    torch.manual_seed(3)
    straight = built("timm", name="test_vit", image_size=32)
    for a, b in zip(tried.parameters(), straight.parameters(), strict=True):
        assert torch.equal(a, b)


def test_further_settings_reach_timm():
    assert len(built("timm", name="test_vit", depth=1).net.blocks) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "resnet81"}, "model.name=resnet81 is not known; did you mean 'resnet18'"),
        ({"name": None}, "model.name=None is not known"),
        ({"depht": 1}, "unexpected keyword argument 'depht'"),
        ({"name": "vit_tiny_patch16_224", "image_size": 28}, "the next that fits is 32"),
        ({"image_size": 0}, "whole number of pixels"),
        ({"in_chans": 3, "input_shape": (2, 8, 8)}, "does not fit data of 2 channels"),
        ({"input_shape": (10,)}, "takes images"),
    ],
)
def test_timm_errors(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        Timm(**{"name": "test_vit", "input_shape": (1, 8, 8), **changes}, num_classes=2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "shape", "what"),
    [
        *((name, (4,), "images") for name in ("unet", "pixels", "timm_pixels", "timm")),
        *((n, (1, 8, 8), "texts") for n in ("bag_of_words", "siamese_lstm", "static_embeddings")),
    ],
)
def test_a_model_refuses_data_of_another_kind(name, shape, what):
    with pytest.raises(UserError) as caught:
        built(name, shape)
    message = f"takes {what}, not data of shape {list(shape)}: choose another model, e.g. model=mlp"
    assert str(caught.value).endswith(message)


def test_what_a_model_raises_is_one_line():
    with pytest.raises(UserError, match=r"name=resnet81 is not known; did you mean 'resnet18'\?"):
        built("timm", name="resnet81")
    with pytest.raises(UserError, match=r"^model=minesweep\.models\.mlp\.MLP: .*no_such_word"):
        built("mlp", no_such_word=1)


def test_a_weights_tag_is_a_name():
    check_name("resnet18.a1_in1k")


def test_weights_that_cannot_be_had(monkeypatch):
    import timm

    def offline(name, pretrained=False, **settings):
        if pretrained:
            raise OSError("no connection\nmore")
        return create(name, **settings)

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr("minesweep.network.answers", lambda host: True)
    with pytest.raises(UserError, match=r"no weights of test_vit could be had \(no connection\)"):
        Timm("test_vit", pretrained=True, input_shape=(1, 8, 8), num_classes=2)


# --- the door to torchvision ---


STAND_IN = """
import torch
from torchvision import half
for name in ("torchvision::nms", "torchvision::qnms"):
    torch.library.register_fake(name)(lambda dets, scores, iou: dets.new_empty(0))
parts = 1
"""

PROGRAM = """
import sys
import minesweep.datasets.digits, minesweep.datasets.mnist
import minesweep.models.mlp, minesweep.models.timm
assert not {"torchvision", "timm"} & set(sys.modules)  # only a timm model needs them

sys.path.insert(0, sys.argv[1])
from minesweep.config.compose import compose
from minesweep.compat import import_torchvision
vision = import_torchvision()
assert vision.parts == 1 and import_torchvision("half") is vision.half
"""


def test_a_torchvision_without_its_library_is_imported_all_the_same(tmp_path):
    """A stand-in that fails as torchvision does, whatever torchvision this machine has."""
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "half.py").write_text("")
    (package / "__init__.py").write_text(STAND_IN)
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (RuntimeError("operator other::nms does not exist"), RuntimeError),
        (ImportError("No module named 'torchvision'"), UserError),
    ],
)
def test_another_failure_is_not_hidden(monkeypatch, raised, expected):
    def fail(name):
        raise raised

    monkeypatch.setattr("minesweep.compat.importlib.import_module", fail)
    with pytest.raises(expected, match=r"other::nms|pip install torchvision"):
        import_torchvision()


def test_the_installed_torchvision_imports():
    transforms = import_torchvision("transforms.v2")
    assert transforms.Resize(4)(torch.rand(1, 8, 8)).shape == (1, 4, 4)
