"""Image files to squares of pixels, in this process or in workers. Imports no torch."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import struct
import sys
import threading
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from minesweep.errors import UserError

CHUNK = 64
"""Files that a worker decodes at a time."""
UNREADABLE = (
    *(OSError, SyntaxError, ValueError, EOFError, OverflowError, struct.error, zlib.error),
    *(zipfile.BadZipFile, Image.DecompressionBombError),
)
"""What Pillow and zipfile raise at a damaged file."""


@dataclass(frozen=True)
class Place:
    """Where images lie: a folder, or a zip archive that is read without unpacking."""

    path: Path

    def read(self, name: str) -> bytes:
        if self.path.is_dir():
            return (self.path / name).read_bytes()
        return _archive(self.path).read(name)


@lru_cache(maxsize=4)
def _archive(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def square(content: bytes, side: int) -> np.ndarray:
    """The central square of an image file, resized: ``[3, side, side]`` uint8 RGB.

    Grey, palette, CMYK and 16-bit images become RGB, transparency is dropped, and a photograph
    is turned the way its camera was held.

    Raises:
        One of :data:`UNREADABLE`: This is no whole image.
    """
    with Image.open(io.BytesIO(content)) as image:
        # A JPEG is decoded at an eighth, a quarter or a half where that is large enough.
        image.draft("RGB", (side, side))
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode.startswith("I"):
            deep = np.asarray(image, dtype=np.float64) * (255 / 65535)
            rgb = Image.fromarray(deep.clip(0, 255).astype(np.uint8)).convert("RGB")
        else:
            rgb = image.convert("RGB")
    short = min(rgb.size)
    left, top = (rgb.width - short) / 2, (rgb.height - short) / 2
    box = (left, top, left + short, top + short)
    resized = rgb.resize((side, side), Image.Resampling.BICUBIC, box=box)
    return np.asarray(resized).transpose(2, 0, 1)


def squares(place: Place, names: Sequence[str], side: int) -> list[np.ndarray | str]:
    """:func:`square` of each file; in place of a damaged one, what is wrong with it."""
    found: list[np.ndarray | str] = []
    for name in names:
        try:
            found.append(square(place.read(name), side))
        except UNREADABLE as error:
            found.append(" ".join(str(error).split()) or type(error).__name__)
    return found


class Decoder:
    """Decodes files of one place, with worker processes or without.

    Args:
        workers: How many; 0 decodes in this process. They start at the first use, and end with
            this process, however it ends.
    """

    def __init__(self, place: Place, side: int, workers: int) -> None:
        self.place, self.side, self.workers = place, side, workers
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, names: Sequence[str]) -> list[Future[list[np.ndarray | str]]]:
        """Begins to decode in the workers, in parts of equal size, one for each."""
        if self._pool is None:
            # Not forked: this process may run threads, which a fork would cut off.
            self._pool = ProcessPoolExecutor(
                self.workers, multiprocessing.get_context("spawn"), initializer=_begin
            )
        share = -(-len(names) // self.workers)
        parts = [names[start : start + share] for start in range(0, len(names), share)]
        return [self._pool.submit(squares, self.place, part, self.side) for part in parts]

    def __call__(self, names: Sequence[str]) -> list[np.ndarray | str]:
        """Decodes at once."""
        if not self.workers:
            return squares(self.place, names, self.side)
        return self.results(self.submit(names))

    def results(self, parts: Sequence[Future[list[np.ndarray | str]]]) -> list[np.ndarray | str]:
        """What the workers found.

        Raises:
            UserError: A worker died, for want of memory as a rule.
        """
        try:
            return [result for part in parts for result in part.result()]
        except BrokenProcessPool:
            self._pool = None
            raise UserError(
                "a process that decodes images died, which want of memory does as a rule: "
                f"dataset.workers (now {self.workers}) can be fewer, or 0 for none"
            ) from None

    def all(self, names: Sequence[str], title: str) -> Iterator[np.ndarray | str]:
        """Decodes many files, a chunk for each worker at a time, and shows how far it is."""
        from rich.console import Console
        from rich.progress import track

        step = CHUNK * max(1, self.workers)
        # One step ahead, so that no worker waits for this process.
        chunks = [names[start : start + step] for start in range(0, len(names), step)]
        ahead = self.submit(chunks[0]) if chunks and self.workers else []
        for number, chunk in track(
            list(enumerate(chunks)),
            description=title,
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        ):
            if not self.workers:
                yield from self(chunk)
                continue
            begun, ahead = ahead, []
            if number + 1 < len(chunks):
                ahead = self.submit(chunks[number + 1])
            yield from self.results(begun)

    def close(self) -> None:
        """Ends the workers."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def __del__(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def _begin() -> None:
    """A worker's first act: Ctrl-C is its parent's to handle, and it dies when that dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(0)

    threading.Thread(target=follow, daemon=True).start()
