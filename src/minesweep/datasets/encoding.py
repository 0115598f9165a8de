"""Text files as other systems write them: their encoding and their line ends."""

from __future__ import annotations

import codecs

_KINDS = (
    (b"PK\x03\x04", "an Excel or zip file"),
    (b"\xd0\xcf\x11\xe0", "an Excel file"),
    (b"PAR1", "a Parquet file"),
    (b"BZh", "packed by bzip2"),
    (b"\xfd7zXZ", "packed by xz"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd"),
    (b"\x93NUMPY", "an array of NumPy"),
    (b"\x89HDF", "an HDF5 file"),
    (b"%PDF", "a PDF"),
    (b"version https://git-lfs", "the pointer of a file that Git LFS holds (git lfs pull)"),
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
)


def other_kind(content: bytes) -> str | None:
    """What a file is that was taken for a table or for arrays; None where that is not known."""
    head = content.lstrip(b"\xef\xbb\xbf \r\n\t")[:32]
    if head[:1] in (b"{", b"["):
        return "JSON"
    low = head.lower()
    return next(
        (kind for first, kind in _KINDS if head.startswith(first) or low.startswith(first)), None
    )


def text_of(content: bytes) -> str:
    """Text of UTF-8 or UTF-16, with a byte-order mark or without; each line ends with ``\\n``.

    Raises:
        UnicodeDecodeError: It is neither.
    """
    head = content[:64]
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = content.decode("utf-16")
    elif len(head) > 1 and head[1::2].count(0) == len(head) // 2:  # Latin letters
        text = content.decode("utf-16-le")
    elif len(head) > 1 and head[::2].count(0) == -(-len(head) // 2):
        text = content.decode("utf-16-be")
    else:
        text = content.decode("utf-8-sig")
    text = text.replace("\r\n", "\n")
    # A lone return is a line's end where there is no other one, as on old Macs.
    return text if "\n" in text else text.replace("\r", "\n")
