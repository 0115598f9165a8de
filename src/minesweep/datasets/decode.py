"""Image files to squares of pixels, in this process or in workers. Imports no torch."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import struct
import sys
import threading
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from minesweep.datasets.archive import Archive
from minesweep.errors import UserError

CHUNK = 64
"""Files that a worker decodes at a time."""
UNREADABLE = (
    *(OSError, SyntaxError, ValueError, EOFError, ArithmeticError, struct.error, zlib.error),
    *(zipfile.BadZipFile, LookupError, TypeError, AttributeError, RuntimeError, MemoryError),
)
"""What Pillow and zipfile raise at a damaged file."""
MOST_PIXELS = 500_000_000
"""A larger image is taken for a damaged one, or one that was made to fill the memory."""


@dataclass(frozen=True)
class Place:
    """Where images lie: a folder, or a zip archive that is read without unpacking."""

    path: Path

    @property
    def archive(self) -> Archive | None:
        """The zip; None for a folder."""
        if self.path.is_dir():
            return None
        status = self.path.stat()
        return _archive(self.path, status.st_mtime_ns, status.st_size)

    def read(self, name: str) -> bytes:
        """The content of a file."""
        archive = self.archive
        return archive.read(name) if archive else (self.path / name).read_bytes()

    def size(self, name: str) -> int:
        """Bytes of a file."""
        archive = self.archive
        return archive.members[name].file_size if archive else (self.path / name).stat().st_size


@lru_cache(maxsize=4)
def _archive(path: Path, changed: int, size: int) -> Archive:
    return Archive(path)


def square(content: bytes, side: int) -> np.ndarray:
    """The central square of an image file, resized: ``[3, side, side]`` uint8 RGB.

    Every kind of image becomes what a viewer shows (:func:`as_rgb`), and a photograph is turned
    the way its camera was held.

    Raises:
        One of :data:`UNREADABLE`: This is no whole image, or its values have no known scale.
    """
    # Warnings are of marks in a file that change no pixel.
    quiet = warnings.catch_warnings(action="ignore")
    with quiet, _any_size(), Image.open(io.BytesIO(content)) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are too many")
        # A JPEG is decoded at an eighth, a quarter or a half where that is large enough.
        image.draft("RGB", (side, side))
        _upright(image)
        return central_square(as_rgb(image), side)


def _upright(image: Image.Image) -> None:
    image.load()  # what is damaged in the image itself is damaged
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except UNREADABLE:
        return  # broken marks of the camera; viewers show the image as it lies


def central_square(rgb: Image.Image, side: int) -> np.ndarray:
    """The central square of an RGB image, resized: ``[3, side, side]`` uint8."""
    short = min(rgb.size)
    left, top = (rgb.width - short) / 2, (rgb.height - short) / 2
    box = (left, top, left + short, top + short)
    resized = rgb.resize((side, side), Image.Resampling.BICUBIC, box=box)
    return np.asarray(resized).transpose(2, 0, 1)


@contextmanager
def _any_size() -> Iterator[None]:
    """Lifts Pillow's limit, which lies below what satellites and microscopes give."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def as_rgb(image: Image.Image) -> Image.Image:
    """What a viewer shows of an image, as 8-bit RGB.

    Transparent images lie on white, or on black where white would hide all. Values of 16 bits,
    and whole 32-bit ones up to 65,535, are scaled from that range; those of up to 255 stay;
    floating-point ones in [0, 1] are scaled from that.

    Raises:
        ValueError: Values are negative, not finite, or above 65,535: their scale is unknown.
    """
    if image.mode.startswith(("I", "F")):
        return _from_numbers(image)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        clear = image.convert("RGBA")
        return _on(clear, "white") or _on(clear, "black") or clear.convert("RGB")
    return image.convert("RGB")


def _on(image: Image.Image, colour: str) -> Image.Image | None:
    """A transparent image on one colour; None where nothing of it is seen there."""
    ground = Image.new("RGBA", image.size, colour)
    seen = Image.alpha_composite(ground, image).convert("RGB")
    return None if all(low == high for low, high in seen.getextrema()) else seen  # type: ignore[misc]


def _from_numbers(image: Image.Image) -> Image.Image:
    values = np.asarray(image, dtype=np.float64)
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)) or low < 0 or high > 65535:
        raise ValueError(
            f"values from {low:g} to {high:g} have no known scale: save it with 8 or 16 bits"
        )
    if image.mode.startswith("I;16") or high > 255:
        values = values * (255 / 65535)
    elif image.mode == "F" and high <= 1:
        values = values * 255
    return Image.fromarray(values.round().astype(np.uint8)).convert("RGB")


def squares(place: Place, names: Sequence[str], side: int) -> list[np.ndarray | str]:
    """:func:`square` of each file; in place of a damaged one, what is wrong with it."""
    found: list[np.ndarray | str] = []
    for name in names:
        try:
            found.append(square(place.read(name), side))
        except UNREADABLE as error:
            found.append(reason(error))
    return found


def reason(error: BaseException) -> str:
    """Why a file cannot be decoded, in one line."""
    if isinstance(error, UnidentifiedImageError):  # its text is an address in memory
        return "no known kind of image"
    return " ".join(str(error).split()) or type(error).__name__


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
