"""A folder of runs as tidy tables: one row a finished run, their curves, and what is amiss.

Reads ``config.yaml``, ``status.json``, ``summary.json`` and ``journal.jsonl`` of each run.
Nothing is averaged here.
"""

from __future__ import annotations

import sys
from array import array
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from minesweep.config.identity import NEUTRAL, PIXELS, choice
from minesweep.errors import UserError
from minesweep.reporting.read.provenance import differences, provenance
from minesweep.sizes import chosen_k
from minesweep.tracking import reading as files
from minesweep.tracking.reading import UnreadableError, flatten, number
from minesweep.words import nearest

DERIVED = ("miner", "n", "k")
"""Columns for ``miner._target_``, ``trainer.batch_size``, and ``miner.k`` or ``miner.ratio``."""
IGNORED = (*NEUTRAL, "seed", "logger")
REPRESENTED = ("miner._target_", "miner.name", "trainer.batch_size", "miner.k", "miner.ratio")
EQUAL_COST = "trainer.equal_cost"
"""A number of steps that follows from the arm. Whether there is one tells arms apart."""


Histogram = tuple[np.ndarray, float, float]
"""Counts ``[bins]``, the left edge of the first bin and the right edge of the last."""


@dataclass(frozen=True)
class Study:
    """The runs in a folder.

    Attributes:
        folder: The study's folder.
        runs: One row a finished run: ``run``, ``seed``, ``miner``, ``n``, ``k``, the columns of
            ``keys``, and its summary's metrics.
        failed: One row a run that failed and is not in ``runs``: ``run``, ``seed`` and ``keys``.
        keys: The columns in which finished runs differ, the seed apart.
        metrics: The columns that hold metrics.
        curves: Long table ``run``, ``step``, ``metric``, ``value`` of the finished runs.
        histograms: By run, then metric, then step.
        problems: One row a run that is not, or not wholly, in the tables: ``run``, ``kind``
            (``unfinished``, ``failed``, ``half-written``, ``unreadable``, ``duplicate`` or
            ``damaged journal``, the only one whose run still counts) and ``detail``, one line.
        warnings: Where versions, sources, device or data differ within the study.
        provenance: Distinct values of commit, versions, ... with the number of runs of each.
    """

    folder: Path
    runs: pd.DataFrame
    failed: pd.DataFrame
    keys: list[str]
    metrics: list[str]
    curves: pd.DataFrame
    histograms: dict[str, dict[str, dict[int, Histogram]]]
    problems: pd.DataFrame
    warnings: list[str]
    provenance: dict[str, Counter[str]]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def amiss(self) -> str:
        """How many runs are amiss, by kind: ``2 failed, 1 unfinished``."""
        counts = Counter(self.problems["kind"])
        return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))


