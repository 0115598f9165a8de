"""Made-up queries and documents, small enough for a test: each shares a word with its answer."""

from __future__ import annotations

from pathlib import Path

from minesweep.datasets.base import Data
from minesweep.datasets.retrieval import Retrieval, linked
from minesweep.datasets.retrieval_files import Collection


class Questions(Retrieval):
    """120 queries, each tenth with two answers; ``label_noise`` is taken and not looked at."""

    def __init__(self, label_noise: float = 0.0) -> None:
        super().__init__(tokenizer="words", max_tokens=8)

    def load(self, data_dir: Path) -> Data:
        found = Collection()
        for i in range(120):
            found.queries.append(f"what is w{i}?")
            for text in [f"the answer {i} is w{i}"] + [f"also w{i} again"] * (i % 10 == 0):
                found.pairs.append((i, len(found.documents)))
                found.documents.append(text)
        return self.build(found, linked(found), closed=False)
