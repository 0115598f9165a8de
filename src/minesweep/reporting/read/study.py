"""A folder of runs as tidy tables: one row a finished run, their curves, and what is amiss.

Reads ``config.yaml``, ``status.json``, ``summary.json`` and ``journal.jsonl`` of each run.
Nothing is averaged here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from minesweep.config.identity import NEUTRAL, choice
from minesweep.errors import UserError
from minesweep.reporting.read.files import (
    UnreadableError,
    flatten,
    number,
    read_journal,
    read_json,
    read_yaml,
)
from minesweep.reporting.read.provenance import differences, provenance
from minesweep.sizes import chosen_k
from minesweep.words import nearest

DERIVED = ("miner", "n", "k")
"""Columns for ``miner._target_``, ``trainer.batch_size``, and ``miner.k`` or ``miner.ratio``."""
IGNORED = (*NEUTRAL, "seed", "logger")
ABSENT = None
EQUAL_COST = "trainer.equal_cost"
"""A number of steps that follows from the arm. Whether there is one tells arms apart."""


@dataclass(frozen=True)
class Problem:
    """A run that is not, or not wholly, in the tables, and why.

    Attributes:
        run: The name of its folder.
        kind: ``unfinished``, ``failed``, ``half-written``, ``unreadable``, ``duplicate`` or
            ``damaged journal`` (the only kind whose run still counts).
        detail: One line.
    """

    run: str
    kind: str
    detail: str


@dataclass(frozen=True)
class Histograms:
    """One metric's histograms of one run: ``counts[i]`` lie from ``low[i]`` to ``high[i]``.

    Attributes:
        steps: ``[m]`` updates done.
        counts: ``[m, bins]``.
        low: ``[m]`` left edge of the first bin.
        high: ``[m]`` right edge of the last bin.
    """

    steps: np.ndarray
    counts: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Study:
    """What a folder of runs holds.

    Attributes:
        folder: The study's folder.
        runs: One row a finished run: ``run``, ``seed``, ``miner``, ``n``, ``k``, the columns of
            ``keys``, and its summary's metrics.
        keys: The columns in which finished runs differ, the seed apart.
        failed: One row a run that failed and is not in ``runs``: ``run``, ``seed`` and ``keys``.
        metrics: The columns that hold metrics.
        curves: Long table ``run``, ``step``, ``metric``, ``value`` of the finished runs.
        histograms: By run, then by metric.
        problems: Every run that is amiss.
        warnings: Where versions, sources, device or data differ within the study.
        provenance: Distinct values of commit, versions, ... with the number of runs of each.
    """

    folder: Path
    runs: pd.DataFrame
    failed: pd.DataFrame
    keys: list[str]
    metrics: list[str]
    curves: pd.DataFrame
    histograms: dict[str, dict[str, Histograms]]
    problems: list[Problem]
    warnings: list[str]
    provenance: dict[str, Counter[str]]

    @property
    def name(self) -> str:
        return self.folder.name


@dataclass
class _Run:
    name: str
    config: dict[str, Any]
    flat: dict[str, Any]
    status: dict[str, Any]
    summary: dict[str, float]
    rows: list[dict[str, Any]] = field(default_factory=list)


def read_study(folder: Path | str) -> Study:
    """Reads a study.

    Raises:
        UserError: There is no such folder, or no run in it.
    """
    folder = Path(folder).resolve()
    problems: list[Problem] = []
    read = [run for path in run_folders(folder) if (run := _read_run(path, problems))]
    found = [run for run in read if run.status["state"] == "finished"]
    table, keys, metrics = _table(found)
    table = _one_run_each(table, keys, found, problems)
    found = [run for run in found if run.name in set(table["run"])]
    failed = _failed([run for run in read if run.status["state"] == "failed"], table, keys)
    curves, histograms = _curves(found)
    statuses = [run.status for run in found]
    made_with = provenance(statuses)
    return Study(
        folder=folder,
        runs=table,
        failed=failed,
        keys=keys,
        metrics=metrics,
        curves=curves,
        histograms=histograms,
        problems=sorted(problems, key=lambda p: (p.kind, p.run)),
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
    below = [p for p in folder.iterdir() if p.is_dir() and not p.is_symlink()]
    runs = sorted(p for p in below if _is_run(p))
    if runs:
        return runs
    if _is_run(folder):
        raise UserError(f"{folder} is one run; give the study's folder, {folder.parent}")
    studies = sorted(p.name for p in below if any(map(_is_run, p.iterdir())))
    hint = f"; it holds the studies {', '.join(studies[:20])}: give one" if studies else ""
    raise UserError(f"{folder}: no runs in this folder{hint}")


def _is_run(path: Path) -> bool:
    return any((path / name).exists() for name in ("status.json", "config.yaml", "journal.jsonl"))


def _read_run(path: Path, problems: list[Problem]) -> _Run | None:
    def amiss(kind: str, detail: Any) -> None:
        problems.append(Problem(path.name, kind, str(detail)))

    try:
        status = read_json(path / "status.json")
    except UnreadableError as error:
        amiss("half-written" if "missing" in str(error) else "unreadable", error)
        return None
    state = status.get("state")
    if state == "failed":
        amiss("failed", status.get("reason") or "no reason given")
    elif state != "finished":
        step, steps = status.get("step", "?"), status.get("max_steps", "?")
        what = {
            "running": "running, or ended without a word",
            "interrupted": "interrupted",
        }
        told = what.get(str(state), f"state {state!r}")
        amiss(
            "unfinished",
            f"{told}; step {step} of {steps}, {status.get('updated', 'no date')}",
        )
        return None
    try:
        summary = read_json(path / "summary.json") if state == "finished" else {}
        config = read_yaml(path / "config.yaml")
        flat = flatten(config, path / "config.yaml")
        numbers = {str(key): x for key, v in summary.items() if (x := number(v)) is not None}
        run = _Run(path.name, config, flat, status, numbers)
        _derived(run)
    except UnreadableError as error:
        if state == "finished":
            amiss("half-written" if "summary" in str(error) else "unreadable", error)
        return None
    if state == "failed":
        return run
    try:
        run.rows, skipped = read_journal(path / "journal.jsonl")
        if skipped:
            amiss("damaged journal", f"{skipped} lines skipped; its summary still counts")
    except UnreadableError as error:
        amiss("damaged journal", f"{error}; its summary still counts")
    return run


def _derived(run: _Run) -> dict[str, Any]:
    """The seed and the columns of ``DERIVED``."""
    flat = run.flat
    n, seed, target = (flat.get(k) for k in ("trainer.batch_size", "seed", "miner._target_"))
    if not isinstance(n, int) or not isinstance(seed, int) or not isinstance(target, str):
        raise UnreadableError("config.yaml lacks seed, miner._target_ or trainer.batch_size")
    miner = _choice(run, "miner")
    k, ratio = flat.get("miner.k"), flat.get("miner.ratio")
    if number(k) is None and number(ratio) is None:
        # A miner without k either takes all, or as many as it likes.
        selected = n if miner == "all" else ABSENT
    else:
        selected = chosen_k(n, k if number(k) is not None else None, ratio)
    return {"seed": seed, "miner": miner, "n": n, "k": selected}


def _one_run_each(
    table: pd.DataFrame, keys: list[str], found: list[_Run], problems: list[Problem]
) -> pd.DataFrame:
    """Keeps one run of each seed and setting: the one changed last, then the last by name.

    Two commands may lead to one computation, such as ``miner.k=64`` and ``miner.ratio=0.5`` of
    128. Both would count as the same seed twice.
    """
    changed = {run.name: str(run.status.get("updated")) for run in found}
    kept: dict[tuple[Any, ...], str] = {}
    settings = table[["seed", *keys]].itertuples(index=False)
    rows = sorted(zip(table["run"], settings, strict=True), key=lambda r: (changed[r[0]], r[0]))
    for name, setting in rows:
        if (older := kept.get(tuple(setting))) is not None:
            detail = f"computes the same as {name}, which is newer and counts"
            problems.append(Problem(older, "duplicate", detail))
        kept[tuple(setting)] = name
    return table[table["run"].isin(set(kept.values()))].reset_index(drop=True)


def _failed(failed: list[_Run], table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The failed runs in the table's columns, without those that another run has replaced."""
    done = {tuple(row) for row in table[["seed", *keys]].itertuples(index=False)}
    rows = []
    for run in failed:
        derived = _derived(run)
        row = {key: derived.get(key, _value(run, key)) for key in ("seed", *keys)}
        if tuple(row.values()) not in done:
            rows.append({"run": run.name, **row})
    return pd.DataFrame(rows, columns=["run", "seed", *keys], dtype=object)


