"""A W&B sweep file -> a checked ``Sweep``.

Read as W&B reads it (https://docs.wandb.ai/models/sweeps/sweep-config-keys). What W&B allows
and this engine does not do is refused by name, because a key that is quietly ignored gives a
sweep other than the one that was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from minesweep.config.overrides import is_group, kinds_of_text
from minesweep.config.places import ENTRIES, SWEEPS, command
from minesweep.errors import UserError
from minesweep.files import write_atomically
from minesweep.sweeps.hyperband import Rule
from minesweep.sweeps.parameters import Parameter, check_override, read_parameters
from minesweep.words import nearest

METHODS = ("grid", "random", "bayes")
GOALS = ("minimize", "maximize")
COMMAND = ("${env}", "${interpreter}", "${program}", "${args_no_hyphens}")
HONOURED = [
    "command",
    "description",
    "early_terminate",
    "entity",
    "method",
    "metric",
    "name",
    "parameters",
    "program",
    "project",
    "run_cap",
]
REFUSED = {
    "apiVersion": "it says nothing here: leave it out",
    "kind": "it says nothing here: leave it out",
    "controller": "a local controller needs a W&B server: leave it out",
    "image_uri": "W&B Launch is not supported: give `program`",
    "job": "W&B Launch is not supported: give `program`",
    "launch": "W&B Launch is not supported: leave it out",
    "prior_runs": "finished trials are found by what they compute: leave it out",
    "scheduler": "W&B Launch is not supported: use --launcher",
}
REFUSED_METRIC = {
    "target": "use run_cap",
    "impute": "failed trials are left out of the search",
    "impute_while_running": "running trials are left out of the search",
}


@dataclass(frozen=True)
class Metric:
    """What a sweep is after: a metric that the runs log, to be made small or large."""

    name: str
    goal: str = "minimize"

    @property
    def sign(self) -> float:
        """1 where more is better, -1 where less is."""
        return 1.0 if self.goal == "maximize" else -1.0


@dataclass(frozen=True)
class Sweep:
    """A sweep file that was found to be right, as far as the file alone can tell.

    Attributes:
        path: The file.
        program: The entry that runs one trial.
        method: ``"grid"``, ``"random"`` or ``"bayes"``.
        parameters: In W&B's order, which a grid follows.
        fixed: Overrides that the command adds to every trial.
        notes: What is right, but will surprise.
    """

    path: Path
    program: Path
    method: str
    parameters: tuple[Parameter, ...]
    metric: Metric | None = None
    run_cap: int | None = None
    early_terminate: Rule | None = None
    fixed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def started(self) -> list[str]:
        """The words that a person starts the program with."""
        if self.program == ENTRIES / "train.py":
            return command("train").split()
        return ["python", str(self.program)]


def read(path: Path | str) -> Sweep:
    """Reads and checks a sweep file.

    Args:
        path: A file, or the name of one of the project's, such as ``nk``.

    Raises:
        UserError: At the first thing that is wrong, with what to write instead.
    """
    path = _find(Path(path))
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.load(text, Loader=_UniqueKeys)
        _keep_names(tree, yaml.load(text, Loader=yaml.BaseLoader))
    except OSError as error:
        files = [*path.parent.glob("*.yaml"), *(() if path.parent.name else SWEEPS.glob("*.yaml"))]
        near = nearest(path.stem, (file.stem for file in files)) if not path.exists() else ""
        raise UserError(f"{path}: {error.strerror}{near}") from None
    except yaml.MarkedYAMLError as error:
        place = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}: not YAML{place}: {error.problem or error.context}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file") from None
    try:
        return parse(tree, path)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _find(path: Path) -> Path:
    """The file; from another folder ``nk`` and ``sweeps/nk.yaml`` are the project's."""
    own = SWEEPS / f"{path.stem}.yaml"
    named = path == Path(path.stem) or path == Path("sweeps", own.name)
    return own if named and own.is_file() and not path.is_file() else path


def _keep_names(tree: Any, written: Any, prefix: str = "") -> None:
    """Puts names back as they are written, where YAML reads a number, a switch or nothing.

    Args:
        tree: What YAML makes of a file, or of its nested parameters; it is changed.
        written: The same with every value as text.
        prefix: Of the parameters' names.
    """
    nodes = tree.get("parameters") if isinstance(tree, dict) else None
    for key, node in nodes.items() if isinstance(nodes, dict) else ():
        if not isinstance(node, dict):
            continue
        name, texts = f"{prefix}{key}", written["parameters"][str(key)]
        _keep_names(node, texts, f"{name}.")
        if is_group(name) or kinds_of_text(name):
            if "value" in node:
                node["value"] = _as_written(node["value"], texts["value"], name)
            if isinstance(node.get("values"), list):
                pairs = zip(node["values"], texts["values"], strict=True)
                node["values"] = [_as_written(value, text, name) for value, text in pairs]


def _as_written(value: Any, text: Any, name: str) -> Any:
    may_be_null = any(kind.name == "null" for kind in kinds_of_text(name))
    kept = isinstance(value, str | list | dict) or (value is None and may_be_null)
    return value if kept else text


