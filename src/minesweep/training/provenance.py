"""What a result depends on besides its configuration: versions, sources, commit, machine."""

from __future__ import annotations

import hashlib
import platform
import resource
import subprocess
import sys
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from minesweep import parallel

PACKAGES = ("minesweep", "torch", "numpy", "timm", "faiss-cpu", "faiss-gpu", "wandb", "hydra-core")
SOURCES = Path(__file__).resolve().parents[1]
PROMISED = ("versions", "device", "threads", "processes")
"""Runs are equal to the bit only where these are the same."""


def provenance(device: torch.device) -> dict[str, Any]:
    """What ``status.json`` records."""
    return {
        "versions": versions(),
        "commit": commit(),
        "sources": sources(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "processes": parallel.processes(),
    }


def peak_memory(device: torch.device) -> int:
    """The largest memory in use, in MiB: of the GPU, or of this process since it began."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) // 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB on Linux


@lru_cache
def versions() -> dict[str, str]:
    """The versions of Python and of the packages that a result can depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@lru_cache
def commit() -> str | None:
    """The commit of the working tree, with ``+`` if sources differ; None outside git."""
    try:
        head = _git("rev-parse", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--", str(SOURCES)) else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(SOURCES), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@lru_cache
def sources() -> str:
    """A digest of the package's Python files."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*.py")):
        digest.update(str(path.relative_to(SOURCES)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
