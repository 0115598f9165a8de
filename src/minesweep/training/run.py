"""One run from its configuration to its summary: find or make the folder, train, report."""

from __future__ import annotations

import json
import logging
import operator
import os
import warnings
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from minesweep import parallel
from minesweep.config.build import build, build_fitting
from minesweep.config.checks import check
from minesweep.config.equal_cost import with_equal_cost
from minesweep.config.identity import identity, plain, run_folder, run_name
from minesweep.datasets.base import Data
from minesweep.datasets.check import checked
from minesweep.errors import UserError
from minesweep.files import write_atomically
from minesweep.seeding import seed_globals
from minesweep.tracking.tracker import FILES, NoTracker, Tracker, replay
from minesweep.tracking.wandb_rules import check_wandb
from minesweep.training import checkpoint
from minesweep.training.display import Display, summary_table
from minesweep.training.folder import RunFolder, now
from minesweep.training.load import as_trained
from minesweep.training.loop import Trainer
from minesweep.training.provenance import PROMISED, peak_memory, provenance, sources
from minesweep.training.signals import Interrupted, Signals, exit_status

log = logging.getLogger(__name__)

DEFAULT_THREADS = torch.get_num_threads()


def run(cfg: DictConfig) -> dict[str, Any]:
    """Trains the run that ``cfg`` names, goes on with it, or finds it finished.

    Returns:
        The summary: final metrics by name.

    Raises:
        UserError: Something that the user can mend.
        Interrupted: SIGINT or SIGTERM; a checkpoint was written.
    """
    cfg = with_equal_cost(cfg)
    check(cfg)
    check_wandb(cfg)
    torch.set_num_threads(cfg.trainer.threads or DEFAULT_THREADS)
    seed_globals(0, "data")
    build_fitting(cfg)
    dataset = build(cfg, "dataset")
    with parallel.process_group(cfg.trainer.parallel == "ddp"):
        return _lead(cfg, dataset) if parallel.is_first() else _follow(cfg, dataset)


def _lead(cfg: DictConfig, dataset: Any) -> dict[str, Any]:
    """What the first process does: all that is written, and its share of the training."""
    folder = RunFolder(run_folder(cfg), cfg.trainer.stale_after)
    with ExitStack() as held:
        try:
            held.enter_context(folder.lock())
            held.enter_context(folder.failures_recorded())
            begun = _begin(cfg, dataset, folder)
        except Exception as error:
            parallel.broadcast_from_first(error)
            raise
        if isinstance(begun, Data):
            parallel.broadcast_from_first(None)
            with closing(begun):
                return _train(cfg, begun, folder)
        return parallel.broadcast_from_first(begun)


def _follow(cfg: DictConfig, dataset: Any) -> dict[str, Any]:
    """What the other processes do: they train from the checkpoint that the first goes on from."""
    begun = parallel.broadcast_from_first(None)
    if isinstance(begun, Exception):
        raise begun
    if begun is not None:
        return begun
    folder = RunFolder(run_folder(cfg))
    with closing(load_data(cfg, dataset, choose_device(cfg.trainer.device))) as data:
        trainer = Trainer(cfg, data, folder)
        _resume(trainer, checkpoint.last_good(folder.checkpoints), folder)
        display = Display(folder.path.name, trainer.steps, trainer.step, shown=False)
        with Signals() as signals:
            trainer.fit(NoTracker(), display, signals)
        return parallel.broadcast_from_first(None)


def _begin(cfg: DictConfig, dataset: Any, folder: RunFolder) -> Data | dict[str, Any]:
    """The data to train on, or the summary of a run that is finished.

    Raises:
        UserError: There is no checkpoint and ``resume=must``; or the data is not what the run
            began with.
    """
    if cfg.resume == "never":
        moved = folder.move_aside()
        if moved and cfg.trainer.progress:
            print(f"moved the earlier run to {moved}")
    summary = folder.summary
    if cfg.resume == "must" and summary is None and not checkpoint.steps(folder.checkpoints):
        raise UserError(f"resume=must, but {folder.checkpoints} holds no checkpoint")
    try:
        data = load_data(cfg, dataset, choose_device(cfg.trainer.device))
    except UserError as error:
        if summary is None:
            raise
        warnings.warn(f"{error}; so it is not compared with the run's data", stacklevel=2)
    else:
        if summary is not None or checkpoint.steps(folder.checkpoints):
            _compare_data(folder, data)
        if summary is None:
            return data
    _report_finished(cfg, folder, summary)
    return summary


