"""A sweep file is read as W&B reads it, and what cannot be honoured is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from minesweep.errors import UserError
from minesweep.sweeps.metrics import check_metric
from minesweep.sweeps.parameters import DISTRIBUTIONS, check_value, read_parameters, write
from minesweep.sweeps.spec import parse, read

ROOT = Path(__file__).parents[1]
COMMAND = ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"]


@pytest.fixture(autouse=True)
def _in_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def sweep(**changes: Any) -> dict[str, Any]:
    """A right sweep file with some keys changed; None takes a key away."""
    tree = {
        "program": "src/train.py",
        "method": "grid",
        "command": COMMAND,
        "parameters": {"seed": {"values": [0, 1]}},
        **changes,
    }
    return {key: value for key, value in tree.items() if value is not None}


def swept(**node: Any) -> dict[str, Any]:
    return sweep(method="random", parameters={"optimizer.lr": node})


METRIC = {"name": "val/accuracy", "goal": "maximize"}
WRONG = [
    (sweep(paramaters={}), "no key 'paramaters' in a sweep file; did you mean 'parameters'?"),
    (sweep(method="gird"), "method: gird is not one of grid, random, bayes; did you mean 'grid'?"),
    (sweep(method="custom"), "method: custom is W&B's but not supported here"),
    (sweep(method=None), "method is missing"),
    (sweep(program=None), "program is missing"),
    (
        sweep(program="src/trian.py"),
        "src/trian.py does not exist here; did you mean 'src/train.py'?",
    ),
    (sweep(command=None), "command is missing; add command: [${env}, ${interpreter}"),
    (sweep(command=[*COMMAND[:3], "${args}"]), "Hydra takes key=value, not --key=value"),
    (sweep(command=[*COMMAND, "--multirun"]), "only key=value can follow, not '--multirun'"),
    (sweep(command=[*COMMAND, "seed=1,2"]), "command: seed: Hydra reads 1,2 as several values"),
    (sweep(run_cap=0), "run_cap: 0 must be a whole number of at least 1"),
    (sweep(job="x"), "job is W&B's but not supported here"),
    (sweep(scheduler={}), "scheduler is W&B's but not supported here; W&B Launch is not supported"),
    (
        sweep(metric="val/accuracy"),
        "metric must be a mapping: {name: val/accuracy, goal: maximize}",
    ),
    (sweep(metric={**METRIC, "goal": "max"}), "metric.goal: max is not one of minimize, maximize"),
    (sweep(metric={**METRIC, "target": 0.9}), "metric.target is W&B's but not supported here"),
    (sweep(metric={**METRIC, "impute": "best"}), "metric.impute is W&B's but not supported here"),
    (sweep(method="bayes"), "method: bayes needs a metric"),
    (sweep(early_terminate={"type": "hyperband", "min_iter": 3}), "early_terminate needs a metric"),
    (
        sweep(metric=METRIC, early_terminate={"type": "hyperband", "max_iter": 27}),
        "max_iter needs s",
    ),
    (
        sweep(metric=METRIC, early_terminate={"type": "hyperband"}),
        "give min_iter, or max_iter with s",
    ),
    (
        sweep(metric=METRIC, early_terminate={"type": "hyperband", "min_iter": 3, "ete": 2}),
        "no key 'early_terminate.ete' in a sweep file; did you mean 'eta'?",
    ),
    (sweep(metric=METRIC, early_terminate={"type": "envelope"}), "envelope is W&B's but not"),
    (sweep(parameters={}), "parameters must be a mapping"),
    (sweep(parameters={"seed": [0, 1]}), "seed: write {value: [0, 1]}, or values, or min and max"),
    (sweep(parameters={"+seed": {"value": 0}}), "W&B takes no name '+seed'"),
    (sweep(parameters={"seed": {"value": None}}), 'write "null" in quotes'),
    (sweep(parameters={"note": {"values": ["None"]}}), 'write "null" in quotes'),
    (sweep(parameters={"seed": {"value": {"a": 1}}}), "sweep dotted names, e.g. seed.a"),
    (sweep(parameters={"note": {"value": "a,b"}}), "as several values; for text write \"'a,b'\""),
    (sweep(parameters={"note": {"value": "a=b"}}), "cannot read a=b; for text, write \"'a=b'\""),
    (sweep(parameters={"note": {"value": "f(x)"}}), "cannot read f(x); for text, write \"'f(x)'\""),
    (sweep(parameters={"a": {"value": [1, None]}}), "null in a list"),
    (sweep(parameters={"a": {"min": 0.0, "max": 1.0}}), "a: a grid cannot run through uniform"),
    (
        sweep(parameters={"a": {"parameters": {"b": {"value": 1}}}, "a.b": {"value": 1}}),
        "a.b is given twice, nested and dotted",
    ),
    (swept(min=0, max=1.5), "which W&B refuses: write both as 1.0"),
    (swept(min=2, max=1), "min 2 is not less than max 1"),
    (swept(min="1e-4", max=0.1), "YAML reads 1e-4 as text: write 0.0001"),
    (swept(min=0.1), "give value, values, or min and max"),
    (swept(distribution="log_uniform", min=-3, max=0), "use log_uniform_values"),
    (swept(distribution="beta"), "distribution beta is W&B's but not supported here"),
    (swept(distribution="log_uniform_value"), "did you mean 'log_uniform_values'?"),
    (swept(distribution="log_uniform_values", min=0.0, max=1.0), "must be more than 0"),
    (swept(distribution="normal", min=0.0), "normal has no min; it takes mu, sigma"),
    (swept(distribution="int_uniform", min=1, max=2.5), "must be a whole number for int_uniform"),
    (swept(values=[1, 2], probabilities=[1.0]), "must be a list of 2, as values is"),
    (swept(values=[1, 2], probabilities=[0.5, 0.6]), "add up to 1.1, not to 1"),
    (swept(valeus=[1]), "optimizer.lr: no key 'valeus'; did you mean 'values'?"),
]


@pytest.mark.parametrize(("tree", "answer"), WRONG, ids=[answer[:40] for _, answer in WRONG])
def test_each_wrong_file_is_answered_by_one_line(tree: dict[str, Any], answer: str) -> None:
    with pytest.raises(UserError) as error:
        parse(tree, Path("x.yaml"))
    assert answer in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("method: grid\nmethod: random\n", "in line 2: 'method' is given twice"),
        ("parameters: {a: {value: 1}, a: {value: 2}}\n", "in line 1: 'a' is given twice"),
        ("method: [grid\n", "not YAML in line 2"),
        ("- grid\n", "a sweep file is a mapping"),
        ("", "a sweep file is a mapping"),
    ],
)
def test_unreadable_files(tmp_path: Path, text: str, answer: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"wrong\.yaml: ") as error:
        read(path)
    assert answer in str(error.value)


def test_a_missing_file() -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml: No such file"):
        read("nowhere.yaml")
    with pytest.raises(UserError, match="No such file or directory; did you mean 'nk'"):
        read("nkk")


def test_everything_that_is_honoured(tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(
        """
