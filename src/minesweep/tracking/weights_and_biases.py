"""Weights & Biases: online, or offline for a later ``wandb sync``."""

from __future__ import annotations

import json
import netrc
import os
import secrets
import socket
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlparse

import numpy as np
import torch
from omegaconf import DictConfig

from minesweep.config.identity import batch_and_selected, choice, plain, run_name
from minesweep.datasets.base import Data
from minesweep.tracking.journal import Histogram, Row

MOST_STEPS = 5
"""Of which what was mined is sent: each takes as many pictures as logger.mined says."""


class WeightsAndBiases:
    """Sends rows to one W&B run, whose id is kept in the run's folder and resumed with it.

    ``wandb.config`` holds the whole tree under the one key ``cfg`` and a few plain aliases: a
    sweep over the group ``miner`` would overwrite a bare ``miner`` node with its choice.
    """

    def __init__(self, cfg: DictConfig, folder: Path, step: int = 0) -> None:
        import wandb

        self._wandb = wandb
        # An agent names the run it wants; otherwise the folder's own run goes on.
        run_id = os.environ.get("WANDB_RUN_ID") or _kept_id(folder) or secrets.token_hex(4)
        _keep(folder, {"id": run_id})
        n, k = batch_and_selected(cfg)
        name = run_name(cfg)
        self._run = wandb.init(
            project=cfg.logger.wandb.project,
            entity=cfg.logger.wandb.entity,
            mode=mode(),
            id=run_id,
            resume="allow",
            name=os.environ.get("WANDB_NAME") or name,
            group=os.environ.get("WANDB_RUN_GROUP") or f"{cfg.study}/{name.rsplit('-s', 1)[0]}",
            tags=[choice(cfg, "dataset"), choice(cfg, "model"), *cfg.logger.wandb.tags],
            job_type="train",
            dir=folder,
            config={
                "cfg": plain(cfg),
                "study": cfg.study,
                "miner_name": choice(cfg, "miner"),
                "n": n,
                "k": k,
                "seed": cfg.seed,
            },
            settings=wandb.Settings(init_timeout=20, console="off", silent=True),
        )
        self.id = run_id
        if self._run.url:  # not offline
            _keep(folder, {"id": run_id, "url": self._run.url})
        # Rows up to here are with W&B already; it would refuse them with a warning each.
        self._last = step
        self._known = max(self._run.starting_step, 0) if step else 0

    def log(self, row: Row) -> None:
        self._last = row["step"]
        if self._last < self._known:
            return
        values = {name: self._convert(value) for name, value in row.items() if name != "step"}
        self._run.log(values, step=row["step"])

    def showcase(self, records: list[Row], data: Data) -> None:
        """Logs what was mined at some of the steps as one table, with pictures or texts.

        Args:
            records: Lines of ``mined.jsonl``.
            data: What their rows are of.
        """
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

    def finish(self, summary: Row | None, exit_code: int) -> None:
        if summary:
            self._run.summary.update(summary)
        self._run.finish(exit_code=exit_code)


Mode = Literal["online", "offline", "disabled", "shared"]


def mode() -> Mode:
    """``WANDB_MODE`` if set; else online where a key is configured and the host answers.

    The host is given one second: ``wandb.init`` itself would wait 100 for a missing network.
    """
    chosen = os.environ.get("WANDB_MODE")
    if chosen:
        return cast(Mode, chosen)  # wandb itself tells a wrong word
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
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
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
