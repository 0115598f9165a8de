"""Which arm a study at equal cost says to use."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from minesweep.reporting.analyse.answer import advise
from minesweep.reporting.analyse.arms import wanted_baseline
from minesweep.statistics.sequential import COSTS, HELPS, UNSURE

COST = "trainer.equal_cost"


def arms(*costs: str | None) -> pd.DataFrame:
    names = ["all", "random_k", "ohem", "smooth"][: len(costs)]
    return pd.DataFrame({"miner": names, COST: costs}, index=names, dtype=object)


ARMS = arms(None, "equal cost", "equal cost", "equal cost")
MEANS = pd.Series({"all": 0.90, "random_k": 0.93, "ohem": 0.95, "smooth": 0.97})


def answers(**kinds: str) -> pd.DataFrame:
    return pd.DataFrame({"arm": kinds.keys(), "baseline": "all", "answer": kinds.values()})


@pytest.mark.parametrize(
    ("kinds", "told"),
    [
        ({"ohem": HELPS, "smooth": HELPS}, "Use smooth."),
        ({"ohem": HELPS, "smooth": COSTS}, "Use ohem."),
        ({"ohem": COSTS, "smooth": COSTS}, "Use none: random_k is best without mining."),
        (
            {"random_k": HELPS, "ohem": UNSURE},
            "Use none: random_k is best without mining "
            "(1 of 2 comparisons at equal cost are not sure).",
        ),
    ],
)
def test_a_miner_has_to_beat_every_control(kinds: dict[str, str], told: str) -> None:
    assert advise(answers(**kinds), ARMS, MEANS, False, {}) == told


def test_a_miner_that_helps_but_loses_to_a_control_is_not_used() -> None:
    means = pd.Series({**MEANS, "random_k": 0.96})
    assert advise(answers(ohem=HELPS), ARMS, means, False, {}).startswith("Use none: random_k")


def test_a_loss_is_to_be_small_and_the_command_is_told() -> None:
    means = pd.Series({"all": 0.5, "random_k": 0.4, "ohem": 0.3, "smooth": math.nan})
    told = advise(
        answers(ohem=HELPS), ARMS, means, True, {"ohem": "python src/train.py miner=ohem"}
    )
    assert told == "Use ohem. To train with it: python src/train.py miner=ohem"


def test_without_equal_cost_nothing_is_advised() -> None:
    assert advise(answers(ohem=HELPS), arms(None, None, None), MEANS, False, {}) == ""


def test_of_several_baselines_the_first_that_the_study_has() -> None:
    asked = [{"miner": "queue"}, {"miner": "smooth", "miner.no": 1}, {"miner": "random_k"}]
    assert wanted_baseline(ARMS, asked) == {"miner": "random_k"}
    assert wanted_baseline(ARMS, [{"miner": "queue"}]) == {"miner": "random_k"}  # the default
    assert wanted_baseline(ARMS[:1], [{"miner": "queue"}]) is None
    assert wanted_baseline(ARMS, {"miner": "all"}) == {"miner": "all"}
