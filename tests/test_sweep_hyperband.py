"""The stop rule that reads the siblings' journals."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from minesweep.errors import UserError
from minesweep.sweeps.history import History
from minesweep.sweeps.hyperband import Hyperband, Rule, should_stop


@pytest.mark.parametrize(
    ("rule", "iterations", "brackets"),
    [
        (Rule(min_iter=3), 100, [3, 9, 27, 81]),  # the example of W&B's documentation
        (Rule(max_iter=27, s=2), 27, [3, 9]),  # the other one
        (Rule(min_iter=3), 2, []),
        (Rule(min_iter=3), 9, [3, 9]),
        (Rule(min_iter=1, eta=2), 8, [1, 2, 4, 8]),
        (Rule(min_iter=1, eta=10), 1000, [1, 10, 100, 1000]),
        (Rule(max_iter=5, s=2, eta=2), 5, [1, 2]),
        (Rule(max_iter=10, s=5, eta=3), 10, [1, 3]),  # 10/27 is less than one iteration
    ],
)
def test_brackets(rule: Rule, iterations: int, brackets: list[int]) -> None:
    assert rule.reached(iterations) == brackets


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ({}, "give min_iter, or max_iter with s"),
        ({"min_iter": 3, "max_iter": 9, "s": 1}, "give min_iter, or max_iter with s"),
        ({"max_iter": 9}, "max_iter needs s"),
        ({"min_iter": 3, "eta": 1}, "eta=1 must be more than 1"),
        ({"max_iter": 2, "s": 1}, "has no bracket"),
    ],
)
def test_impossible_rules(options: dict[str, int], answer: str) -> None:
    with pytest.raises(UserError, match=answer):
        Rule(**options)


RUNS = {"a": [10, 9], "b": [10, 10], "c": [10, 8, 8], "d": [10, 7, 7], "e": [10, 6, 6]}


def stopped(rule: Rule, goal: str = "minimize", sign: int = 1) -> set[str]:
    runs = {name: [sign * value for value in values] for name, values in RUNS.items()}
    return {
        name
        for name, values in runs.items()
        if should_stop(values, [v for other, v in runs.items() if other != name], rule, goal)
    }


def test_the_best_share_goes_on() -> None:
    rule = Rule(max_iter=8, s=2, eta=2)  # brackets 2 and 4
    # At the second value: 6 7 8 9 10; half of them go on, the middle one with them.
    assert stopped(rule) == {"a", "b"}
    assert stopped(rule, "maximize", sign=-1) == {"a", "b"}
    # At the first value all are equal: none is worse than another.
    assert stopped(Rule(min_iter=1, eta=100)) == set()


def test_strict_judges_by_the_value_at_the_bracket() -> None:
    history, siblings = [9.0, 9.0, 1.0], [[5.0, 5.0], [4.0, 4.0]]
    assert not should_stop(history, siblings, Rule(min_iter=2, eta=3), "minimize")
    assert should_stop(history, siblings, Rule(min_iter=2, eta=3, strict=True), "minimize")


def test_nan_is_the_worst_value() -> None:
    siblings = [[1.0], [2.0], [3.0]]
    assert should_stop([math.nan], siblings, Rule(min_iter=1), "maximize")
    assert not should_stop([2.0], [[math.nan], [math.nan]], Rule(min_iter=1), "minimize")


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=8),
    st.integers(1, 4),
    st.sampled_from([2, 3, 4]),
)
def test_against_a_naive_count(runs: list[list[int]], first: int, eta: int) -> None:
    """A run stops when more runs than the share that goes on are better at its bracket."""
    own, others = runs[0], runs[1:]
    bracket = max((first * eta**i for i in range(9) if first * eta**i <= len(own)), default=None)
    expected = False
    if bracket is not None:
        there = [run for run in runs if len(run) >= bracket]
        better = sum(run[bracket - 1] < own[bracket - 1] for run in there)
        expected = better > len(there) // eta
    rule = Rule(min_iter=first, eta=eta, strict=True)
    assert should_stop(own, others, rule, "minimize") == expected


def write_run(study: Path, name: str, values: list[float | None], dataset: str = "digits") -> Path:
    folder = study / name
    folder.mkdir(parents=True)
    config = {"trainer": {"early_terminate": {"min_iter": 2}}, "dataset": {"name": dataset}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    lines = [json.dumps({"step": 10 * i + 10, "val/loss": v}) for i, v in enumerate(values)]
    (folder / "journal.jsonl").write_text("".join(line + "\n" for line in lines))
    return folder


def test_the_rule_reads_its_siblings_while_they_run(tmp_path: Path) -> None:
    for name, values in {"a": [3.0, 2.0], "b": [3.0, 1.0]}.items():
        write_run(tmp_path, name, values)
    write_run(tmp_path, "other-data", [0.0, 0.0, 0.0], dataset="mnist")
    write_run(tmp_path, "empty", [])
    own = write_run(tmp_path, "own", [])
    rule = Hyperband(own, metric="val/loss", min_iter=2, eta=2.0)
    assert not rule.stop(10, {"val/loss": 9.0})
    with (own / "journal.jsonl").open("a") as journal:
        journal.write('{"step": 10, "val/loss": 9.0}\n')
    # At the second value: 1, 2 and 1.5, of which the best, and the one at place 1, go on.
    assert not rule.stop(20, {"val/loss": 1.5})
    write_run(tmp_path, "c", [1.0, 0.5])
    write_run(tmp_path, "d", [1.0, 0.4])
    assert rule.stop(20, {"val/loss": 1.5})


def test_a_resumed_run_knows_its_history(tmp_path: Path) -> None:
    write_run(tmp_path, "a", [1.0, 1.0, 1.0, 1.0])
    own = write_run(tmp_path, "own", [2.0])
    assert Hyperband(own, metric="val/loss", min_iter=2).stop(20, {"val/loss": 2.0})


def test_a_metric_that_is_not_logged(tmp_path: Path) -> None:
    rule = Hyperband(tmp_path / "own", metric="val/los", min_iter=2)
    with pytest.raises(UserError, match="val/los is not logged; did you mean 'val/loss'"):
        rule.stop(10, {"val/loss": 1.0})


def test_a_history_follows_a_growing_and_a_cut_journal(tmp_path: Path) -> None:
    history, journal = History(tmp_path, "val/loss"), tmp_path / "journal.jsonl"
    assert history.read() == {}
    journal.write_text('{"step": 1, "lr": 0.1}\n{"step": 2, "val/loss": 3.0}\n{"step": 4, "val/lo')
    assert history.read() == {2: 3.0}
    with journal.open("a") as file:
        file.write('ss": 2}\n{"step": 6, "val/loss": null}\n')
    assert list(history.read()) == [2, 4, 6]
    assert math.isnan(history.read()[6])
    journal.write_text('{"step": 2, "val/loss": 3.0}\n')
    assert history.read() == {2: 3.0}