class _Run:
    """A run's configuration, and what its journal holds in a tenth of the memory of its rows.

    Raises:
        UnreadableError: The configuration lacks the seed, the miner or the batch size.
    """

    def __init__(self, path: Path, config: dict[str, Any], status: dict[str, Any]) -> None:
        self.name, self.config, self.status = path.name, config, status
        self.flat = flatten(config, path / "config.yaml")
        self.summary: dict[str, float] = {}
        # Step, metric and value of each scalar; the histograms by metric and step.
        self.steps, self.values = array("q"), array("d")
        self.metrics: list[str] = []
        self.histograms: dict[str, dict[int, Histogram]] = defaultdict(dict)
        n, seed = self.flat.get("trainer.batch_size"), self.flat.get("seed")
        if type(n) is not int or type(seed) is not int or not self.chooses("miner"):
            raise UnreadableError("config.yaml lacks seed, miner._target_ or trainer.batch_size")
        miner = choice(config, "miner")
        k, ratio = self.flat.get("miner.k"), self.flat.get("miner.ratio")
        if str(self.flat.get("objective._target_")).startswith(PIXELS):
            # n counts images and k pixels, of which there are more: a share stays what it is.
            selected = ratio if number(k) is None else k
        elif number(k) is None and number(ratio) is None:
            # A miner without k either takes all, or as many as it likes.
            selected = n if miner == "all" else None
        else:
            selected = chosen_k(n, k if number(k) is not None else None, ratio)
        self.derived = {"seed": seed, "miner": miner, "n": n, "k": selected}

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Keeps rows of the journal."""
        for row in rows:
            step = row.pop("step")
            for name, value in row.items():
                if (x := number(value)) is not None:
                    self.steps.append(step)
                    self.metrics.append(sys.intern(name))
                    self.values.append(x)
                elif isinstance(value, dict) and (histogram := _histogram(value)):
                    self.histograms[sys.intern(name)][step] = histogram

    def chooses(self, group: str) -> bool:
        """Whether something with a ``_target_`` was chosen in the group."""
        node = self.config.get(group)
        return isinstance(node, dict) and isinstance(node.get("_target_"), str)

    def value(self, column: str) -> Any:
        """The value in a column of the table: of a group, what was chosen in it."""
        if column in self.derived:
            return self.derived[column]
        if column not in self.flat and self.chooses(column):
            return choice(self.config, column)
        value = self.flat.get(column)
        return "equal cost" if column == EQUAL_COST and value is not None else value


def read_study(folder: Path | str) -> Study:
    """Reads a study.

    Raises:
        UserError: There is no such folder, or no run in it.
    """
    folder = Path(folder).resolve()
    problems: list[tuple[str, str, str]] = []
    read = [run for path in run_folders(folder) if (run := _read_run(path, problems))]
    found = [run for run in read if run.status["state"] == "finished"]
    table, keys, metrics = _table(found)
    table = _one_run_each(table, keys, found, problems)
    kept = set(table["run"])
    found = [run for run in found if run.name in kept]
    statuses = [run.status for run in found]
    made_with = provenance(statuses)
    return Study(
        folder=folder,
        runs=table,
        failed=_failed([run for run in read if run.status["state"] == "failed"], table, keys),
        keys=keys,
        metrics=metrics,
        curves=_curves(found),
        histograms={run.name: run.histograms for run in found},
        problems=pd.DataFrame(sorted(problems), columns=["kind", "run", "detail"]),
        warnings=differences(statuses, table, keys, made_with),
        provenance=made_with,
    )


def run_folders(folder: Path) -> list[Path]:
    """The run folders of a study, by name. Links are not followed.

    Raises:
        UserError: There is no such folder, or no run in it; names the studies where
            ``folder`` holds some.
    """
    if not folder.is_dir():
        siblings = [p.name for p in folder.parent.iterdir()] if folder.parent.is_dir() else []
        raise UserError(f"{folder}: no such folder{nearest(folder.name, siblings)}")
    if runs := [path for path in _below(folder) if _is_run(path)]:
        return runs
    if _is_run(folder):
        raise UserError(f"{folder} is one run; give the study's folder, {folder.parent}")
    studies = [path.name for path in study_folders(folder) if path != folder]
    hint = f"; it holds the studies {', '.join(studies[:20])}: give one" if studies else ""
    raise UserError(f"{folder}: no runs in this folder{hint}")


def study_folders(folder: Path) -> list[Path]:
    """The studies in a folder, by name; the folder itself where it holds no study."""
    below = _below(folder) if folder.is_dir() and not any(map(_is_run, _below(folder))) else []
    return [path for path in below if any(map(_is_run, _below(path)))] or [folder]


def _below(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.is_symlink())


def _is_run(path: Path) -> bool:
    return any((path / name).exists() for name in ("status.json", "config.yaml", "journal.jsonl"))


def _read_run(path: Path, problems: list[tuple[str, str, str]]) -> _Run | None:
    def amiss(kind: str, detail: Any) -> None:
        problems.append((kind, path.name, str(detail)))

    try:
        status = files.read_json(path / "status.json")
    except UnreadableError as error:
        amiss("half-written" if "missing" in str(error) else "unreadable", error)
        return None
    state = status.get("state")
    if state == "failed":
        amiss("failed", status.get("reason") or "no reason given")
    elif state != "finished":
        step, steps = status.get("step", "?"), status.get("max_steps", "?")
        known = {"running": "running, or ended without a word", "interrupted": "interrupted"}
        told = known.get(str(state), f"state {state!r}")
        amiss("unfinished", f"{told}; step {step} of {steps}, {status.get('updated', 'no date')}")
        return None
    try:
        summary = files.read_json(path / "summary.json") if state == "finished" else {}
        run = _Run(path, files.read_yaml(path / "config.yaml"), status)
    except UnreadableError as error:
        if state == "finished":
            amiss("half-written" if "summary" in str(error) else "unreadable", error)
        return None
    if state == "failed":
        return run
    run.summary = {str(key): x for key, v in summary.items() if (x := number(v)) is not None}
    try:
        rows, skipped = files.read_journal(path / "journal.jsonl")
        run.add(rows)
        if skipped:
            amiss("damaged journal", f"{skipped} lines skipped; its summary still counts")
    except UnreadableError as error:
        amiss("damaged journal", f"{error}; its summary still counts")
    return run


def _one_run_each(
    table: pd.DataFrame, keys: list[str], found: list[_Run], problems: list[tuple[str, str, str]]
) -> pd.DataFrame:
    """Keeps one run of each seed and setting: the one changed last, then the last by name.

    Two commands may lead to one computation, such as ``miner.k=64`` and ``miner.ratio=0.5`` of
    128. Both would count as the same seed twice.
    """
    changed = {run.name: (str(run.status.get("updated")), run.name) for run in found}
    ordered = table.loc[table["run"].map(changed).sort_values().index]
    same = ordered.groupby(["seed", *keys], dropna=False, sort=False)["run"]
    newer = same.shift(-1).dropna()
    for index, name in newer.items():
        detail = f"computes the same as {name}, which is newer and counts"
        problems.append(("duplicate", str(table.at[index, "run"]), detail))
    return table.drop(newer.index).reset_index(drop=True)


def _failed(failed: list[_Run], table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The failed runs in the table's columns, without those that another run has replaced."""
    columns = ["seed", *keys]
    done = {tuple(row) for row in table[columns].itertuples(index=False)}
    rows = [(run.name, *(run.value(column) for column in columns)) for run in failed]
    left = [row for row in rows if row[1:] not in done]
    return pd.DataFrame(left, columns=["run", *columns], dtype=object)


