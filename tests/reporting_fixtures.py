"""Synthetic run folders, as the trainer writes them, with known numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

VERSIONS = {"minesweep": "0.1.0", "torch": "2.13.0", "python": "3.11.9"}
TARGETS = {
    "ohem": "minesweep.miners.ohem.Ohem",
    "random_k": "minesweep.miners.random_k.RandomK",
    "all": "minesweep.miners.all.All",
}


def config(miner: str = "ohem", n: int = 512, k: int | None = 384, seed: int = 0, **more: Any):
    """A resolved configuration; ``more`` has dotted keys with ``__`` for the dot."""
    tree: dict[str, Any] = {
        "seed": seed,
        "study": "nk",
        "resume": "auto",
        "ckpt_path": None,
        "paths": {"data_dir": "data", "runs_dir": f"runs{seed}"},
        "dataset": {"_target_": "minesweep.datasets.mnist.Mnist", "label_noise": 0.0},
        "model": {"_target_": "minesweep.models.mlp.MLP", "hidden": [1024]},
        "objective": {"_target_": "minesweep.objectives.l2.L2", "reduction": "sum"},
        "miner": {"_target_": TARGETS[miner]},
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 1e-4},
        "trainer": {
            "batch_size": n,
            "max_steps": 100,
            "device": "cpu",
            "threads": seed + 1,
        },
        "logger": {"wandb": None, "every": 10},
    }
    if miner != "all":
        tree["miner"] |= {
            "k": k,
            "ratio": 0.75,
            "start": 0.0,
            "end": 1.0,
            "interrupt": 0,
        }
    if miner == "ohem":
        tree["miner"]["skip_hardest"] = 0.0
    for key, value in more.items():
        *parents, leaf = key.split("__")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree


def write_run(
    study: Path,
    tree: dict[str, Any],
    accuracy: float = 0.9,
    *,
    name: str | None = None,
    state: str = "finished",
    reason: str | None = None,
    steps: int = 100,
    every: int = 10,
    metrics: dict[str, float] | None = None,
    **status: Any,
) -> Path:
    """Writes a run whose test accuracy is ``accuracy`` and whose validation accuracy climbs
    linearly from 0 to it over the steps."""
    miner, n = tree["miner"], tree["trainer"]["batch_size"]
    k = miner.get("k") or n
    word = miner["_target_"].rsplit(".", 2)[-2]
    digest = f"{abs(hash(json.dumps(tree, sort_keys=True))) % 16**8:08x}"
    folder = study / (name or f"{word}-n{n}-k{k}-s{tree['seed']}-{digest}")
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    told = {
        "state": state,
        "reason": reason,
        "step": steps,
        "max_steps": 100,
        "identity": digest * 8,
        "name": folder.name,
        "started": "2026-11-22T10:00:00+00:00",
        "updated": "2026-11-22T10:01:00+00:00",
        "seconds": 60.0,
        "versions": VERSIONS,
        "commit": "0123abc",
        "sources": "feed",
        "device": "cpu",
        "threads": 1,
        "data": "beef",
    }
    (folder / "status.json").write_text(json.dumps(told | status))
    rows = []
    for step in range(every, steps + 1, every):
        row: dict[str, Any] = {
            "step": step,
            "train/loss_batch": 2.0 / step,
            "train/loss_selected": 3.0 / step,
            "samples/backward": k * step,
            "val/accuracy": accuracy * step / steps,
        }
        if step % (2 * every) == 0:
            row["train/loss_batch_histogram"] = histogram(n)
            row["train/loss_selected_histogram"] = histogram(k)
        rows.append(json.dumps(row))
    (folder / "journal.jsonl").write_text("\n".join(rows) + "\n")
    if state == "finished":
        summary = {
            "step": steps,
            "test/accuracy": accuracy,
            "test/accuracy_best": accuracy + 0.001,
            "test/loss": 1 - accuracy,
            "val/accuracy": accuracy,
            "samples/backward": k * steps,
            "train/accuracy_running": accuracy / 2,
        }
        (folder / "summary.json").write_text(json.dumps(summary | (metrics or {})))
    return folder


def histogram(total: int) -> dict[str, Any]:
    counts = [0] * 64
    counts[0], counts[20], counts[63] = total // 2, total - total // 2 - 1, 1
    return {"counts": counts, "low": 0.0, "high": 3.2}


SEEDS = range(5)
NOISE = np.random.default_rng(7).normal(0, 0.003, size=(8, 8))


def ohem_study(folder: Path, effects: dict[int, float], seeds=SEEDS, n: int = 1024) -> Path:
    """ohem better than random_k by ``effects[k]``, up to a little noise, on each seed."""
    for seed in seeds:
        base = 0.95 + NOISE[0, seed]
        write_run(folder, config("all", n, None, seed), base + 0.01)
        for row, (k, effect) in enumerate(effects.items(), start=1):
            write_run(folder, config("random_k", n, k, seed), base)
            noise = 0.1 * NOISE[row, seed]
            write_run(folder, config("ohem", n, k, seed), base + effect + noise)
    return folder
