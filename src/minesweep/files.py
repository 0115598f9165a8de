"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

PART = ".part"

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system answers where a file cannot grow: disk, quota or size limit."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file so that at any moment either the old or the new content is there.

    Raises:
        OSError: It cannot be written, e.g. because the disk is full; the old content stays.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}{PART}")
    try:
        with part.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise


def overwrite(path: Path, content: str) -> None:
    """Writes a file over itself, where the disk has no room for a second copy."""
    with path.open("r+b") as file:
        file.write(content.encode())
        file.truncate()


def remove_parts(folder: Path) -> None:
    """Removes what a kill in the middle of :func:`write_atomically` left in a folder."""
    for part in folder.glob(f".*{PART}"):
        part.unlink(missing_ok=True)