def tabulate(configs: Sequence[dict[str, Any]]) -> tuple[pd.DataFrame, list[str]]:
    """The table of runs that are only planned, one row a configuration, and its ``keys``.

    Raises:
        UnreadableError: A configuration lacks the seed, the miner or the batch size.
    """
    table, keys, _ = _table([_Run(Path(str(i)), c, {}) for i, c in enumerate(configs)])
    return table, keys


def _table(found: list[_Run]) -> tuple[pd.DataFrame, list[str], list[str]]:
    columns = {key: values for key, values in _columns(found).items() if len(set(values)) > 1}
    rows = [{"run": run.name, **run.derived} for run in found]
    keys = [key for key in DERIVED if len({row[key] for row in rows}) > 1] + sorted(columns)
    table = pd.DataFrame(rows, columns=["run", "seed", *DERIVED], dtype=object)
    for key, values in columns.items():
        table[key] = pd.Series(values, dtype=object, index=table.index)
    metrics = sorted({name for run in found for name in run.summary} - set(table.columns))
    summaries = {m: [run.summary.get(m, np.nan) for run in found] for m in metrics}
    numbers = pd.DataFrame(summaries, index=table.index, dtype=float)
    return pd.concat([table, numbers], axis=1), keys, metrics


def _columns(found: list[_Run]) -> dict[str, list[Any]]:
    """The config's keys that tell runs apart, by column name, one value a run; None for absent."""
    names = sorted({key for run in found for key in run.flat})
    values = {name: [run.value(name) for run in found] for name in names}
    columns: dict[str, list[Any]] = {}
    for name, column in values.items():
        group, _, leaf = name.partition(".")
        ignored = any(name == key or name.startswith(f"{key}.") for key in IGNORED)
        follows_seed = name.endswith("seed") and column == values["seed"]
        if ignored or name in REPRESENTED or follows_seed:
            continue
        if leaf in ("_target_", "name") and all(run.chooses(group) for run in found):
            columns[group] = _choices(found, group)
        elif not _told_by_choice(found, group, column):
            columns[name] = column
    miners = values.get("miner._target_", [])
    if len(set(miners)) > len({run.derived["miner"] for run in found}):
        columns["miner._target_"] = miners
    return columns


def _choices(found: list[_Run], group: str) -> list[Any]:
    """Each run's choice in a group, by its short name where that tells the choices apart."""
    full = [f"{r.flat[f'{group}._target_']} {r.flat.get(f'{group}.name', '')}" for r in found]
    short = [choice(run.config, group) for run in found]
    return short if len(set(short)) == len(set(full)) else full


def _told_by_choice(found: list[_Run], group: str, column: list[Any]) -> bool:
    """Whether a key differs only because some choices of its group do not have it."""
    targets = [run.flat.get(f"{group}._target_") for run in found]
    held = {*zip(targets, column, strict=True)}
    return len({*column} - {None}) <= 1 and len(held) == len({*targets})


def _curves(found: list[_Run]) -> pd.DataFrame:
    runs = np.repeat(np.arange(len(found)), [len(run.values) for run in found])
    metrics = [name for run in found for name in run.metrics]
    names = pd.Index([run.name for run in found], dtype=object)
    columns = {
        "run": pd.Categorical.from_codes(runs, names),
        "step": np.array([step for run in found for step in run.steps], dtype=np.int64),
        "metric": pd.Categorical(metrics, categories=list(dict.fromkeys(metrics))),
        "value": np.array([x for run in found for x in run.values], dtype=float),
    }
    # A row that was written twice counts once, the last one wins.
    once = pd.DataFrame(columns).drop_duplicates(["run", "metric", "step"], keep="last")
    return once.reset_index(drop=True)


def _histogram(value: dict[str, Any]) -> Histogram | None:
    low, high, counts = number(value.get("low")), number(value.get("high")), value.get("counts")
    if low is None or high is None or high < low or not isinstance(counts, list) or not counts:
        return None
    try:
        held = np.array(counts)
    except (ValueError, OverflowError):
        return None
    if held.ndim != 1 or held.dtype.kind != "i" or held.min() < 0:
        return None
    return held.astype(np.float32), low, high
