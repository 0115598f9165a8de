"""Files of every kind with bytes changed, lost and put in: read, or told in one line."""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from image_files import animals, archive, load, picture
from test_npz import X, Y
from test_odd_questions import plain
from test_tables import iris

from minesweep.datasets.base import Data
from minesweep.datasets.check import checked
from minesweep.datasets.decode import UNREADABLE, square
from minesweep.datasets.npz import Npz
from minesweep.datasets.quora import Quora
from minesweep.datasets.table import Csv
from minesweep.errors import UserError

MUTATIONS = 60
PIECES = (b'"', b",", b"\n", b"\r", b"\t", b"\0", b";", b"'", b"nan", b"\xff\xfe", b"1e400")


def mutate(content: bytes, draws: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draws.choice([1, 1, 2, 5, 20])):
        place = draws.randrange(max(1, len(changed)))
        kind = draws.randrange(5)
        if kind == 0:
            changed[place : place + 1] = bytes([draws.randrange(256)])
        elif kind == 1:
            del changed[place : place + draws.choice([1, 3, 50])]
        elif kind == 2:
            changed[place:place] = draws.choice(PIECES)
        elif kind == 3:
            del changed[max(1, place) :]
        else:
            changed[place:place] = changed[max(0, place - 30) : place]
    return bytes(changed)


def arrays() -> bytes:
    out = io.BytesIO()
    np.savez(out, x=X[:60], y=Y[:60])
    return out.getvalue()


LIST = b"cat/x0.png 0\r\ndog/x0.png 1\r\neel/x0.png 2\r\n"


def zipped(folder: Path, text: bytes = LIST) -> Path:
    return archive(folder / "a.zip", animals(4) | {"test.txt": text})


def of_zip(folder: Path, change: Callable[[bytes], bytes]) -> Data:
    path = zipped(folder)
    path.write_bytes(change(path.read_bytes()))
    return load(path, val_share=0.34)


def of_list(folder: Path, change: Callable[[bytes], bytes]) -> Data:
    return load(zipped(folder, change(LIST)), val_share=0.34)


def of_table(folder: Path, change: Callable[[bytes], bytes]) -> Data:
    (folder / "a.csv").write_bytes(change(iris().to_csv(index=False).encode()))
    return Csv("a.csv").load(folder)


def of_arrays(folder: Path, change: Callable[[bytes], bytes]) -> Data:
    (folder / "a.npz").write_bytes(change(arrays()))
    return Npz("a.npz", val_share=0.2).load(folder)


def of_questions(folder: Path, change: Callable[[bytes], bytes]) -> Data:
    (folder / "quora").mkdir(exist_ok=True)
    (folder / "quora" / "pairs.tsv").write_bytes(change(plain().encode()))
    return Quora().load(folder)


KINDS = [
    *(("RGB", "JPEG"), ("RGB", "PNG"), ("RGBA", "PNG"), ("P", "GIF"), ("LA", "PNG"), ("L", "TIFF")),
    *(("CMYK", "JPEG"), ("RGB", "WEBP"), ("RGBA", "TIFF"), ("1", "BMP"), ("F", "TIFF")),
]


@pytest.mark.parametrize(("mode", "kind"), KINDS)
def test_changed_bytes_of_images_are_shown_or_told(mode: str, kind: str) -> None:
    content = picture(1, mode, kind, (40, 30))
    for seed in range(3 * MUTATIONS):
        # A warning is an error in these tests.
        with contextlib.suppress(*UNREADABLE):
            assert square(mutate(content, random.Random(seed)), 16).shape == (3, 16, 16)


@pytest.mark.parametrize("read", [of_zip, of_list, of_table, of_arrays, of_questions])
def test_changed_bytes_are_read_or_told(
    read: Callable[[Path, Callable[[bytes], bytes]], Data], tmp_path: Path
) -> None:
    assert checked(read(tmp_path, lambda content: content))
    told = []
    for seed in range(MUTATIONS):
        draws = random.Random(seed)
        try:
            checked(read(tmp_path, lambda content: mutate(content, draws))).fingerprint()  # noqa: B023
        except UserError as error:
            told.append(str(error))
    assert told
    assert not [line for line in told if "\n" in line]
