"""Hard negatives of queries from a corpus, mined again while the model learns."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor
from torch.nn.functional import pad

from minesweep.datasets.corpus import Corpus
from minesweep.errors import UserError
from minesweep.indexes.similar import Similar, most_similar
from minesweep.miners.base import Context, Pool
from minesweep.miners.curriculum import Curriculum
from minesweep.miners.documents import RandomDocuments, barred, corpus_of, rows
from minesweep.miners.negatives import RULES, Chosen, Rules, choose_negatives
from minesweep.words import check_word

log = logging.getLogger(__name__)

EXCLUDE = ("known_positives", "itself")
CHUNK = 8192


class CorpusNegatives(RandomDocuments):
    """Proposes a query, its positive, and the documents most similar to the query.

    Documents and queries are encoded every ``refresh`` steps; a query's negatives are found when
    it is drawn. Where the rules leave fewer than m, random ones fill up. Mined while training as
    in ANCE (arXiv 2007.00808); with ``refresh`` above the number of steps, mined once.

    Args:
        num_negatives: m, at least 1.
        range_min: See :class:`~minesweep.miners.negatives.Rules`, as for the next six.
        range_max: Of the rules.
        max_score: Of the rules.
        min_score: Of the rules.
        absolute_margin: Of the rules.
        relative_margin: Of the rules.
        sampling_strategy: Of the rules.
        exclude: ``known_positives`` of the query are never its negatives; ``itself``: only the
            query itself is not, so that what excluding is worth can be measured.
        refresh: Steps after which everything is encoded anew, at least 1.
        factory: FAISS' description of an index over inner products; None for exact search.
        curriculum: Which share of the queries has mined negatives; all by default.
        sample: Queries on which the recall of a FAISS index is measured at each refresh.
        memory: MiB of working space for a search.
        **schedule: ``start``, ``end``, ``interrupt`` of :class:`~minesweep.miners.base.Miner`.
    """

    documents: Tensor
    queries: Tensor
    refreshed: Tensor
    encoded: Tensor
    recall: Tensor

    def __init__(
        self,
        num_negatives: int = 2,
        range_min: int = 0,
        range_max: int | None = None,
        max_score: float | None = None,
        min_score: float | None = None,
        absolute_margin: float | None = None,
        relative_margin: float | None = None,
        sampling_strategy: str = "top",
        exclude: str = "known_positives",
        refresh: int = 500,
        factory: str | Sequence[str] | None = None,
        curriculum: Curriculum | None = None,
        sample: int = 256,
        memory: int = 64,
        **schedule: Any,
    ) -> None:
        super().__init__(num_negatives, **schedule)
        self.rules = Rules(
            *(num_negatives, range_min, range_max, max_score, min_score),
            *(absolute_margin, relative_margin, sampling_strategy),
        )
        if refresh < 1:
            raise UserError(f"miner.refresh={refresh} must be at least 1")
        self.exclude = check_word("miner.exclude", exclude, EXCLUDE)
        self.refresh, self.memory = refresh, memory
        self.factory = ",".join([factory] if isinstance(factory, str) else factory or [])
        self.curriculum = curriculum or Curriculum()
        self.sample = sample
        self._index: Any = None
        self._clocks: dict[str, float] = {}
        self._scores: dict[str, Tensor] = {}
        self._random, self._mined = 0, 0
        self._told: dict[str, Tensor] = {}

    def setup(self, pool: Pool) -> None:
        """Allocates what is encoded; its dimension is found by encoding one text."""
        super().setup(pool)
        corpus = corpus_of(pool)
        self._most = int(corpus.known.sizes.max()) + 1
        if corpus.documents <= self.rules.last_rank(self._most):
            log.warning(
                "the corpus has %d documents, and up to %d of the most similar are candidates",
                *(corpus.documents, self.rules.last_rank(self._most)),
            )
        dim = pool.encode(torch.zeros(1, dtype=torch.long, device=pool.device)).shape[1]
        for name, shape, value, dtype in (
            ("documents", (corpus.documents, dim), 0.0, torch.float32),
            ("queries", (len(corpus.known), dim), 0.0, torch.float32),
            ("refreshed", (), -1, torch.long),
            ("encoded", (), 0, torch.long),
            ("recall", (), torch.nan, torch.float32),
        ):
            self.register_buffer(name, torch.full(shape, value, dtype=dtype, device=pool.device))

    # --- what is proposed --------------------------------------------------------------------

    def propose(self, pool: Pool, step: int) -> Tensor:
        """``[n, 2 + m]`` rows: queries with random negatives first, then those with mined ones."""
        corpus, pairs = corpus_of(pool), self.pairs(pool, step)
        negatives = self.random(corpus, pairs[:, 0], step)
        self._mined = round(self.curriculum.share(step, pool.steps) * len(pairs))
        self._random = len(pairs) - self._mined
        if self._mined:
            self._ready(pool, step)
            mined = self._mine(corpus, pairs[self._random :], step)
            part = negatives[self._random :]
            negatives[self._random :] = torch.where(mined >= 0, mined, part)
        return rows(corpus, pairs, negatives)

    def select(self, scores: Tensor, **context: Unpack[Context]) -> Tensor:
        """Everything; the curriculum hears the losses."""
        self.curriculum.observe(scores, self._random)
        return torch.ones_like(scores)

    def _mine(self, corpus: Corpus, pairs: Tensor, step: int) -> Tensor:
        began = time.perf_counter()
        asked = pairs[:, 0]
        last = self.rules.last_rank(self._most - 1)
        found = self._search(self.queries[asked], last + self._most)
        if self.exclude == "itself":
            known = found.rows == corpus.itself[asked][:, None]
        else:
            known = barred(corpus, asked, found.rows)
        positive = self._least_positive(corpus, asked)
        draws = self.generator(step, purpose="negatives")
        chosen = choose_negatives(
            self.rules, found.scores, found.rows, known, positive, draws, last
        )
        self._clocks["mining/query_ms"] = 1000 * (time.perf_counter() - began)
        self._tell(corpus, asked, chosen, positive)
        return chosen.rows

    def _least_positive(self, corpus: Corpus, asked: Tensor) -> Tensor:
        """``[n]`` similarity of each query's least similar known positive."""
        which, answers = corpus.known.take(asked)
        scores = (self.queries[asked][which] * self.documents[answers]).sum(1)
        least = torch.full((len(asked),), torch.inf, device=asked.device)
        return least.scatter_reduce(0, which, scores, "amin")

    def _search(self, queries: Tensor, k: int) -> Similar:
        if self._index is None:
            return most_similar(queries, self.documents, k, self.memory)
        scores, found = self._index.search(queries.cpu().numpy(), min(k, len(self.documents)))
        to = queries.device
        similar = Similar(torch.from_numpy(scores).to(to), torch.from_numpy(found).to(to))
        missing = (0, k - similar.rows.shape[1])
        return Similar(
            pad(similar.scores, missing, value=-torch.inf), pad(similar.rows, missing, value=-1)
        )

    # --- refreshing --------------------------------------------------------------------------

    def _ready(self, pool: Pool, step: int) -> None:
        """Encodes everything where it is due; after a resume, rebuilds the index."""
        last, corpus = int(self.refreshed.item()), corpus_of(pool)
        due = last < 0 or step - last >= self.refresh
        if due:
            began = time.perf_counter()
            size = corpus.documents + len(self.queries)
            every = torch.arange(size, device=pool.device)
            vectors = torch.cat([pool.encode(part).float() for part in every.split(CHUNK)])
            self.documents.copy_(vectors[: corpus.documents])
            self.queries.copy_(vectors[corpus.documents :])
            self.refreshed.fill_(step)
            self.encoded += size
            self._clocks["mining/encode_ms"] = 1000 * (time.perf_counter() - began)
        if self.factory and (due or self._index is None):
            began = time.perf_counter()
            self._index = _faiss(self.factory, self.documents)
            self._clocks["mining/build_ms"] = 1000 * (time.perf_counter() - began)
        if self.factory and due and self.sample:
            draws = self.generator(step, purpose="sample")
            some = torch.randperm(len(self.queries), generator=draws)[: self.sample]
            asked, k = self.queries[some.to(pool.device)], self.num_negatives
            exact = most_similar(asked, self.documents, k, self.memory).rows
            hits = (self._search(asked, k).rows[:, :, None] == exact[:, None]).any(1)
            self.recall.copy_(hits.float().mean())

    # --- what is told ------------------------------------------------------------------------

    def _tell(self, corpus: Corpus, asked: Tensor, chosen: Chosen, positive: Tensor) -> None:
        """Keeps the numbers of this step for :meth:`metrics`."""
        taken = chosen.rows >= 0
        answers = corpus.answers.contains(asked, chosen.rows)
        count = taken.sum().clamp(min=1)
        self._told = {
            "mining/short": (~taken).any(1).float().mean(),
            "mining/false_negatives": answers.sum() / count,
            "mining/hidden_positives": (answers & ~barred(corpus, asked, chosen.rows)).sum()
            / count,
            **{
                f"mining/skipped/{rule}": torch.tensor(chosen.skipped[rule] / len(asked))
                for rule in RULES
            },
        }
        self._scores = {
            "mining/negative_similarity": chosen.scores[taken],
            "mining/positive_similarity": positive[positive.isfinite()],
        }

    def metrics(self, step: int) -> dict[str, Tensor]:
        if self.refreshed.item() < 0:
            return {}
        return {
            **self._told,
            "mining/mined_share": torch.tensor(self._mined / (self._mined + self._random)),
            "mining/recall_at_k": self.recall,
            "mining/encoded": self.encoded,
            "mining/staleness": step - self.refreshed,
        }

    def distributions(self, step: int) -> dict[str, Tensor]:
        """Similarities of the step's queries to their positives and their mined negatives."""
        return dict(self._scores)

    def clocks(self) -> dict[str, float]:
        """``mining/encode_ms`` and ``build_ms`` of a refresh, ``query_ms`` of the last step."""
        return dict(self._clocks)


def _faiss(factory: str, documents: Tensor) -> Any:
    from minesweep.indexes.faiss import import_faiss, reason

    faiss = import_faiss()
    vectors = documents.cpu().numpy()
    faiss.omp_set_num_threads(torch.get_num_threads())
    try:
        index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        index.train(vectors)
        index.add(vectors)
    except RuntimeError as error:
        raise UserError(
            f"miner.factory={factory} cannot index {len(vectors)} documents of "
            f"{vectors.shape[1]} dimensions ({reason(error)}); Flat, IVF256,Flat or HNSW16 can"
        ) from None
    return index
