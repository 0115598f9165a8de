"""Text files as other systems write them: their encoding and their line ends."""

from __future__ import annotations

import codecs


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
