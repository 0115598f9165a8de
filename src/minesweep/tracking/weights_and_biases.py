"""Weights & Biases as a sink: online, or offline for a later ``wandb sync``."""

from __future__ import annotations

import os
import signal
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from minesweep.config.identity import batch_and_selected, choice, plain, run_name
from minesweep.datasets.base import Data
from minesweep.tracking.journal import Histogram, Row
from minesweep.tracking.wandb_rules import group, tags
from minesweep.tracking.wandb_run import WandbRun

MOST_STEPS = 5
"""Steps at most whose mined examples are sent: each takes as many pictures as logger.mined says."""

PREEMPTED = (128 + signal.SIGUSR1, 128 + signal.SIGUSR2)
"""Exit statuses after which W&B gives a sweep's trial to an agent again."""


class WeightsAndBiases:
    """Sends rows to one W&B run, whose id is kept in the run's folder and resumed with it.

    ``wandb.config`` holds the whole tree under the one key ``cfg`` and a few plain aliases: a
    sweep over the group ``miner`` would overwrite a bare ``miner`` node with its choice.

    Nothing that W&B does stops or delays the training. All calls after the start are made on
    another thread. :meth:`finish` waits ``logger.wandb.finish_timeout`` seconds at most, and warns
    once if W&B did not take everything.
    """

    def __init__(self, cfg: DictConfig, folder: Path, step: int = 0) -> None:
        import wandb

        self._wandb = wandb
        n, k = batch_and_selected(cfg)
        arguments = {
            "project": cfg.logger.wandb.project,
            "entity": cfg.logger.wandb.entity,
            "name": os.environ.get("WANDB_NAME") or run_name(cfg),
            "group": group(cfg),
            "tags": tags(cfg),
            "job_type": "train",
            "config": {
                "cfg": plain(cfg),
                "study": cfg.study,
                "miner_name": choice(cfg, "miner"),
                "n": n,
                "k": k,
                "seed": cfg.seed,
            },
        }
        limit = float(cfg.logger.wandb.finish_timeout)
        # An agent names the run it wants; otherwise the folder's own run goes on.
        self._to = WandbRun(folder, limit, arguments, os.environ.get("WANDB_RUN_ID", ""))
        self.id = self._to.id
        # Rows up to here are with W&B already; it would refuse them with a warning each.
        self._last, run = step, self._to.run
        self._known = max(run.starting_step, 0) if step and run is not None else 0
        self._mined: tuple[list[Row], Data] | None = None

    def log(self, row: Row) -> None:
        self._last = row["step"]
        if self._last >= self._known:
            self._to.put(partial(self._log, row))

    def _log(self, row: Row) -> None:
        values = {name: self._convert(value) for name, value in row.items() if name != "step"}
        self._to.run.log(values, step=row["step"])

    def showcase(self, records: list[Row], data: Data) -> None:
        """Sends what was mined at some of the steps as one table, with pictures or texts.

        Args:
            records: Lines of ``mined.jsonl``.
            data: The data that their rows refer to.
        """
        self._mined = (records, data)

    def finish(self, summary: Row | None, exit_code: int) -> None:
        """Closes the W&B run within the time limit; warns if W&B did not take everything."""
        if exit_code in PREEMPTED and self._to.run is not None:
            self._to.put(self._to.run.mark_preempting)
        self._to.close(
            summary, exit_code, partial(self._log_mined, *self._mined) if self._mined else None
        )
        if self._to.unsent:
            warnings.warn(
                f"W&B did not take all of this run ({self._to.unsent}). "
                f"The run's own record is whole. Send it later: {self._to.sync}",
                stacklevel=2,
            )

    def _log_mined(self, records: list[Row], data: Data) -> None:
        from minesweep.datasets.show import shown

        records = records[:: -(-len(records) // MOST_STEPS)] if records else []
        rows = {row for r in records for held in r["rows"].values() for row in held if row >= 0}
        if not rows:
            return
        order = torch.tensor(sorted(rows), device=data.train.device)
        known = dict(zip(sorted(rows), shown(data.train, order), strict=True))
        roles, names = list(records[0]["rows"]), list(records[0]["values"])
        table = self._wandb.Table(columns=["step", *roles, *(f"{r} row" for r in roles), *names])
        for record in records:
            for place in range(len(record["values"]["score"])):
                held = {role: record["rows"][role][place] for role in roles}
                parts = {role: column[place] for role, column in record["parts"].items()}
                pictures = [self._picture(known.get(held[r]), parts.get(r)) for r in roles]
                values = [record["values"][name][place] for name in names]
                table.add_data(record["step"], *pictures, *held.values(), *values)
        # Beside the last row, which W&B keeps open until the next.
        self._to.run.log({"mined": table}, step=self._last)

    def _picture(self, example: Any, part: int | None) -> Any:
        if example is None:
            return None
        example = example[0] if part is None else example[part]
        if isinstance(example, str):
            return example
        return self._wandb.Image(example.squeeze(2) if example.shape[2] == 1 else example)

    def _convert(self, value: Any) -> Any:
        if isinstance(value, Histogram):
            return self._wandb.Histogram(
                np_histogram=(np.array(value.counts), np.array(value.edges))
            )
        return value
