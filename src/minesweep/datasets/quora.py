"""Quora question pairs (Iyer, Dandekar and Csernai, "First Quora Dataset Release", 2017)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from minesweep.datasets.base import Data, Dataset
from minesweep.datasets.download import DownloadError, download
from minesweep.datasets.pairs import SentencePairs
from minesweep.datasets.quora_file import Rows, read
from minesweep.datasets.text import Tokenizer, Vocabulary, encode
from minesweep.errors import UserError
from minesweep.words import check_word

log = logging.getLogger(__name__)

FILES = (
    "quora_duplicate_questions.tsv",
    "quora_duplicate_questions.tsv.gz",
    "pairs.tsv.gz",
    "pairs.tsv",
)
SPLITS = ("disjoint", "leaky")
# The partial file: which source goes where.
TRAIN, VAL, TEST = (
    ("pqg_test", "pqg_val", "paraphrase30k"),
    ("balanced_dev",),
    ("balanced_test", "first10k"),
)
MIRRORS = ("https://qim.fs.quoracdn.net/",)
PAIRS = 404_290  # in the official file, for which Quora has published no checksum
# The official file, as in the assignment C3_W4: the rows before are trained on.
FIRST_TEST_ROW, TEST_ROWS = 300_000, 10_240


class Quora(Dataset):
    """Pairs of questions: duplicates are learned from, labelled pairs of both kinds are held out.

    The file is ``<data_dir>/quora/quora_duplicate_questions.tsv`` (404,290 pairs) or a partial
    ``pairs.tsv.gz`` of the same columns and one more, ``source``; where there is neither, the
    first is downloaded (55 MB). Of it, rows 300,000 to 310,239 are the test split and the 10,240
    after them the validation split; in the partial one the sources say it.

    Args:
        split: ``disjoint``: a training pair that shares a question with a held-out pair is
            dropped, and so is a validation pair that shares one with a test pair. ``leaky``:
            they stay, as in the assignment.
        lowercase: Whether case is dropped.
        min_count: Tokens rarer than this in the training questions are unknown.
        max_tokens: Longer questions are cut.
        bucket: How many batches are sorted by length together, so that a batch holds questions
            of like length; 1 for none.
        limit: Training pairs at most; None for all.
        split_seed: Fixes which pairs ``limit`` keeps.
    """

    def __init__(
        self,
        *,
        split: str = "disjoint",
        lowercase: bool = True,
        min_count: int = 2,
        max_tokens: int = 64,
        bucket: int = 1,
        limit: int | None = None,
        split_seed: int = 0,
    ) -> None:
        self.split = check_word("dataset.split", split, SPLITS)
        self.tokenizer = Tokenizer(lowercase)
        self.min_count, self.max_tokens, self.bucket = min_count, max_tokens, bucket
        self.limit, self.split_seed = limit, split_seed

    def load(self, data_dir: Path) -> Data:
        """Reads the file, or first downloads it, splits it, and numbers the tokens.

        Raises:
            UserError: No file, a broken one (with the row's number), or too few pairs.
        """
        path, rows = quora_rows(Path(data_dir) / "quora")
        if rows.empty:
            log.warning(
                "%s: left out %d of %d rows, in which a question is empty; the first is row %d",
                *(path, len(rows.empty), len(rows) + len(rows.empty), rows.empty[0]),
            )
        texts, questions = rows.questions()
        parts = _deal(rows, path)
        train, val, test = parts if self.split == "leaky" else drop_shared(questions, parts)
        if not (len(train) and len(val) and len(test)):
            raise UserError(
                f"{path} leaves {len(train)} training, {len(val)} validation and {len(test)} "
                f"test pairs with dataset.split={self.split}"
            )
        if self.limit is not None:
            keep = np.random.default_rng(self.split_seed).permutation(len(train))[: self.limit]
            train = train[np.sort(keep)]
        duplicate = np.array(rows.is_duplicate, dtype=np.int64)
        for name, part in (("validation", val), ("test", test)):
            if len(np.unique(duplicate[part])) == 1:
                kind = "duplicates" if duplicate[part[0]] else "no duplicates"
                log.warning("%s: all %s pairs are %s: nothing tells them apart", path, name, kind)
        words = [self.tokenizer(text) for text in texts]
        learned = np.unique(questions[train])
        vocabulary = Vocabulary((words[question] for question in learned), self.min_count)
        numbers = [vocabulary.numbers(sentence) for sentence in words]
        groups = duplicate_groups(questions[train])
        source = np.array(rows.source)

        def pairs(part: np.ndarray, labels: np.ndarray) -> SentencePairs:
            used, places = np.unique(questions[part], return_inverse=True)
            return SentencePairs(
                inputs=torch.from_numpy(places.reshape(-1, 2)),
                labels=torch.from_numpy(labels),
                bucket=self.bucket,
                sentences=encode([numbers[question] for question in used], self.max_tokens),
                texts=[texts[question] for question in used],
                sources={
                    str(name): np.flatnonzero(source[part] == name)
                    for name in np.unique(source[part])
                    if name
                },
            )

        return Data(
            train=pairs(train, groups),
            val=pairs(val, duplicate[val]),
            test=pairs(test, duplicate[test]),
            num_classes=int(groups.max()) + 1,
            input_shape=(len(vocabulary),),
            file=path.name,
        )


def quora_rows(folder: Path) -> tuple[Path, Rows]:
    """The file that is there, or else the official one, downloaded; and what it holds."""
    for name in FILES:
        if (folder / name).is_file():
            return folder / name, read(folder / name)
    try:
        path = download(FILES[0], MIRRORS, folder, checksum=None)
    except DownloadError as error:
        raise UserError(
            f"no Quora file in {folder}, and it could not be downloaded ({error}): put {FILES[0]} "
            "there, or name its parent by paths.data_dir"
        ) from error
    rows = read(path)
    count = len(rows) + len(rows.empty)
    if count != PAIRS:
        raise UserError(
            f"{path} was downloaded and has {count} rows, not the official {PAIRS}: delete it to "
            "download it again, or keep it and run the same command"
        )
    log.info("%s: no checksum is known; its columns and its %d rows are right", path, count)
    return path, rows


def _deal(rows: Rows, path: Path) -> list[np.ndarray]:
    """Row numbers of the training, validation and test split, by source or by place."""
    duplicate = np.array(rows.is_duplicate)
    if any(rows.source):
        source = np.array(rows.source)
        train, val, test = (np.isin(source, names) for names in (TRAIN, VAL, TEST))
        unknown = set(rows.source) - {*TRAIN, *VAL, *TEST}
        if unknown:
            known = ", ".join((*TRAIN, *VAL, *TEST))
            raise UserError(f"{path}: unknown source {sorted(unknown)[0]!r}; known: {known}")
    else:
        place = np.arange(len(rows))
        # A file shorter than the official one is cut at the same shares.
        first = min(FIRST_TEST_ROW, len(rows) * 3 // 4)
        count = min(TEST_ROWS, len(rows) // 10)
        train = place < first
        test = (place >= first) & (place < first + count)
        val = (place >= first + count) & (place < first + 2 * count)
    return [np.flatnonzero(mask) for mask in (train & duplicate, val, test)]


def drop_shared(questions: np.ndarray, parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Drops from each part every row that shares a question with a later part.

    Args:
        questions: ``[rows, 2]`` question numbers.
        parts: Row numbers of each part; the last is left whole.
    """
    kept: list[np.ndarray] = []
    seen = np.zeros(questions.max() + 1, dtype=bool)
    for part in reversed(parts):
        rows = part[~seen[questions[part]].any(1)]
        kept.insert(0, rows)
        seen[questions[part]] = True
    return kept


def duplicate_groups(pairs: np.ndarray) -> np.ndarray:
    """``[N]`` for each pair of duplicates, its group: the transitive closure of the pairs.

    Args:
        pairs: ``[N, 2]`` question numbers.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = int(pairs.max()) + 1
    # SciPy before 1.12 finds no components of wider numbers, and says so to nobody.
    first, second = pairs.T.astype(np.int32)
    graph = coo_array((np.ones(len(pairs), dtype=bool), (first, second)), shape=(size, size))
    _, group = connected_components(graph, directed=False)
    return np.unique(group[pairs[:, 0]], return_inverse=True)[1].astype(np.int64)
