"""One run from its configuration to its summary: find or make the folder, train, report."""

from __future__ import annotations

import json
import logging
import os
import warnings
from contextlib import closing
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
from minesweep.tracking.tracker import Tracker, replay
from minesweep.tracking.wandb_rules import check_wandb
from minesweep.training import checkpoint
from minesweep.training.display import Display, summary_table
from minesweep.training.folder import RunFolder, now
from minesweep.training.helping import help_first
from minesweep.training.load import as_trained
from minesweep.training.loop import Trainer
from minesweep.training.provenance import PROMISED, peak_memory, provenance, sources
from minesweep.training.signals import Interrupted, Signals

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
    build_fitting(cfg)
    dataset = build(cfg, "dataset")
    with parallel.process_group(cfg.trainer.parallel == "ddp"):
        return _lead(cfg, dataset) if parallel.is_first() else _follow(cfg, dataset)


def _lead(cfg: DictConfig, dataset: Any) -> dict[str, Any]:
    folder = RunFolder(run_folder(cfg))
    with folder.lock():
        if cfg.resume == "never":
            moved = folder.move_aside()
            if moved and cfg.trainer.progress:
                print(f"moved the earlier run to {moved}")
        elif folder.summary is not None:
            return parallel.broadcast_from_first(_report_finished(cfg, folder, folder.summary))
        if cfg.resume == "must" and not checkpoint.steps(folder.checkpoints):
            raise UserError(f"resume=must, but {folder.checkpoints} holds no checkpoint")
        parallel.broadcast_from_first(None)
        device = choose_device(cfg.trainer.device)
        torch.set_num_threads(cfg.trainer.threads or DEFAULT_THREADS)
        with closing(load_data(cfg, dataset, device)) as data:
            return _train(cfg, data, folder, device)


def _follow(cfg: DictConfig, dataset: Any) -> dict[str, Any]:
    finished = parallel.broadcast_from_first(None)
    if finished is not None:
        return finished
    torch.set_num_threads(cfg.trainer.threads or DEFAULT_THREADS)
    with closing(load_data(cfg, dataset, choose_device(cfg.trainer.device))) as data:
        return help_first(cfg, data)


def _train(cfg: DictConfig, data: Data, folder: RunFolder, device: torch.device) -> dict[str, Any]:
    trainer = Trainer(cfg, data, folder)
    folder.prepare(cfg)
    state = checkpoint.last_good(folder.checkpoints)
    facts = provenance(device)
    if state is not None:
        _warn_of_changes(folder.status, facts)
        trainer.load(state)
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
        **facts,
    )
    offsets = state["offsets"] if state else (0, 0, 0)
    tracker = Tracker(cfg, folder.path, trainer.step, offsets, state["elapsed"] if state else 0.0)
    display = Display(folder.path.name, trainer.steps, trainer.step, cfg.trainer.progress)
    summary, exit_code = None, 1
    try:
        with Signals() as signals:
            trainer.fit(tracker, display, signals)
        summary = parallel.broadcast_from_first(trainer.summary())
        write_atomically(folder.path / "summary.json", json.dumps(summary, indent=1) + "\n")
        for old in checkpoint.steps(folder.checkpoints)[:-1]:
            old.unlink()
        folder.set_status(
            state="finished",
            step=trainer.step,
            seconds=tracker.elapsed,
            peak_memory_mib=peak_memory(device),
        )
        exit_code = 0
    except Interrupted as signal:
        exit_code = int(str(signal.code))
        folder.set_status(state="interrupted", reason=f"signal {exit_code - 128}")
        display.say(f"interrupted at step {trainer.step}; the same command goes on from there")
        raise
    except BaseException as error:
        folder.set_status(state="failed", reason=f"{type(error).__name__}: {error}")
        raise
    finally:
        tracker.finish(summary, exit_code, data)
    summary_table(folder.path.name, summary, folder.path, cfg.trainer.progress)
    return summary


def _report_finished(cfg: DictConfig, folder: RunFolder, summary: dict[str, Any]) -> dict[str, Any]:
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
    return summary


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
    """Loads the data, or takes it from the run before in this process (a sweep loads once)."""
    data_dir = Path(cfg.paths.data_dir).expanduser()
    key = json.dumps([plain(cfg)["dataset"], str(data_dir.resolve()), str(device)], sort_keys=True)
    if key not in _loaded:
        data = checked(dataset.load(data_dir)).to(device)
        log.info("%s", data.describe())
        _loaded.clear()
        _loaded[key] = data
    return as_trained(cfg, _loaded[key])
