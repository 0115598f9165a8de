"""The idx format of the MNIST files (described on Y. LeCun's MNIST page)."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

# Third byte of the magic number -> big-endian type of the values.
_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


class IdxError(ValueError):
    """The bytes are not one whole idx array; the message says what is wrong."""


def parse_idx(data: bytes) -> np.ndarray:
    """Parses idx bytes: two zeros, a type, a rank, the sizes (big-endian), the values.

    Returns:
        A writable array in the machine's byte order.

    Raises:
        IdxError: Wrong magic number, or too few or too many bytes.
    """
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES:
        raise IdxError(f"wrong magic number {data[:4].hex() or '(empty)'}")
    dtype, rank = np.dtype(_TYPES[data[2]]), data[3]
    start = 4 + 4 * rank
    if len(data) < start:
        raise IdxError(f"header cut off after {len(data)} bytes")
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", rank, 4))
    expected = start + math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise IdxError(f"{len(data)} bytes, where the header promises {expected}")
    values = np.frombuffer(data, dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="))


def read_idx(path: Path) -> np.ndarray:
    """Reads an idx file, packed (``.gz``) or not; its first bytes tell.

    Raises:
        IdxError: The file is damaged.
        OSError: The file cannot be read.
    """
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise IdxError(f"cannot be unpacked: {error}") from error
    return parse_idx(data)