def _value(run: _Run, key: str) -> Any:
    """A run's value in a column of the table: of a group, what was chosen in it."""
    return _choice(run, key) if key not in run.flat and _has_choice(run, key) else run.flat.get(key)


def _ignored(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in IGNORED)


def _table(found: list[_Run]) -> tuple[pd.DataFrame, list[str], list[str]]:
    columns = {key: values for key, values in _columns(found).items() if len(set(values)) > 1}
    rows = [{"run": run.name, **_derived(run)} for run in found]
    keys = [key for key in DERIVED if len({row[key] for row in rows}) > 1] + sorted(columns)
    table = pd.DataFrame(rows, columns=["run", "seed", *DERIVED], dtype=object)
    for key, values in columns.items():
        table[key] = pd.Series(values, dtype=object, index=table.index)
    metrics = sorted({name for run in found for name in run.summary} - set(table.columns))
    numbers = pd.DataFrame(
        {m: [run.summary.get(m, np.nan) for run in found] for m in metrics},
        index=table.index,
        dtype=float,
    )
    return pd.concat([table, numbers], axis=1), keys, metrics


def tabulate(configs: Sequence[dict[str, Any]]) -> tuple[pd.DataFrame, list[str]]:
    """The table of runs that are only planned, one row a configuration, and its ``keys``.

    Raises:
        UnreadableError: A configuration lacks the seed, the miner or the batch size.
    """
    source = Path("config.yaml")
    planned = [
        _Run(str(i), config, flatten(config, source), {}, {}) for i, config in enumerate(configs)
    ]
    table, keys, _ = _table(planned)
    return table, keys


