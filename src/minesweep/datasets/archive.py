"""A zip of images, read without unpacking: its members by clean paths, and what cannot be read."""

from __future__ import annotations

import unicodedata
import zipfile
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from minesweep.errors import UserError

METHODS = {1: "Shrink", 6: "Implode", 9: "Deflate64", 93: "Zstandard", 96: "JPEG", 98: "PPMd"}
"""Packing methods that some tools write; Python reads 0, 8, 12 and 14, and newer ones 93."""
READABLE = {0, 8, 12, 14} | ({93} if hasattr(zipfile, "ZIP_ZSTANDARD") else set())
ENCRYPTED, PATCHED, UNICODE = 0x1, 0x20, 0x800
"""Bits of a member's flags."""
LARGEST = 2 << 30
"""Bytes of a member: a larger one is no image."""
CODE_PAGES = ("utf-8", "cp437", "cp866", "cp932", "cp936", "cp1252")
"""Of names without the flag for Unicode; the first that gives letters alone is taken."""


class Archive:
    """The members of a zip.

    Args:
        path: The zip.

    Attributes:
        members: Every file by its path with ``/`` between the parts; ``./`` is dropped.
        code_page: Of the names that are not marked as Unicode, as it seems.
        outside: Names of members that point out of the archive; they are no members.

    Raises:
        UserError: This is no zip, or it is cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
            raise UserError(
                f"{path} cannot be read as a zip archive: {error}; other archives have to be "
                "unpacked first"
            ) from error
        self.members: dict[str, zipfile.ZipInfo] = {}
        self.outside: list[str] = []
        infos = self._zip.infolist()
        page = _code_page([info.orig_filename for info in infos if _is_legacy(info)])
        self.code_page = page
        for info in infos:
            name = info.orig_filename
            if _is_legacy(info):
                name = name.encode("cp437").decode(page, "replace")
            name = name.split("\0")[0].replace("\\", "/")
            parts = PurePosixPath(name).parts
            if name.endswith("/") or not parts:
                continue
            if parts[0] == "/" or ".." in parts or parts[0].endswith(":"):
                self.outside.append(name)
            else:
                self.members["/".join(parts)] = info

    def check(self, names: Collection[str]) -> None:
        """Raises a UserError if Python cannot unpack one of these members."""
        reasons = Counter(reason for name in names if (reason := _unreadable(self.members[name])))
        if reasons:
            reason, count = reasons.most_common(1)[0]
            raise UserError(
                f"{self.path}: {count} of {len(names)} images are {reason}: pack them again "
                "as a plain zip (Deflate, no password), or unpack them"
            )

    def read(self, name: str) -> bytes:
        """The content of a member.

        Raises:
            zipfile.BadZipFile: The member is damaged.
            ValueError: It is larger than any image.
        """
        info = self.members[name]
        if info.file_size > LARGEST:
            raise ValueError(f"{info.file_size / 2**30:.1f} GiB are no image")
        return self._zip.read(info)


def _unreadable(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & ENCRYPTED or info.compress_type == 99:
        return "encrypted"
    if info.compress_type not in READABLE:
        method = METHODS.get(info.compress_type, f"method {info.compress_type}")
        return f"packed by {method}, which Python does not unpack"
    return "patches of another archive" if info.flag_bits & PATCHED else ""


def _is_legacy(info: zipfile.ZipInfo) -> bool:
    return not info.flag_bits & UNICODE and not info.orig_filename.isascii()


def _code_page(names: Sequence[str]) -> str:
    """The code page of names that Python read as cp437."""
    if not names:
        return "ascii"
    raw = b"\n".join(name.encode("cp437", "replace") for name in names)
    for page in CODE_PAGES:
        try:
            text = raw.decode(page)
        except UnicodeDecodeError:
            continue
        letters = all(unicodedata.category(sign)[0] in "LM" for sign in text if ord(sign) > 127)
        if letters or page == "utf-8":
            return page
    return "cp437"
