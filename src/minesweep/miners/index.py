"""Hard pairs found in the embedding space: furthest positives, nearest negatives."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from minesweep.errors import UserError
from minesweep.indexes.base import Index, Neighbours
from minesweep.indexes.exact import Exact
from minesweep.miners.base import Context, Pool, uniform_batch
from minesweep.miners.curriculum import Curriculum
from minesweep.miners.pairs import Random, check_shares
from minesweep.words import check_word

log = logging.getLogger(__name__)

MINES = ("positives", "negatives", "both")
CHUNK = 8192
PATIENCE = 2.0
"""Seconds of encoding between two lines of progress."""


class IndexPairs(Random):
    """Pairs mined over embeddings that are refreshed every ``refresh`` steps.

    The first rows of the pairs are a uniform batch, as with random pairs. Each is paired with one
    of its k furthest positives or nearest negatives, drawn evenly. An anchor without such a
    neighbour (alone in its class, or none found) is paired at random.

    Args:
        index: What is searched.
        mine: ``positives``, ``negatives`` or ``both``; the other kind is drawn at random.
        positives: Share of positives among the mined pairs, in [0, 1]. With 1 no negatives are
            left, as in yuhongsun96/Hard-Negative-Mining-with-LSH-KNN.
        k: Neighbours among which a partner is drawn, at least 1.
        refresh: Steps after which the pool is encoded and the index built anew, at least 1.
        curriculum: Which share of a batch is mined; all by default.
        random_positives: As ``positives`` of :class:`~minesweep.miners.pairs.Random`, for
            the pairs that are not mined.
        sample: Anchors on which recall, candidates and distances are measured at each refresh;
            0 for none.
        **schedule: ``start``, ``end``, ``interrupt`` of :class:`~minesweep.miners.base.Miner`.
    """

    embeddings: Tensor
    refreshed: Tensor
    encoded: Tensor
    measured: Tensor
    near: Tensor
    far: Tensor

    def __init__(
        self,
        index: Index,
        mine: str = "both",
        positives: float = 0.5,
        k: int = 10,
        refresh: int = 50,
        curriculum: Curriculum | None = None,
        random_positives: float | None = 0.5,
        sample: int = 256,
        **schedule: Any,
    ) -> None:
        super().__init__(random_positives, **schedule)
        if k < 1 or refresh < 1:
            raise UserError(f"miner.k={k} and miner.refresh={refresh} must be at least 1")
        self.index, self.k, self.refresh, self.sample = index, k, refresh, sample
        self.mine = check_word("miner.mine", mine, MINES)
        self.mined_positives = positives
        self.curriculum = curriculum or Curriculum()
        self._built = False
        self._mined_share = 0.0
        self._clocks: dict[str, float] = {}

    # --- state -------------------------------------------------------------------------------

    def setup(self, pool: Pool) -> None:
        """Allocates the mined embeddings; their dimension is found by encoding one row."""
        super().setup(pool)
        assert self._classes is not None
        check_shares(self._classes, self.mined_positives)
        first = pool.encode(torch.zeros(1, dtype=torch.long, device=pool.device))
        if first.shape[0] != 1 or first.ndim != 2:
            raise UserError(
                f"an index miner needs one vector for each example, and got {list(first.shape)} "
                "for one: a dataset whose examples are pairs already has none to mine"
            )
        self.index.check(first.shape[1])
        self.sample = min(self.sample, pool.size)

        def buffer(name: str, shape: tuple[int, ...], value: float, dtype: torch.dtype) -> None:
            self.register_buffer(name, torch.full(shape, value, dtype=dtype, device=pool.device))

        buffer("embeddings", (pool.size, first.shape[1]), 0, torch.float32)
        buffer("refreshed", (), -1, torch.long)
        buffer("encoded", (), 0, torch.long)
        # At the last refresh: recall of negatives and of positives, candidates, how far it moved.
        buffer("measured", (4,), torch.nan, torch.float32)
        buffer("near", (self.sample, self.k), torch.nan, torch.float32)
        buffer("far", (self.sample, self.k), torch.nan, torch.float32)

    def _ready(self, pool: Pool, step: int) -> None:
        """Refreshes the index where it is due; rebuilds it from the buffers after a resume."""
        last = int(self.refreshed.item())
        due = last < 0 or step - last >= self.refresh
        if due:
            began = time.perf_counter()
            found = _encode(pool)
            self._clocks["mining/encode_ms"] = _ms_since(began, pool.device)
            if last >= 0:
                spread = (found - found.mean(0)).norm(dim=1).mean()
                self.measured[3] = (found - self.embeddings).norm(dim=1).mean() / spread
            self.embeddings.copy_(found)
            self.refreshed.fill_(step)
            self.encoded += pool.size
        if due or not self._built:
            began = time.perf_counter()
            self.index.build(self.embeddings, pool.labels)
            self._clocks["mining/build_ms"] = _ms_since(began, pool.device)
            self._built = True
        if due and self.sample:
            self._measure(pool, step)

    # --- pairs -------------------------------------------------------------------------------

    def propose(self, pool: Pool, step: int) -> Tensor:
        """``[n, 2]`` rows: random pairs, then mined positives, then mined negatives."""
        rows = uniform_batch(pool, step)
        self._mined_share = self.curriculum.share(step, pool.steps)
        random, hard = rows.split(self._parts(len(rows)))
        pairs = [torch.stack([random, self.partners(random, self.positives, step)], 1)]
        if len(hard):
            self._ready(pool, step)
            pairs.append(torch.stack([hard, self._mined(hard, step)], 1))
        return torch.cat(pairs)

    def _parts(self, n: int) -> tuple[int, int]:
        mined = round(self._mined_share * n)
        return n - mined, mined

    def _mined(self, rows: Tensor, step: int) -> Tensor:
        count = round(self.mined_positives * len(rows))
        # Random partners first, of the same kinds: what is mined takes their place.
        partners = self.partners(rows, self.mined_positives, step)
        draws = self.generator(step, purpose="neighbours")
        chance = torch.rand(len(rows), generator=draws, dtype=torch.double).to(rows.device)
        began = time.perf_counter()
        for kind, part, search in (
            ("positives", slice(None, count), self.index.positives),
            ("negatives", slice(count, None), self.index.negatives),
        ):
            anchors = rows[part]
            if self.mine not in (kind, "both") or not len(anchors):
                continue
            drawn = _draw(search(anchors, self.k), chance[part])
            partners[part] = torch.where(drawn >= 0, drawn, partners[part])
        self._clocks["mining/query_ms"] = _ms_since(began, rows.device)
        return partners

    def select(self, scores: Tensor, **context: Unpack[Context]) -> Tensor:
        """Everything; the curriculum hears the losses."""
        self.curriculum.observe(scores, self._parts(len(scores))[0])
        return torch.ones_like(scores)

    def selected(self, n: int) -> int:
        return n

    # --- what is told ------------------------------------------------------------------------

    def _measure(self, pool: Pool, step: int) -> None:
        """Recall@k against exact search, candidates and distances, of some anchors."""
        draws = self.generator(step, purpose="sample")
        rows = torch.randperm(pool.size, generator=draws)[: self.sample].to(pool.device)
        truth: Index = self.index
        if not isinstance(self.index, Exact):
            truth = Exact()
            truth.build(self.embeddings, pool.labels)
        for place, (kind, kept) in enumerate((("negatives", self.near), ("positives", self.far))):
            found = getattr(self.index, kind)(rows, self.k)
            if kind == "negatives":
                self.measured[2] = self.index.candidates
            exact = found if truth is self.index else getattr(truth, kind)(rows, self.k)
            self.measured[place] = recall(found, exact, nearest=kind == "negatives")
            kept.copy_(found.distances.clamp(min=0).sqrt())
            kept[found.rows < 0] = torch.nan

    def metrics(self, step: int) -> dict[str, Tensor]:
        mined = self._mined_share if self.active(step) else 0.0
        told = {"mining/mined_share": torch.tensor(mined)}
        if self.refreshed.item() < 0:
            return told
        recalls, candidates, moved = self.measured[:2], self.measured[2], self.measured[3]
        told |= {
            "mining/recall_at_k": recalls[1 if self.mine == "positives" else 0],
            "mining/candidates": candidates,
            "mining/moved": moved,
            "mining/encoded": self.encoded,
            "mining/staleness": step - self.refreshed,
        }
        if self.mine == "both":
            told["mining/recall_at_k_positives"] = recalls[1]
        return told

    def distributions(self, step: int) -> dict[str, Tensor]:
        """Distances of the sampled anchors to their mined neighbours, at the last refresh."""
        if self.refreshed.item() < 0 or not self.sample:
            return {}
        return {"mining/positive_distance": self.far, "mining/negative_distance": self.near}

    def clocks(self) -> dict[str, float]:
        """``mining/encode_ms`` and ``build_ms`` of a refresh, ``query_ms`` of the last step."""
        return dict(self._clocks)


class Knn(IndexPairs):
    """Exact search, or any index that FAISS can make.

    Args:
        factory: FAISS' own description of an index, e.g. ``HNSW16`` or ``IVF256,Flat``, which can
            also be given as its parts, ``["IVF256", "Flat"]``; None for exact search.
        parameters: Search parameters of that index by their FAISS names, e.g. ``{"nprobe": 16}``.
        shortlist: See :class:`~minesweep.indexes.faiss.Factory`.
        memory: MiB of working space for a search.
        **pairs: See :class:`IndexPairs`.
    """

    def __init__(
        self,
        factory: str | Sequence[str] | None = None,
        parameters: Mapping[str, Any] | None = None,
        shortlist: int = 1,
        memory: int = 64,
        **pairs: Any,
    ) -> None:
        if factory is None:
            super().__init__(Exact(memory), **pairs)
            return
        from minesweep.indexes.faiss import Factory

        described = factory if isinstance(factory, str) else ",".join(factory)
        settings = ",".join(f"{name}={value}" for name, value in (parameters or {}).items())
        super().__init__(Factory(described, settings, shortlist, memory), **pairs)


class Lsh(IndexPairs):
    """Locality-sensitive hashing by random hyperplanes.

    Args:
        n_bits: Bits of a code, a multiple of 8.
        shortlist: Times k candidates are ranked by true distances.
        memory: MiB of working space for a search.
        **pairs: See :class:`IndexPairs`.
    """

    def __init__(
        self, n_bits: int = 256, shortlist: int = 8, memory: int = 64, **pairs: Any
    ) -> None:
        from minesweep.indexes import lsh

        super().__init__(lsh.Lsh(n_bits, shortlist, memory=memory), **pairs)


def recall(found: Neighbours, exact: Neighbours, nearest: bool) -> Tensor:
    """Mean share of each row's true neighbours that were found; rows without any are left out.

    One that is as far as the last of the true ones is as good as that one.

    Args:
        found: Of an approximate search, ``[q, k]``.
        exact: Of the exact one.
        nearest: Whether the nearest were searched, or the furthest.
    """
    there = exact.rows >= 0
    listed = (found.rows[:, :, None] == exact.rows[:, None]).any(2)
    sign = 1 if nearest else -1
    # The last true one; where there are fewer than k, all are true.
    last = (sign * exact.distances).masked_fill(~there, -torch.inf).amax(1, keepdim=True)
    hits = (found.rows >= 0) & (listed | (sign * found.distances <= last))
    return (hits.sum(1) / there.sum(1)).clamp(max=1)[there.any(1)].mean()


def _draw(found: Neighbours, chance: Tensor) -> Tensor:
    """One of the neighbours of each row, by ``[q]`` chances in [0, 1); -1 where there is none."""
    count = (found.rows >= 0).sum(1)
    place = (chance * count).long()
    return found.rows.gather(1, place[:, None]).squeeze(1)


def _encode(pool: Pool) -> Tensor:
    """``[N, dim]`` float32 embeddings of the whole pool, with progress where it takes long."""
    began = told = time.perf_counter()
    parts = []
    for rows in torch.arange(pool.size, device=pool.device).split(CHUNK):
        parts.append(pool.encode(rows).float())
        now = time.perf_counter()
        if now - told > PATIENCE:
            told = now
            done = int(rows[-1]) + 1
            log.info("encoded %d of %d examples in %.0f s", done, pool.size, now - began)
    return torch.cat(parts)


def _ms_since(began: float, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1000 * (time.perf_counter() - began)