def _columns(found: list[_Run]) -> dict[str, list[Any]]:
    """The config's keys that tell runs apart, by column name, one value a run."""
    names = sorted({key for run in found for key in run.flat if not _ignored(key)})
    values = {name: [run.flat.get(name, ABSENT) for run in found] for name in names}
    represented = {
        "miner._target_",
        "miner.name",
        "trainer.batch_size",
        "miner.k",
        "miner.ratio",
    }
    columns: dict[str, list[Any]] = {}
    seeds = [run.flat["seed"] for run in found]
    for name, column in values.items():
        group, _, leaf = name.partition(".")
        follows_seed = name.endswith("seed") and column == seeds
        if name in represented or follows_seed:
            continue
        if name == EQUAL_COST:
            column = [ABSENT if value is ABSENT else "equal cost" for value in column]
        if leaf in ("_target_", "name") and all(_has_choice(run, group) for run in found):
            columns[group] = _choices(found, group)
        elif not _told_by_choice(found, group, column):
            columns[name] = column
    if len(set(values.get("miner._target_", []))) > len({_derived(r)["miner"] for r in found}):
        columns["miner._target_"] = values["miner._target_"]
    return columns


def _choices(found: list[_Run], group: str) -> list[Any]:
    """What each run chose in a group, by its short name where that tells the choices apart."""
    full = [f"{r.flat[f'{group}._target_']} {r.flat.get(f'{group}.name', '')}" for r in found]
    short = [_choice(run, group) for run in found]
    return short if len(set(short)) == len(set(full)) else full


