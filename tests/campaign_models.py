"""The models of the campaign: the smallest of each family of timm, and small ones of one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from campaign_small import SMALL
from torch import Tensor, nn

from minesweep.compat import import_timm
from minesweep.datasets.base import Batch

CLASSES = 5


@dataclass
class Case:
    """A model and what it is given.

    Attributes:
        model: As it is made.
        inputs: Given n and a seeded generator: a tensor, a tuple, or a dict of keyword arguments.
        logits: Makes ``[n, CLASSES]`` of what it gives.
    """

    model: nn.Module
    inputs: Callable[[int, torch.Generator], Any]
    logits: Callable[[Any], Tensor] = lambda outputs: outputs

    def batch(self, n: int, step: int) -> Batch:
        inputs = self.inputs(n, torch.Generator().manual_seed(100 + step))
        return Batch(inputs, torch.arange(n) % CLASSES, torch.arange(n))


def architecture(name: str) -> Case:
    """Of timm, with the smallest images that it takes."""
    create = import_timm().create_model
    for size in (64, 96, 128, 160, None):
        for settings in ({"img_size": size}, {}) if size else ({},):
            try:
                model = create(name, num_classes=CLASSES, **settings)
                shape = (3, size, size) if size else model.default_cfg["input_size"]
                with torch.no_grad():
                    outputs = model.eval()(torch.zeros(2, *shape))
            except Exception:  # whatever a size that does not fit may raise
                continue
            if outputs.shape == (2, CLASSES) and outputs.isfinite().all():
                return Case(model, images(shape))
    raise ValueError(f"{name} runs on none of the sizes")


def small(make: Callable[[], Any]) -> Case:
    return Case(*make())


def images(shape: tuple[int, ...]) -> Callable[[int, torch.Generator], Tensor]:
    return lambda n, draws: torch.randn(n, *shape, generator=draws, dtype=torch.float64)


TIMM = [
    "beit_base_patch16_224",
    "caformer_s18",
    "cait_xxs24_224",
    "coat_tiny",
    "convit_tiny",
    "convmixer_768_32",
    "cpubone_nano",
    "crossvit_tiny_240",
    "cs3darknet_s",
    "csatv2",
    "cspnext_tiny",
    "davit_tiny",
    "deit_tiny_patch16_224",
    "densenet121",
    "dla46x_c",
    "dpn48b",
    "edgenext_xx_small",
    "efficientformer_l1",
    "efficientformerv2_s0",
    "efficientvim_m1",
    "efficientvit_b0",
    "efficientvit_m0",
    "ese_vovnet19b_slim_dw",
    "eva02_tiny_patch14_224",
    "fasternet_t0",
    "fastvit_t8",
    "focalnet_tiny_srf",
    "gcvit_xxtiny",
    "ghostnet_050",
    "gmlp_ti16_224",
    "halonet_h1",
    "hardcorenas_b",
    "hgnetv2_b0",
    "hiera_tiny_224",
    "hrnet_w18_small",
    "iformer_t",
    "inception_next_atto",
    "inception_resnet_v2",
    "inception_v3",
    "inception_v4",
    "lcnet_035",
    "lcnetv2_small",
    "legacy_seresnet18",
    "legacy_xception",
    "levit_128s",
    "lowformer_b0",
    "mobilenetv5_base",
    "mobilevit_xxs",
    "mvitv2_tiny",
    "naflexvit_base_patch16_gap",
    "nasnetalarge",
    "nest_tiny",
    "nextvit_small",
    "pit_ti_224",
    "pnasnet5large",
    "pvt_v2_b0",
    "qwen3_vit_88m",
    "rdnet_tiny",
    "regnetx_002",
    "repghostnet_050",
    "repvit_m1",
    "res2next50",
    "resnest14d",
    "resnetv2_18",
    "rexnet_100",
    "sam2_hiera_tiny",
    "samvit_base_patch16_224",
    "selecsls42",
    "sequencer2d_s",
    "shvit_s1",
    "skresnet18",
    "starnet_s050",
    "swiftformer_xs",
    "swin_tiny_patch4_window7_224",
    "swinv2_cr_tiny_224",
    "swinv2_tiny_window8_256",
    "test_byobnet",
    "test_coatnet",
    "test_convnext",
    "test_mambaout",
    "test_nfnet",
    "test_resnet",
    "test_vit",
    "test_vit_relpos",
    "tiny_vit_5m_224",
    "tinynet_e",
    "tnt_s_legacy_patch16_224",
    "tresnet_m",
    "twins_svt_small",
    "visformer_tiny",
    "vit_tiny_r_s16_p8_224",
    "vitamin_small_224",
    "volo_d1_224",
    "xception41p",
    "xcit_nano_12_p8_224",
]

MODELS: dict[str, Callable[[], Case]] = {
    **{name: partial(architecture, name) for name in TIMM},
    **{name: partial(small, make) for name, make in SMALL.items()},
}
