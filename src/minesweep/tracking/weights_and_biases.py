"""Weights & Biases: online, or offline for a later ``wandb sync``."""

from __future__ import annotations

import json
import netrc
import os
import secrets
import socket
import time
import warnings
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlparse

import numpy as np
import torch
from omegaconf import DictConfig

from minesweep.config.identity import batch_and_selected, choice, plain, run_name
from minesweep.datasets.base import Data
from minesweep.tracking.background import Background
from minesweep.tracking.journal import Histogram, Row
from minesweep.tracking.wandb_rules import group, tags

MOST_STEPS = 5
"""Steps at most whose mined examples are sent: each takes as many pictures as logger.mined says."""
SHARE_OF_UPLOAD = 0.6
"""The share of the time limit in which W&B itself uploads what is left."""


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
        self._limit = float(cfg.logger.wandb.finish_timeout)
        self._problems: list[str] = []
        # An agent names the run it wants; otherwise the folder's own run goes on.
        self.id = os.environ.get("WANDB_RUN_ID") or _kept_id(folder) or secrets.token_hex(4)
        _keep(folder, {"id": self.id})
        self._run = self._start(cfg, folder)
        if self._run is not None and self._run.url:  # not offline
            _keep(folder, {"id": self.id, "url": self._run.url})
        # Rows up to here are with W&B already; it would refuse them with a warning each.
        self._last = step
        self._known = max(self._run.starting_step, 0) if step and self._run is not None else 0
        self._calls = Background("wandb")
        self._mined: tuple[list[Row], Data] | None = None

    def _start(self, cfg: DictConfig, folder: Path) -> Any:
        """Begins the W&B run: offline if W&B refuses it, and None if that fails as well."""
        wandb, name = self._wandb, run_name(cfg)
        n, k = batch_and_selected(cfg)
        settings = {
            "init_timeout": 20,
            "console": "off",
            "silent": True,
            "finish_timeout": self._limit * SHARE_OF_UPLOAD,
            "finish_timeout_raises": True,
        }
        known = wandb.Settings.model_fields  # older versions have no limit of their own
        arguments = {
            "project": cfg.logger.wandb.project,
            "entity": cfg.logger.wandb.entity,
            "id": self.id,
            "resume": "allow",
            "name": os.environ.get("WANDB_NAME") or name,
            "group": group(cfg),
            "tags": tags(cfg),
            "job_type": "train",
            "dir": folder,
            "config": {
                "cfg": plain(cfg),
                "study": cfg.study,
                "miner_name": choice(cfg, "miner"),
                "n": n,
                "k": k,
                "seed": cfg.seed,
            },
            "settings": wandb.Settings(**{k: v for k, v in settings.items() if k in known}),
        }
        for way in (mode(), "offline"):
            try:
                wandb.setup()
                # What W&B has to say goes into one warning at the end.
                wandb.termsetup(wandb.Settings(silent=True), _Notes(self._problems))
                return wandb.init(mode=way, **arguments)
            except Exception as error:
                self._problems.append(f"{type(error).__name__}: {error}")
        return None

    def log(self, row: Row) -> None:
        self._last = row["step"]
        if self._last >= self._known:
            self._calls.put(partial(self._log, row))

    def _log(self, row: Row) -> None:
        values = {name: self._convert(value) for name, value in row.items() if name != "step"}
        self._run.log(values, step=row["step"])

    def showcase(self, records: list[Row], data: Data) -> None:
        """Sends what was mined at some of the steps as one table, with pictures or texts.

        Args:
            records: Lines of ``mined.jsonl``.
            data: The data that their rows refer to.
        """
        self._mined = (records, data)

    def finish(self, summary: Row | None, exit_code: int) -> None:
        """Closes the W&B run within the time limit; warns if W&B did not take everything."""
        began = time.monotonic()
        if self._run is not None:
            if summary:
                self._calls.put(partial(self._run.summary.update, summary))
            if self._mined:
                self._calls.put(partial(self._log_mined, *self._mined))
            self._calls.close(self._limit * (1 - SHARE_OF_UPLOAD) / 2)
            closing = Background("wandb-finish")
            closing.put(partial(self._run.finish, exit_code=exit_code))
            answered = closing.close(began + self._limit - time.monotonic())
            if not answered or not isinstance(closing.error, TimeoutError | None):
                end_service(self._wandb)
            self._judge(answered, closing.error)
        self._wandb.termsetup(self._wandb.Settings(), None)
        if self._problems:
            send = f"wandb sync {Path(self._run.dir).parent}" if self._run else "wandb sync"
            warnings.warn(
                f"W&B did not take all of this run ({' '.join(self._problems[0].split())[:200]}). "
                f"The run's own record is whole. Send it later: {send}",
                stacklevel=2,
            )

    def _judge(self, answered: bool, error: Exception | None) -> None:
        """Adds to the problems what went wrong at the end."""
        if self._calls.error is not None:
            self._problems.append(f"{type(self._calls.error).__name__}: {self._calls.error}")
        if not answered or isinstance(error, TimeoutError):
            self._problems.insert(0, f"no answer within {self._limit:g} seconds")
        elif error is not None:
            self._problems.append(f"{type(error).__name__}: {error}")

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
        self._run.log({"mined": table}, step=self._last)

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


class _Notes:
    """Takes what W&B would print; keeps what says that data did not arrive."""

    def __init__(self, problems: list[str]) -> None:
        self._problems = problems

    def info(self, text: str) -> None:
        """Progress is of no interest."""

    def warning(self, text: str) -> None:
        if "wandb sync" in text:
            self._problems.append(text.rpartition("WARNING ")[2].partition(". ")[0])

    error = warning


def end_service(wandb: Any) -> None:
    """Ends a service process that hangs or has died, for which Python would wait at its end."""
    with suppress(Exception):  # W&B has no public way to do this
        service = wandb.sdk.wandb_setup.singleton()._connection._proc._process
        service.kill()
        service.wait()

    def forget() -> None:
        with suppress(SystemExit):  # with the exit status of the service
            wandb.teardown()

    teardown = Background("wandb-teardown")
    teardown.put(forget)
    teardown.close(5)


Mode = Literal["online", "offline", "disabled", "shared"]


def mode() -> Mode:
    """``WANDB_MODE`` if set; else online where a key is configured and the host answers.

    The host is given one second: ``wandb.init`` itself would wait 100 for a missing network.
    """
    chosen = os.environ.get("WANDB_MODE")
    if chosen:
        return cast(Mode, chosen)  # wandb_rules tells a wrong word
    host = urlparse(os.environ.get("WANDB_BASE_URL") or _default_host())
    if host.hostname and _has_key(host.hostname) and _answers(host.hostname, host.port or 443):
        return "online"
    return "offline"


def _default_host() -> str:
    import wandb

    return wandb.setup().settings.base_url


def _has_key(host: str) -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        return netrc.netrc(str(path)).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _keep(folder: Path, facts: dict[str, str]) -> None:
    (folder / "wandb.json").write_text(json.dumps(facts) + "\n")


def _kept_id(folder: Path) -> str | None:
    try:
        return json.loads((folder / "wandb.json").read_text())["id"]
    except (OSError, ValueError, KeyError):
        return None