def _has_choice(run: _Run, group: str) -> bool:
    node = run.config.get(group)
    return isinstance(node, dict) and isinstance(node.get("_target_"), str)


def _choice(run: _Run, group: str) -> str:
    try:
        return choice(run.config, group)  # type: ignore[arg-type]
    except (AttributeError, KeyError, TypeError):
        raise UnreadableError(f"config.yaml: {group} is no group with a _target_") from None


def _told_by_choice(found: list[_Run], group: str, column: list[Any]) -> bool:
    """Whether a key differs only because some choices of its group do not have it."""
    if len({value for value in column if value is not ABSENT}) > 1:
        return False
    by_target = defaultdict(set)
    for run, value in zip(found, column, strict=True):
        by_target[run.flat.get(f"{group}._target_")].add(value)
    return all(len(held) == 1 for held in by_target.values())


def _curves(found: list[_Run]) -> tuple[pd.DataFrame, dict[str, dict[str, Histograms]]]:
    names: dict[str, int] = {}
    parts: list[tuple[int, int, dict[int, float]]] = []
    histograms: dict[str, dict[str, Histograms]] = {}
    for position, run in enumerate(found):
        scalars: dict[str, dict[int, float]] = defaultdict(dict)
        pictures: dict[str, dict[int, tuple[np.ndarray, float, float]]] = defaultdict(dict)
        for row in run.rows:
            step = row["step"]
            for name, value in row.items():
                if name == "step":
                    continue
                # By step: a row that was written twice counts once, the last one wins.
                if (x := number(value)) is not None:
                    scalars[name][step] = x
                elif isinstance(value, dict) and (picture := _histogram(value)):
                    pictures[name][step] = picture
        parts += [(position, names.setdefault(m, len(names)), s) for m, s in scalars.items()]
        histograms[run.name] = {name: _stack(kept) for name, kept in pictures.items()}
        run.rows = []
    sizes = [len(series) for *_, series in parts]
    flat_steps = [step for *_, series in parts for step in series]
    flat_values = [value for *_, series in parts for value in series.values()]
    curves = pd.DataFrame(
        {
            "run": pd.Categorical.from_codes(
                np.repeat([p for p, *_ in parts], sizes).astype(int),
                categories=pd.Index([r.name for r in found], dtype=object),
            ),
            "step": np.array(flat_steps, dtype=np.int64),
            "metric": pd.Categorical.from_codes(
                np.repeat([m for _, m, _ in parts], sizes).astype(int),
                categories=pd.Index(list(names), dtype=object),
            ),
            "value": np.array(flat_values, dtype=float),
        }
    )
    return curves, histograms


def _histogram(value: dict[str, Any]) -> tuple[np.ndarray, float, float] | None:
    low, high, counts = (
        number(value.get("low")),
        number(value.get("high")),
        value.get("counts"),
    )
    if low is None or high is None or high < low or not isinstance(counts, list) or not counts:
        return None
    try:
        held = np.array(counts)
    except (ValueError, OverflowError):
        return None
    if held.ndim != 1 or held.dtype.kind != "i" or held.min() < 0:
        return None
    return held.astype(np.float32), low, high


def _stack(kept: dict[int, tuple[np.ndarray, float, float]]) -> Histograms:
    bins = Counter(len(counts) for counts, *_ in kept.values()).most_common(1)[0][0]
    held = {step: h for step, h in sorted(kept.items()) if len(h[0]) == bins}
    return Histograms(
        steps=np.array(list(held), dtype=np.int64),
        counts=np.stack([counts for counts, *_ in held.values()]),
        low=np.array([low for _, low, _ in held.values()]),
        high=np.array([high for *_, high in held.values()]),
    )
