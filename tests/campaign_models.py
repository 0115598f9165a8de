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
    "nf_regnet_b0",  # BatchNorm of its weights
    "xcit_nano_12_p16_224",  # transposed behind BatchNorm
    "test_nfnet",
    "test_mambaout",
    "test_byobnet",
    "test_convnext",
    "test_vit",
    "lcnet_035",
    "test_resnet",
    "starnet_s050",
    "test_coatnet",
    "test_vit_relpos",
    "tinynet_e",
    "dla46x_c",
    "mobilevit_xxs",
    "repghostnet_050",
    "edgenext_xx_small",
    "ghostnet_050",
    "ese_vovnet19b_slim_dw",
    "efficientvit_b0",
    "efficientvit_m0",
    "regnetx_002",
    "cspnext_tiny",
    "iformer_t",
    "fasternet_t0",
    "cs3darknet_s",
    "lcnetv2_small",
    "xcit_nano_12_p8_224",
    "swiftformer_xs",
    "inception_next_atto",
    "efficientformerv2_s0",
    "fastvit_t8",
    "pvt_v2_b0",
    "rexnet_100",
    "hardcorenas_b",
    "hgnetv2_b0",
    "pit_ti_224",
    "repvit_m1",
    "cpubone_nano",
    "tiny_vit_5m_224",
    "coat_tiny",
    "eva02_tiny_patch14_224",
    "convit_tiny",
    "deit_tiny_patch16_224",
    "efficientvim_m1",
    "gmlp_ti16_224",
    "shvit_s1",
    "vit_tiny_r_s16_p8_224",
    "crossvit_tiny_240",
    "densenet121",
    "levit_128s",
    "halonet_h1",
    "dpn48b",
    "resnest14d",
    "visformer_tiny",
    "csatv2",
    "hrnet_w18_small",
    "resnetv2_18",
    "legacy_seresnet18",
    "efficientformer_l1",
    "skresnet18",
    "gcvit_xxtiny",
    "cait_xxs24_224",
    "lowformer_b0",
    "nest_tiny",
    "convmixer_768_32",
    "legacy_xception",
    "inception_v3",
    "vitamin_small_224",
    "res2next50",
    "rdnet_tiny",
    "tnt_s_legacy_patch16_224",
    "mvitv2_tiny",
    "twins_svt_small",
    "caformer_s18",
    "xception41p",
    "volo_d1_224",
    "sam2_hiera_tiny",
    "hiera_tiny_224",
    "sequencer2d_s",
    "swin_tiny_patch4_window7_224",
    "swinv2_cr_tiny_224",
    "swinv2_tiny_window8_256",
    "davit_tiny",
    "focalnet_tiny_srf",
    "selecsls42",
    "tresnet_m",
    "nextvit_small",
    "inception_v4",
    "inception_resnet_v2",
    "mobilenetv5_base",
    "pnasnet5large",
    "nasnetalarge",
    "samvit_base_patch16_224",
    "beit_base_patch16_224",
    "naflexvit_base_patch16_gap",
    "qwen3_vit_88m",
    # timm's own for its tests: other norms, relative positions, evolved normalisation.
    "test_convnext2",
    "test_convnext3",
    "test_efficientnet",
    "test_efficientnet_evos",
    "test_efficientnet_gn",
    "test_efficientnet_ln",
    "test_maxvit",
    "test_vit2",
    "test_vit3",
    "test_vit4",
]
"""The smallest of each family, those first that have the fewest parameters; and some more."""

MODELS: dict[str, Callable[[], Case]] = {
    **{name: partial(small, make) for name, make in SMALL.items()},
    **{name: partial(architecture, name) for name in TIMM},
}
