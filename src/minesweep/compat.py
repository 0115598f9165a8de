"""The one door to torchvision and timm, which imports torchvision.

A torchvision wheel that was built against another torch (most often a CUDA-built torchvision
beside a CPU torch) cannot load its C++ library, and then fails on import with "operator
torchvision::nms does not exist": its Python part describes two operators that the library
would have declared. Declaring them lets the Python part import. Models and transforms work;
the operators themselves (``nms``, and the image readers of ``torchvision.io``) do not.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

from minesweep.errors import UserError

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# A schema lives as long as the library object that declared it.
_declared: list[torch.library.Library] = []


def import_torchvision(submodule: str = "") -> ModuleType:
    """Imports torchvision, or a part of it such as ``transforms.v2``.

    Raises:
        UserError: torchvision is not installed, or does not fit this torch.
    """
    name = f"torchvision.{submodule}" if submodule else "torchvision"
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{name} cannot be imported ({error}): pip install torchvision") from error
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
    for module in [m for m in sys.modules if m == "torchvision" or m.startswith("torchvision.")]:
        del sys.modules[module]
    # Both at once: a retry that fails on the second cannot register the first again.
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    _declared.append(library)
    return importlib.import_module(name)


def import_timm() -> ModuleType:
    """Imports timm (PyTorch Image Models).

    Raises:
        UserError: timm or torchvision is not installed.
    """
    import_torchvision()
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise UserError(f"timm cannot be imported ({error}): pip install timm") from error
