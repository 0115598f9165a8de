"""Queries and the documents that answer them: Quora's questions, and files of one's own."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from minesweep.datasets.base import Data, Dataset
from minesweep.datasets.corpus import Corpus, Lists
from minesweep.datasets.documents import Documents
from minesweep.datasets.quora import quora_rows
from minesweep.datasets.retrieval_files import Collection, read_collection
from minesweep.datasets.tokenizers import WORDLLAMA, tokenize
from minesweep.errors import UserError

log = logging.getLogger(__name__)


class Retrieval(Dataset):
    """Queries, documents and positives from files.

    Splits are disjoint by groups of texts that are linked through positives, unless the files
    deal the queries (``qrels/train.tsv``, ``dev.tsv``, ``test.tsv``). The training corpus leaves
    out the documents that answer held-out queries; evaluation searches all documents.

    Args:
        path: A file of pairs, or a folder in BEIR's layout; see
            :func:`~minesweep.datasets.retrieval_files.read_collection`.
        corpus: A file of further documents.
        tokenizer: See :func:`~minesweep.datasets.tokenizers.tokenize`.
        special_tokens: Whether the tokenizer's first and last tokens are added.
        max_tokens: Longer texts are cut.
        query_prompt: Put before each query.
        document_prompt: Put before each document.
        hide_positives: Share of the training positives that training and mining do not know, in
            [0, 1); evaluation knows all.
        val_share: Share of the groups for validation.
        test_share: Share of the groups for the test.
        val_queries: Validation queries at most.
        test_queries: Test queries at most.
        limit: Groups at most, drawn by ``split_seed``, with their queries and documents; documents
            that answer nothing all stay. None for all groups.
        split_seed: Fixes the splits, ``limit`` and what is hidden.
    """

    def __init__(
        self,
        path: str | None = None,
        corpus: str | None = None,
        *,
        tokenizer: str | None = WORDLLAMA,
        special_tokens: bool = False,
        max_tokens: int = 64,
        query_prompt: str = "",
        document_prompt: str = "",
        hide_positives: float = 0.0,
        val_share: float = 0.1,
        test_share: float = 0.2,
        val_queries: int = 1000,
        test_queries: int = 3000,
        limit: int | None = None,
        split_seed: int = 0,
    ) -> None:
        self.path, self.corpus = path, corpus
        self.tokenizer, self.special_tokens = tokenizer, special_tokens
        self.max_tokens = max_tokens
        self.prompts = (document_prompt, query_prompt)
        if not 0 <= hide_positives < 1:
            raise UserError(f"dataset.hide_positives={hide_positives} must be in [0, 1)")
        self.hide_positives = hide_positives
        self.shares = {"val": val_share, "test": test_share}
        self.most = {"val": val_queries, "test": test_queries}
        self.limit, self.split_seed = limit, split_seed

    def load(self, data_dir: Path) -> Data:
        """Reads the files, deals the splits and cuts the texts into tokens.

        Raises:
            UserError: A missing or broken file, or a split without a query.
        """
        if not self.path:
            raise UserError("dataset=retrieval needs dataset.path: a file of pairs or a folder")
        further = Path(self.corpus).expanduser() if self.corpus else None
        found = read_collection(Path(self.path).expanduser(), further)
        if found.notes:
            log.warning("%s: left out: %s", self.path, "; ".join(found.notes))
        groups = linked(found)
        return self.build(found, groups, closed=False)

    def build(self, found: Collection, groups: np.ndarray, closed: bool) -> Data:
        """Deals the splits and makes the tables.

        Args:
            found: Texts and pairs.
            groups: ``[D + Q]`` group of each document, then of each query.
            closed: Whether texts of a group answer each other, and queries are documents.
        """
        random = np.random.default_rng(self.split_seed)
        if self.limit is not None:
            found, groups = limited(found, groups, self.limit, random)
        parts = self._deal(found, groups, random)
        documents, size = len(found.documents), len(found.documents)
        answers = _answers(found, found.pairs, closed)
        held_out = {row for part in ("val", "test") for q in parts[part] for row in answers[q]}
        if closed:
            held_out |= {q for part in ("val", "test") for q in parts[part]}
        texts = [self.prompts[0] + text for text in found.documents]
        texts += [self.prompts[1] + text for text in found.queries]
        mined = [row for row in range(documents) if row not in held_out]
        learned = [*mined, *(size + query for query in parts["train"])]
        sentences, tokens = tokenize(
            self.tokenizer, texts, self.max_tokens, self.special_tokens, learned
        )
        labels = torch.from_numpy(np.unique(groups, return_inverse=True)[1].astype(np.int64))

        def split(docs: Sequence[int], asked: Sequence[int]) -> Documents:
            place = {row: at for at, row in enumerate(docs)}
            inputs = torch.tensor([*docs, *(size + q for q in asked)], dtype=torch.long)
            queries = torch.arange(len(docs), len(inputs))
            itself = [place.get(q, -1) if closed else -1 for q in asked]
            return Documents(
                inputs=inputs,
                labels=labels[inputs],
                sentences=sentences,
                texts=texts,
                documents=len(docs),
                queries=queries,
                relevant=Lists.of(
                    [[place[row] for row in answers[q] if row in place] for q in asked]
                ),
                excluded=torch.tensor(itself, dtype=torch.long),
            )

        held = {
            part: split(range(documents), self._some(parts[part], self.most[part], random))
            for part in ("val", "test")
        }
        kept = self._kept(found.pairs, set(parts["train"]), random)
        known = _answers(found, kept, closed)
        asked = sorted({query for query, _ in kept})
        train = split(mined, asked)
        place = {row: at for at, row in enumerate(mined)}
        number = {query: at for at, query in enumerate(asked)}
        pairs = [(number[q], place[d]) for q, d in kept if d in place]
        if not pairs:
            raise UserError("no training pair is left: lower dataset.hide_positives or the shares")
        train.corpus = Corpus(
            documents=len(mined),
            pairs=torch.tensor(pairs),
            known=within(known, asked, place),
            itself=train.excluded,
            answers=train.relevant,
        )
        log.info(
            "%d documents (%d to mine from), %d training pairs of %d queries, %d validation and "
            "%d test queries",
            *(documents, len(mined), len(pairs), len(asked)),
            *(len(held["val"].queries), len(held["test"].queries)),
        )
        return Data(
            train=train,
            val=held["val"],
            test=held["test"],
            num_classes=int(labels.max()) + 1,
            input_shape=(tokens,),
            file=Path(self.path or "").name,
        )

    def _deal(
        self, found: Collection, groups: np.ndarray, random: np.random.Generator
    ) -> dict[str, list[int]]:
        """Queries of each split: as the files say, or by groups."""
        group = groups[len(found.documents) :]
        asked = sorted({query for query, _ in found.pairs})
        names = random.permutation(np.unique(group[asked]))
        if {"train", "test"} <= set(found.parts):
            parts = {part: found.parts.get(part, []) for part in ("train", "val", "test")}
            if not parts["val"]:
                inside = set(random.permutation(np.unique(group[parts["train"]])).tolist())
                count = max(1, round(self.shares["val"] * len(inside)))
                val = set(sorted(inside)[:count])
                parts["val"] = [q for q in parts["train"] if group[q] in val]
                parts["train"] = [q for q in parts["train"] if group[q] not in val]
        else:
            where: dict[int, str] = defaultdict(lambda: "train")
            first = 0
            for part, share in self.shares.items():
                count = max(1, round(share * len(names)))
                where |= dict.fromkeys(names[first : first + count].tolist(), part)
                first += count
            parts = {part: [] for part in ("train", "val", "test")}
            for query in asked:
                parts[where.get(int(group[query]), "train")].append(query)
        for part, queries in parts.items():
            if not queries:
                raise UserError(
                    f"the {part} split has no query: the {len(names)} groups of linked texts are "
                    "too few, or dataset.val_share and dataset.test_share too large"
                )
        return parts

    def _some(
        self, queries: Sequence[int], most: int, random: np.random.Generator
    ) -> Sequence[int]:
        if len(queries) <= most:
            return queries
        return sorted(random.permutation(np.array(queries))[:most].tolist())

    def _kept(
        self, pairs: Iterable[tuple[int, int]], train: set[int], random: np.random.Generator
    ) -> list[tuple[int, int]]:
        """The training pairs that are not hidden."""
        inside = [pair for pair in pairs if pair[0] in train]
        hidden = random.permutation(len(inside)) < round(self.hide_positives * len(inside))
        return [pair for pair, hide in zip(inside, hidden, strict=True) if not hide]


class QuoraRetrieval(Retrieval):
    """Quora's questions as retrieval: a question is asked, its duplicates are its answers.

    Documents are the questions that have a duplicate; duplicates of duplicates are duplicates.
    The file is that of :class:`~minesweep.datasets.quora.Quora`. Arguments are those of
    :class:`Retrieval` but the paths.
    """

    def load(self, data_dir: Path) -> Data:
        """Reads the file, or first downloads it.

        Raises:
            UserError: No file, or a broken one.
        """
        path, rows = quora_rows(Path(data_dir) / "quora")
        texts, questions = rows.questions()
        duplicates = questions[np.array(rows.is_duplicate)]
        used, places = np.unique(duplicates, return_inverse=True)
        pairs = list(dict.fromkeys((a, b) for a, b in places.reshape(-1, 2).tolist() if a != b))
        named = [texts[question] for question in used]
        self.path = path.name
        found = Collection(named, named, pairs)
        group = _components(np.array(pairs), len(named))
        return self.build(found, np.concatenate([group, group]), closed=True)


def limited(
    found: Collection, groups: np.ndarray, limit: int, random: np.random.Generator
) -> tuple[Collection, np.ndarray]:
    """The texts of at most ``limit`` groups that have a pair, and all documents without one.

    Args:
        found: Texts and pairs.
        groups: ``[D + Q]`` group of each document, then of each query.
        limit: Groups at most.
        random: Draws them.

    Returns:
        What is left, and its groups.
    """
    size = len(found.documents)
    paired = np.unique(groups[[document for _, document in found.pairs]])
    dropped = random.permutation(paired)[limit:]
    kept = ~np.isin(groups, dropped)
    documents, queries = (np.flatnonzero(part).tolist() for part in (kept[:size], kept[size:]))
    new_document = {row: place for place, row in enumerate(documents)}
    new_query = {row: place for place, row in enumerate(queries)}
    left = Collection(
        [found.documents[row] for row in documents],
        [found.queries[row] for row in queries],
        [(new_query[q], new_document[d]) for q, d in found.pairs if q in new_query],
        {
            part: [new_query[q] for q in held if q in new_query]
            for part, held in found.parts.items()
        },
        found.notes,
    )
    return left, groups[kept]


def within(
    lists: Mapping[int, Sequence[int]], asked: Sequence[int], place: Mapping[int, int]
) -> Lists:
    """The lists of some queries, of those rows that have a place."""
    return Lists.of([[place[row] for row in lists[query] if row in place] for query in asked])


def linked(found: Collection) -> np.ndarray:
    """``[D + Q]`` group of each document, then of each query: those linked through positives."""
    size = len(found.documents)
    edges = np.array([(size + query, document) for query, document in found.pairs])
    return _components(edges, size + len(found.queries))


def _components(edges: np.ndarray, size: int) -> np.ndarray:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(edges), dtype=bool)
    first, second = edges.T.astype(np.int32)  # SciPy before 1.12 takes no wider ones, silently
    graph = coo_array((ones, (first, second)), shape=(size, size))
    return connected_components(graph, directed=False)[1]


def _answers(
    found: Collection, pairs: Iterable[tuple[int, int]], closed: bool
) -> dict[int, list[int]]:
    """Documents that answer each query, by the pairs; where closed, by all that follows of them."""
    answers: dict[int, list[int]] = defaultdict(list)
    pairs = list(pairs)
    if not closed:
        for query, document in pairs:
            answers[query].append(document)
        return answers
    group = _components(np.array(pairs), len(found.documents))
    members: dict[int, list[int]] = defaultdict(list)
    for row in sorted({row for pair in pairs for row in pair}):
        members[int(group[row])].append(row)
    for rows in members.values():
        for row in rows:
            answers[row] = [other for other in rows if other != row]
    return answers
