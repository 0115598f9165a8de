"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import time
from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file so that at any moment either the old or the new content is there."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}.part")
    with part.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
