"""What the W&B tests share: the `wandb` command run to its end, and a sweep registered."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from wandb_server import WandbServer

COMMAND = ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"]
"""How the project's sweep files call their program."""


def wandb(
    server: WandbServer,
    folder: Path,
    *arguments: str,
    python: str = sys.executable,
    timeout: float = 180,
) -> subprocess.CompletedProcess[str]:
    """Run `wandb <arguments>` in `folder` to its end; its output is in `stdout`."""
    return subprocess.run(
        server.command(*arguments, python=python),
        cwd=folder,
        env=server.env(python),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )


def register(
    server: WandbServer, folder: Path, config: Mapping[str, Any], python: str = sys.executable
) -> str:
    """`wandb sweep` a configuration; returns what its last line says to call the agent with."""
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump({"method": "grid", "command": COMMAND, **config}))
    done = wandb(server, folder, "sweep", file.name, python=python)
    assert done.returncode == 0, done.stdout
    found = re.search(r"wandb agent (\S+)", done.stdout)
    assert found, done.stdout
    return found[1]
