"""How often the rule is wrong: the simulation against the rule itself, and what is stored of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from minesweep.statistics.sequential import COSTS, HELPS, LOOKS, SAME, decide

ROOT = Path(__file__).resolve().parents[1]
KNOWN = {
    (1, 0.0): (0.039, 0.94, 14.3),
    (1, 0.5): (0.46, None, 15.6),
    (1, 1.0): (0.97, None, 12.2),
    (1, 2.0): (1.0, None, 7.7),
    (6, 0.0): (0.008, 0.79, 17.9),
    (6, 0.5): (0.24, None, 18.8),
    (6, 1.0): (0.90, None, 15.7),
    (6, 2.0): (1.0, None, 10.2),
}
"""By arms and effect: answered with helps or costs, no difference, mean seeds. From another
simulation, of 100,000 sequences."""


@pytest.fixture(scope="module")
def rates() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        import error_rates

        sys.modules.pop("common", None)
    return error_rates


def test_the_simulation_decides_as_the_rule_does(rates: ModuleType) -> None:
    rule = rates.rule_of(LOOKS, 2)
    rng = np.random.default_rng(3)
    for effect in (0.0, 1.0):
        d = rng.standard_normal((40, 2, 20)) + effect
        found = rates.judge(d, rule, effect)
        one_by_one = [[decide(x, rule) for x in study] for study in d]
        kinds = np.array([[decision.kind for decision in study] for study in one_by_one])
        seeds = np.array([[decision.n for decision in study] for study in one_by_one])
        wrong = kinds == COSTS if effect else np.isin(kinds, (HELPS, COSTS))
        assert found == rates.Rates(
            wrong.any(axis=1).mean(), (kinds == HELPS).mean(), (kinds == SAME).mean(), seeds.mean()
        )


def test_real_differences_keep_their_seeds_together(rates: ModuleType) -> None:
    pool = np.arange(20.0).reshape(10, 2)
    d = rates.draw(np.random.default_rng(0), pool, 5, 3, 20)
    assert d.shape == (5, 3, 20)
    assert (d[:, 1] == d[:, 0] + 1).all()
    assert (d[:, 2] % 2 == 0).all()


@pytest.fixture(scope="module")
def stored() -> list[dict[str, Any]]:
    tree = json.loads((ROOT / "results" / "error_rates.json").read_text())
    return list(tree["details"])


def test_studies_without_a_difference_are_wrong_in_at_most_one_of_twenty(
    stored: list[dict[str, Any]],
) -> None:
    none = [e for e in stored if e["effect"] == 0]
    held = [e for e in none if e["rule"] == "until sure" and "as they lie" not in e["differences"]]
    assert {(e["differences"], e["arms"]) for e in held} == {
        (kind, arms) for kind in ("normal", "digits", "mnist") for arms in (1, 3, 6)
    }
    for entry in held:
        assert entry["wrong"] <= 0.055, entry
    # Skewed differences cost a little more, as they cost every t-test.
    fixed = {(e["differences"], e["arms"]): e["wrong"] for e in none if e["rule"] == "fixed 10"}
    for entry in none:
        limit = max(0.055, fixed[entry["differences"], entry["arms"]] + 0.005)
        assert entry["rule"] != "until sure" or entry["wrong"] <= limit, entry


def check_known(entries: list[dict[str, Any]]) -> None:
    for entry in entries:
        key = (entry["arms"], entry["effect"])
        if entry["rule"] != "until sure" or entry["differences"] != "normal" or key not in KNOWN:
            continue
        answered, same, seeds = KNOWN[key]
        # Without an effect half of the wrong answers say that it helps.
        share = entry["helps"] * (2 if entry["effect"] == 0 else 1)
        assert share == pytest.approx(answered, abs=0.012), entry
        assert entry["seeds"] == pytest.approx(seeds, abs=0.6), entry
        if same is not None:
            assert entry["same"] == pytest.approx(same, abs=0.012), entry


def test_power_and_seeds_are_those_of_another_simulation(stored: list[dict[str, Any]]) -> None:
    check_known(stored)


@pytest.mark.slow
def test_the_stored_rates_are_what_the_simulation_finds(
    rates: ModuleType, stored: list[dict[str, Any]]
) -> None:
    for arms in (1, 3, 6):
        rng = np.random.default_rng(11)
        d = rng.standard_normal((20_000, arms, 20))
        found = rates.judge(d, rates.rule_of(LOOKS, arms), 0.0)
        assert found.wrong <= 0.055
        (entry,) = (
            e
            for e in stored
            if (e["differences"], e["arms"], e["effect"], e["rule"])
            == ("normal", arms, 0.0, "until sure")
        )
        assert found.wrong == pytest.approx(entry["wrong"], abs=0.006)
        assert found.seeds == pytest.approx(entry["seeds"], abs=0.1)
