"""What README, CONTRIBUTING and the documentation show: their commands, code and prose."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_GENERATED = re.compile(r"<!-- begin .*?<!-- end -->", re.DOTALL)
LONGEST = 25
"""Words in a sentence."""


def blocks(language: str) -> Iterator[tuple[Path, str]]:
    """The fenced blocks of a language, with their page."""
    for page in PAGES:
        for name, text in _FENCE.findall(page.read_text()):
            if name == language:
                yield page, text


def commands() -> list[str]:
    """Each command of the ``bash`` blocks once, without comments, on one line."""
    found: dict[str, None] = {}
    for _, text in blocks("bash"):
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                found[shlex.join(words)] = None
    return list(found)


def sentences(text: str) -> list[str]:
    """The sentences of a page's prose; tables, code, headings and generated parts are left out."""
    text = _GENERATED.sub("", _FENCE.sub("\n\n", text))
    text = re.sub(r"<!--.*?-->|^--8<--.*$|^!\[.*$|^#.*$|^\|.*$|^:::.*$", "\n", text, flags=re.M)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    found = []
    # A paragraph or an item of a list ends a sentence, whatever its last sign is.
    for part in re.split(r"\n\s*\n|^\s*(?:[-*]|\d+\.)\s+", text, flags=re.M):
        plain = " ".join(part.replace("**", "").split())
        found += [s for s in re.split(r"(?<=[.!?])\s+(?=[\"'`A-Z0-9(])", plain) if s]
    return found


def length(sentence: str) -> int:
    """How many words a sentence has; code in backticks counts as one."""
    words = re.sub(r"`[^`]*`", "code", sentence).split()
    return sum(bool(re.search(r"\w", word)) for word in words)


if __name__ == "__main__":
    from statistics import median

    everything = []
    for path in PAGES:
        lengths = [length(s) for s in sentences(path.read_text())]
        everything += lengths
        for sentence in sentences(path.read_text()):
            if length(sentence) > LONGEST:
                print(f"{path.relative_to(ROOT)}: {length(sentence)} words: {sentence}")
    share = sum(n > LONGEST for n in everything) / len(everything)
    print(f"{len(everything)} sentences, median {median(everything)} words, ", end="")
    print(f"{share:.1%} above {LONGEST}; {len(commands())} commands")
