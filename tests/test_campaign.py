"""The table of the campaign has no wrong gradient, and a few of its models are tried here."""

from __future__ import annotations

import pytest
from campaign import PATH, campaign, read
from campaign_models import MODELS, TIMM
from campaign_small import SMALL
from conftest import ROOT

RESULTS = read(ROOT / PATH)
FEW = {
    "lstm": "exact",
    "encoder_masked": "exact",
    "in_place": "exact",
    "kernels_of_each_row": "exact",
    "width_of_one": "exact",
    "instancenorm": "exact",
    "checkpoint": "exact",
    "checkpoint_dropout": "fallback",
    "checkpoint_reentrant": "fallback",
    "shut_gate": "fallback",
    "batch_attention": "fallback",
}


def test_no_gradient_of_the_table_is_wrong() -> None:
    # "harness": the whole graph's own gradients are not finite there.
    assert {result.outcome for result in RESULTS} <= {"exact", "fallback", "refused", "harness"}
    tried = {result.model for result in RESULTS if result.outcome != "harness"}
    assert tried <= MODELS.keys()
    assert tried >= SMALL.keys()
    assert len(tried & set(TIMM)) >= 80


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FEW)
def test_a_few_of_them(name: str) -> None:
    assert [result.outcome for result in campaign([name])] == [FEW[name]] * 3


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.filterwarnings("ignore")
def test_all_of_them() -> None:
    assert "wrong" not in {result.outcome for result in campaign(MODELS)}