def _train(cfg: DictConfig, data: Data, folder: RunFolder) -> dict[str, Any]:
    device = data.train.device
    trainer = Trainer(cfg, data, folder)
    folder.prepare(cfg)
    state = checkpoint.last_good(folder.checkpoints)
    facts = provenance(device)
    if state is not None:
        _warn_of_changes(folder.status, facts)
    _resume(trainer, state, folder)
    folder.set_status(
        state="running",
        reason=None,
        identity=identity(cfg),
        name=run_name(cfg),
        step=trainer.step,
        max_steps=trainer.steps,
        monitor=trainer.objective.monitor,
        started=folder.status.get("started", now()),
        pid=os.getpid(),
        data=data.fingerprint(),
        data_described=data.describe(),
        **facts,
    )
    offsets = state["offsets"] if state else (0, 0, 0)
    tracker = Tracker(cfg, folder.path, trainer.step, offsets, state["elapsed"] if state else 0.0)
    display = Display(folder.path.name, trainer.steps, trainer.step, cfg.trainer.progress)
    try:
        with Signals() as signals:
            trainer.fit(tracker, display, signals)
        summary = parallel.broadcast_from_first(trainer.summary())
        folder.check_held()
        write_atomically(folder.path / "summary.json", json.dumps(summary, indent=1) + "\n")
    except BaseException as error:
        if isinstance(error, Interrupted):
            display.say(f"interrupted at step {trainer.step}; the same command goes on from there")
        with suppress(OSError):  # the first error is the one to tell
            tracker.finish(None, exit_status(error))
        raise
    seconds = tracker.elapsed
    tracker.finish(summary, 0, data)
    for old in checkpoint.steps(folder.checkpoints)[:-1]:
        old.unlink()
    folder.set_status(
        state="finished", step=trainer.step, seconds=seconds, peak_memory_mib=peak_memory(device)
    )
    summary_table(folder.path.name, summary, folder.path, cfg.trainer.progress)
    return summary


def _report_finished(cfg: DictConfig, folder: RunFolder, summary: dict[str, Any]) -> None:
    if folder.status.get("sources") != sources():
        warnings.warn(
            f"{folder.path.name} was computed by other sources than these; "
            "resume=never computes it again",
            stacklevel=2,
        )
    if os.environ.get("WANDB_SWEEP_ID") and cfg.logger.wandb:
        replay(cfg, folder.path, summary)
    title = f"{folder.path.name} (finished before; resume=never runs it again)"
    summary_table(title, summary, folder.path, cfg.trainer.progress)


def _compare_data(folder: RunFolder, data: Data) -> None:
    """Stops where the data is not what the run in this folder was trained on so far.

    Raises:
        UserError: It differs.
    """
    status = folder.status
    before, now_is = status.get("data_described"), data.describe()
    # Runs of earlier versions have a fingerprint of another kind, and no description.
    if before is None or status.get("data") == data.fingerprint():
        return
    difference = f"{before} -> {now_is}" if before != now_is else f"{now_is}, of other contents"
    raise UserError(
        f"{folder.path.name} was trained on other data ({difference}): restore the data, or begin "
        "the run anew with resume=never, which keeps the old one beside it"
    )


def _resume(trainer: Trainer, state: dict[str, Any] | None, folder: RunFolder) -> None:
    try:
        trainer.load(state)
        if state is not None:
            # The tracker takes these: the step, and a size for each of its files.
            _step, *sizes = map(operator.index, (state["step"], *state["offsets"]))
            if len(sizes) != len(FILES):
                raise ValueError(f"{len(sizes)} sizes of {len(FILES)} files")
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise UserError(
            f"{folder.checkpoints}: the last checkpoint is not one of this run as it is now "
            f"({lines[-1].strip()}); resume=never moves it aside and starts again"
        ) from error


def _warn_of_changes(status: dict[str, Any], facts: dict[str, Any]) -> None:
    for name in (*PROMISED, "sources"):
        if name in status and status[name] != facts[name]:
            warnings.warn(
                f"{name} changed since the run was left ({status[name]} -> {facts[name]}): "
                "its end may differ in the last bits",
                stacklevel=2,
            )


def choose_device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and parallel.processes() > 1:
        name = f"cuda:{parallel.local_rank()}"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"trainer.device={name}: there are {torch.cuda.device_count()} CUDA devices here; "
            "trainer.device=cpu needs none"
        )
    return device


_loaded: dict[str, Data] = {}


def load_data(cfg: DictConfig, dataset: Any, device: torch.device) -> Data:
    """The data on a device: loaded, or taken from the run before in this process.

    A dataset that draws from the global generators draws the same for each seed: the runs of a
    sweep share the data.
    """
    data_dir = Path(cfg.paths.data_dir).expanduser()
    key = json.dumps([plain(cfg)["dataset"], str(data_dir.resolve()), str(device)], sort_keys=True)
    if key not in _loaded:
        seed_globals(0, "data")
        data = checked(dataset.load(data_dir)).to(device)
        log.info("%s", data.describe())
        _loaded.clear()
        _loaded[key] = data
    return as_trained(cfg, _loaded[key])