program: src/train.py
name: a name
description: a text
project: minesweep
entity: somebody
method: random
run_cap: 8
metric: {name: val/loss}
early_terminate: {type: hyperband, max_iter: 27, s: 2, eta: 3, strict: true}
command: ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}", dataset=digits]
parameters:
  study: {value: all}
  seed: {values: [0, 1], probabilities: [0.5, 0.5]}
  optimizer.lr: {distribution: log_uniform_values, min: 1e-4, max: 0.1}
  trainer: {parameters: {batch_size: {min: 1, max: 64}}}
""".replace("1e-4", "1.0e-4")
    )
    found = read(path)
    assert [p.name for p in found.parameters] == [
        "optimizer.lr",
        "seed",
        "study",
        "trainer.batch_size",
    ]
    assert [p.distribution for p in found.parameters] == [
        "log_uniform_values",
        "categorical_w_probabilities",
        "constant",
        "int_uniform",
    ]
    assert found.fixed == ("dataset=digits",)
    assert found.metric is not None
    assert (found.metric.name, found.metric.goal) == ("val/loss", "minimize")
    assert found.early_terminate is not None
    assert found.early_terminate.reached(26) == [3, 9]
    assert "W&B's agent" in found.notes[0]


# The keys of https://docs.wandb.ai/models/sweeps/sweep-config-keys as a JSON schema. (W&B's own
# is not in the wandb package.)
TEXT, NUMBER, INTEGER = {"type": "string"}, {"type": "number"}, {"type": "integer"}
COUNT = {"type": "integer", "minimum": 1}
POSITIVE = {"type": "number", "exclusiveMinimum": 0}
BOUNDS = {"min": NUMBER, "max": NUMBER}
SPREAD = {"mu": NUMBER, "sigma": {"type": "number", "minimum": 0}}


def node(name: str, properties: dict[str, Any], required: list[str], named: bool) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {"distribution": {"const": name}, **properties},
        "required": [*required, *(["distribution"] if named else [])],
    }


WANDB_SCHEMA = {
    "$defs": {
        "parameters": {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_.-]*$"},
            "additionalProperties": {"$ref": "#/$defs/parameter"},
        },
        "parameter": {
            "anyOf": [
                node("constant", {"value": True}, ["value"], False),
                node(
                    "categorical", {"values": {"type": "array", "minItems": 1}}, ["values"], False
                ),
                node(
                    "categorical_w_probabilities",
                    {
                        "values": {"type": "array", "minItems": 1},
                        "probabilities": {
                            "type": "array",
                            "items": {"type": "number", "minimum": 0},
                        },
                    },
                    ["values", "probabilities"],
                    False,
                ),
                node("int_uniform", {"min": INTEGER, "max": INTEGER}, ["min", "max"], False),
                node("uniform", BOUNDS, ["min", "max"], False),
                node("q_uniform", {**BOUNDS, "q": POSITIVE}, ["min", "max"], True),
                node("log_uniform_values", {**BOUNDS, "min": POSITIVE}, ["min", "max"], True),
                node(
                    "q_log_uniform_values",
                    {**BOUNDS, "min": POSITIVE, "q": POSITIVE},
                    ["min", "max"],
                    True,
                ),
                node("normal", SPREAD, [], True),
                node("q_normal", {**SPREAD, "q": POSITIVE}, [], True),
                {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {"parameters": {"$ref": "#/$defs/parameters"}},
                    "required": ["parameters"],
                },
            ]
        },
    },
    "type": "object",
    "required": ["program", "method", "parameters"],
    "additionalProperties": False,
    "properties": {
        "program": TEXT,
        "entity": TEXT,
        "project": TEXT,
        "name": TEXT,
        "description": TEXT,
        "method": {"enum": ["grid", "random", "bayes"]},
        "run_cap": COUNT,
        "command": {"type": "array"},
        "parameters": {"$ref": "#/$defs/parameters"},
        "metric": {
            "type": "object",
            "required": ["name"],
            "additionalProperties": False,
            "properties": {
                "name": {"type": "string"},
                "goal": {"enum": ["minimize", "maximize"]},
                "target": NUMBER,
            },
        },
        "early_terminate": {
            "type": "object",
            "required": ["type"],
            "anyOf": [{"required": ["max_iter", "s"]}, {"required": ["min_iter"]}],
            "additionalProperties": False,
            "properties": {
                "type": {"const": "hyperband"},
                "min_iter": COUNT,
                "max_iter": COUNT,
                "s": COUNT,
                "eta": {"type": "number", "exclusiveMinimum": 1},
                "strict": {"type": "boolean"},
            },
        },
    },
}


@pytest.mark.parametrize("path", sorted(ROOT.glob("sweeps/*.yaml")), ids=lambda path: path.stem)
def test_each_sweep_of_ours_is_valid_for_wandb_and_for_us(path: Path) -> None:
    jsonschema.validate(yaml.safe_load(path.read_text()), WANDB_SCHEMA)
    read(path)


numbers = st.one_of(
    st.integers(-3, 9), st.floats(-2, 4, allow_nan=False), st.sampled_from(["1e-3", True])
)
nodes = st.fixed_dictionaries(
    {},
    optional={
        "distribution": st.sampled_from([*DISTRIBUTIONS, "beta"]),
        "value": st.one_of(numbers, st.none(), st.sampled_from(["a", "a,b"])),
        "values": st.lists(numbers, max_size=3),
        "probabilities": st.sampled_from([[1.0], [0.5, 0.5], [2.0, -1.0]]),
        **dict.fromkeys(("min", "max", "q", "mu", "sigma"), numbers),
    },
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["seed", "a.b", "_c", "9d"]), nodes, max_size=2))
def test_whatever_we_take_wandb_takes(parameters: dict[str, Any]) -> None:
    try:
        read_parameters(parameters, "random")
    except UserError:
        return
    jsonschema.validate(sweep(method="random", parameters=parameters), WANDB_SCHEMA)


values = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=8),
    st.lists(
        st.one_of(st.booleans(), st.integers(-9, 9), st.sampled_from(["a", "b c"])), max_size=3
    ),
)


@settings(deadline=None)
@given(values)
def test_a_value_that_is_taken_reaches_hydra_as_one(value: Any) -> None:
    if isinstance(value, str):
        try:
            check_value("key", value)
        except UserError:
            return
    check_value("key", value)
    override = OverridesParser.create().parse_override(write("key", value))
    assert not override.is_sweep_override()
    if not isinstance(value, str):
        assert override.value() == value


@settings(deadline=None)
@given(values)
def test_a_value_is_written_as_the_agent_writes_it(value: Any) -> None:
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    agent = create_sweep_command_args({"args": {"key": {"value": value}}})
    assert agent["args_no_hyphens"] == [write("key", value)]


class Objective:
    monitor = "val/accuracy"


class Ranking(Objective):
    monitor = "val/roc_auc"


class Declared(Ranking):
    evaluates = ("roc_auc", "f1")


@pytest.mark.parametrize(
    ("objective", "right", "wrong"),
    [
        (Objective, ["val/accuracy", "test/loss", "val/accuracy_best", "lr"], ["val/f1", "acc"]),
        (
            Ranking,
            ["val/roc_auc", "val/roc_auc_best", "val/anything", "test/anything"],
            ["roc_auc"],
        ),
        (
            Declared,
            ["val/f1", "test/f1_best", "samples/backward"],
            ["val/accuracy", "test/anything"],
        ),
    ],
)
def test_the_metric_is_one_that_the_objective_evaluates(
    objective: Any, right: list[str], wrong: list[str]
) -> None:
    for name in right:
        check_metric(parse(sweep(metric={"name": name}), Path("x.yaml")), [objective()])
    for name in wrong:
        with pytest.raises(UserError, match=f"no run logs {name}"):
            check_metric(parse(sweep(metric={"name": name}), Path("x.yaml")), [objective()])