def parse(tree: Any, path: Path) -> Sweep:
    """Checks what a sweep file holds. See ``read``."""
    if not isinstance(tree, dict):
        raise UserError("a sweep file is a mapping with method, program and parameters")
    check_keys(tree, "", HONOURED, REFUSED)
    for key in ("program", "method", "command", "parameters"):
        if tree.get(key) is None:
            hint = f": [{', '.join(COMMAND)}]" if key == "command" else ""
            raise UserError(f"{key} is missing; add {key}{hint}")
    method = _one_of("method", tree["method"], METHODS, {"custom": "it needs a W&B server"})
    metric = _metric(tree.get("metric"))
    rule = _early_terminate(tree.get("early_terminate"))
    for asks, what in ((method == "bayes", "method: bayes"), (rule, "early_terminate")):
        if asks and metric is None:
            example = "{name: val/accuracy, goal: maximize}"
            raise UserError(f"{what} needs a metric: add metric: {example}")
    parameters, notes = read_parameters(tree["parameters"], method)
    return Sweep(
        path=path,
        program=_program(tree["program"], path),
        method=method,
        parameters=parameters,
        metric=metric,
        run_cap=_run_cap(tree.get("run_cap")),
        early_terminate=rule,
        fixed=_command(tree["command"]),
        notes=notes,
    )


def check_keys(
    tree: Mapping[Any, Any], where: str, honoured: list[str], refused: Mapping[str, str]
) -> None:
    """Refuses a key that is not honoured: by name where W&B has it, with a guess where not."""
    for key in tree:
        if key in honoured:
            continue
        if key in refused:
            raise UserError(f"{where}{key} is W&B's but not supported here; {refused[key]}")
        raise UserError(f"no key '{where}{key}' in a sweep file{nearest(str(key), honoured)}")


def _one_of(key: str, value: Any, words: tuple[str, ...], refused: Mapping[str, str]) -> str:
    if value in refused:
        raise UserError(f"{key}: {value} is W&B's but not supported here; {refused[value]}")
    if value not in words:
        guess = nearest(str(value), words)
        raise UserError(f"{key}: {value} is not one of {', '.join(words)}{guess}")
    return str(value)


def _metric(tree: Any) -> Metric | None:
    if tree is None:
        return None
    if not isinstance(tree, dict) or not isinstance(tree.get("name"), str):
        raise UserError("metric must be a mapping: {name: val/accuracy, goal: maximize}")
    check_keys(tree, "metric.", ["name", "goal"], REFUSED_METRIC)
    return Metric(tree["name"], _one_of("metric.goal", tree.get("goal", "minimize"), GOALS, {}))


def _run_cap(value: Any) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise UserError(f"run_cap: {value} must be a whole number of at least 1")
    return value


def _early_terminate(tree: Any) -> Rule | None:
    if tree is None:
        return None
    if not isinstance(tree, dict) or "type" not in tree:
        raise UserError("early_terminate must be a mapping: {type: hyperband, min_iter: 3}")
    kinds = {"envelope": "use hyperband", "stopping": "use hyperband"}
    _one_of("early_terminate.type", tree["type"], ("hyperband",), kinds)
    numbers = {"min_iter": (int,), "max_iter": (int,), "s": (int,), "eta": (int, float)}
    check_keys(tree, "early_terminate.", ["type", *numbers, "strict"], {})
    for key, kinds_of_number in numbers.items():
        value = tree.get(key)
        wrong = not isinstance(value, kinds_of_number) or isinstance(value, bool) or value < 1
        if value is not None and wrong:
            word = "a number" if float in kinds_of_number else "a whole number"
            raise UserError(f"early_terminate.{key}: {value} must be {word} of at least 1")
    if not isinstance(tree.get("strict", False), bool):
        raise UserError(f"early_terminate.strict: {tree['strict']} must be true or false")
    given = {key: value for key, value in tree.items() if value is not None}
    del given["type"]
    return Rule(**given)


def _program(value: Any, path: Path) -> Path:
    """The program, from where the sweep is started, as ``wandb agent`` takes it."""
    if str(value) == "src/train.py" and not Path(value).is_file():
        return ENTRIES / "train.py"
    if not Path(str(value)).is_file():
        near = sorted(Path().glob("*.py")) + sorted(Path("src").glob("*.py"))
        raise UserError(
            f"program: {value} does not exist here{nearest(str(value), map(str, near))} "
            f"(it is looked up from the folder where the sweep is started)"
        )
    return Path(str(value))


def _command(value: Any) -> tuple[str, ...]:
    """The overrides that the command adds after the trial's own."""
    words = [str(word) for word in value] if isinstance(value, list) else []
    if tuple(words[: len(COMMAND)]) != COMMAND:
        raise UserError(
            f"command must be [{', '.join(COMMAND)}], and then fixed key=value arguments: "
            "Hydra takes key=value, not --key=value"
        )
    fixed = words[len(COMMAND) :]
    for word in fixed:
        if not re.fullmatch(r"[+~]{0,2}[\w./@-]+=.*", word, re.DOTALL):
            raise UserError(
                f"command: after ${{args_no_hyphens}} only key=value can follow, not '{word}'"
            )
        key, _, text = word.partition("=")
        check_override("command: ", key, text)
    return tuple(fixed)


def keep_report_settings(sweep: Sweep, folder: Path) -> None:
    """Copies the report's settings of a sweep into a study that goes by another name."""
    beside = sweep.path.parent / "report" / f"{sweep.path.stem}.yaml"
    own = folder / "report.yaml"
    if beside.exists() and folder.name != sweep.path.stem and not own.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(own, beside.read_text(encoding="utf-8"))


class _UniqueKeys(yaml.SafeLoader):
    """YAML takes the last of two equal keys without a word; a sweep file must not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value
            if key in seen and key != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"'{key}' is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)
