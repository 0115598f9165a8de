"""Sweep -> trials: W&B's order and distributions, and nothing remembered."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from minesweep.errors import UserError
from minesweep.sweeps.parameters import Parameter, read_parameters
from minesweep.sweeps.spec import Sweep
from minesweep.sweeps.trials import quantile, random_trial, trials

DRAWS = 4000


def make(method: str, parameters: dict[str, Any], run_cap: int | None = None) -> Sweep:
    return Sweep(
        path=Path("x.yaml"),
        program=Path("src/train.py"),
        method=method,
        parameters=read_parameters(parameters, method)[0],
        run_cap=run_cap,
    )


def one(**node: Any) -> Parameter:
    (parameter,), _ = read_parameters({"x": node}, "random")
    return parameter


def draws(**node: Any) -> list[Any]:
    """Values of many random trials, as they stand in the override."""
    parameter = one(**node)
    found = []
    for index in range(DRAWS):
        (override,) = random_trial((parameter,), 0, index)
        found.append(override.removeprefix("x="))
    return found


def test_a_grid_runs_in_the_order_of_the_names_the_last_fastest() -> None:
    sweep = make("grid", {"seed": {"values": [2, 1]}, "miner": {"values": ["ohem", "all"]}})
    expected = [[f"miner={m}", f"seed={s}"] for m in ("ohem", "all") for s in (2, 1)]
    assert trials(sweep) == expected


def test_constants_and_nested_names_and_ranges_in_a_grid() -> None:
    sweep = make(
        "grid",
        {
            "study": {"value": "nk"},
            "a": {"parameters": {"c": {"min": 1, "max": 3}, "b": {"value": True}}},
            "q": {"distribution": "q_uniform", "min": 0.0, "max": 1.0, "q": 0.5},
        },
    )
    expected = [
        ["a.b=True", f"a.c={c}", f"q={q}", "study=nk"] for c in (1, 2, 3) for q in (0.0, 0.5)
    ]
    assert trials(sweep) == expected


def test_equal_values_give_one_trial_and_run_cap_and_count_cut() -> None:
    parameters = {"seed": {"values": [0, 1, 0, 2]}}
    assert trials(make("grid", parameters)) == [["seed=0"], ["seed=1"], ["seed=2"]]
    assert len(trials(make("grid", parameters, run_cap=2))) == 2
    assert len(trials(make("grid", parameters, run_cap=2), count=1)) == 1
    assert len(trials(make("grid", parameters), count=9)) == 3


def test_a_random_sweep_needs_an_end() -> None:
    sweep = make("random", {"lr": {"min": 0.0, "max": 1.0}})
    with pytest.raises(UserError, match=r"has no end; add run_cap: 20 to it, or --count 20"):
        trials(sweep)
    assert len(trials(sweep, count=3)) == 3


def test_a_random_trial_depends_on_its_seed_number_and_name_alone() -> None:
    narrow = make("random", {"lr": {"min": 0.0, "max": 1.0}}, run_cap=5)
    wide = make("random", {"lr": {"min": 0.0, "max": 1.0}, "a": {"min": 0, "max": 9}}, run_cap=50)
    assert [trial[-1:] for trial in trials(wide)[:5]] == trials(narrow)
    assert trials(narrow) == trials(narrow)
    assert trials(narrow, seed=1) != trials(narrow)
    assert len({trial[-1] for trial in trials(wide)}) == 50


@pytest.mark.parametrize(
    ("node", "reference"),
    [
        ({"min": 2.0, "max": 5.0}, stats.uniform(2, 3)),
        (
            {"distribution": "log_uniform_values", "min": 1e-4, "max": 0.1},
            stats.loguniform(1e-4, 0.1),
        ),
        ({"distribution": "normal", "mu": 3, "sigma": 2}, stats.norm(3, 2)),
        ({"distribution": "normal"}, stats.norm(0, 1)),
    ],
)
def test_continuous_distributions(node: dict[str, Any], reference: Any) -> None:
    assert stats.kstest([float(value) for value in draws(**node)], reference.cdf).pvalue > 0.01


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"min": 3, "max": 6}, {"3": 0.25, "4": 0.25, "5": 0.25, "6": 0.25}),
        ({"values": ["a", 2]}, {"a": 0.5, "2": 0.5}),
        ({"values": [1, 2, 3], "probabilities": [0.2, 0.8, 0.0]}, {"1": 0.2, "2": 0.8}),
        ({"value": True}, {"True": 1.0}),
        # uniform on [0, 1] rounded to halves: the outer ones get half of an inner one's share
        (
            {"distribution": "q_uniform", "min": 0.0, "max": 1.0, "q": 0.5},
            {"0.0": 0.25, "0.5": 0.5, "1.0": 0.25},
        ),
        # whole numbers where q is one
        (
            {"distribution": "q_log_uniform_values", "min": 1, "max": 4, "q": 2},
            {"0": 0.0, "2": math.log(3) / math.log(4), "4": 1 - math.log(3) / math.log(4)},
        ),
        (
            {"distribution": "q_normal", "mu": 0, "sigma": 0.25, "q": 1},
            {"0": 0.954, "1": 0.023, "-1": 0.023},
        ),
    ],
)
def test_discrete_distributions(node: dict[str, Any], expected: dict[str, float]) -> None:
    counts = Counter(draws(**node))
    expected = {value: share for value, share in expected.items() if share > 0}
    assert set(counts) == set(expected)
    if len(expected) > 1:
        observed = [counts[value] for value in expected]
        shares = [share / sum(expected.values()) * DRAWS for share in expected.values()]
        assert stats.chisquare(observed, shares).pvalue > 0.01


@settings(deadline=None)
@given(
    st.floats(0, 1, exclude_min=True, exclude_max=True),
    st.floats(0, 1, exclude_min=True, exclude_max=True),
)
def test_a_quantile_rises_and_stays_in_its_range(u: float, v: float) -> None:
    low, high = sorted((u, v))
    for node in (
        {"min": 1, "max": 7},
        {"min": -1.0, "max": 2.0},
        {"distribution": "log_uniform_values", "min": 0.01, "max": 2.0},
        {"values": [1, 2, 3], "probabilities": [0.1, 0.2, 0.7]},
    ):
        parameter = one(**node)
        first, second = quantile(parameter, low), quantile(parameter, high)
        assert first <= second
        if "min" in node:
            assert node["min"] * (1 - 1e-9) - 1e-9 <= first
            assert second <= node["max"] * (1 + 1e-9)
