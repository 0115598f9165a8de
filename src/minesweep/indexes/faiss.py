"""Any index that FAISS can make from a line of text, asked for negatives."""

from __future__ import annotations

import logging
import math
import re
from typing import Any

import torch
from torch import Tensor

from minesweep.errors import UserError
from minesweep.indexes.base import Index

_PROBED = 16
"""An inverted file looks into one of so many of its lists, where nothing else is said."""

_WIDER = 4
"""How much wider the second search is, for the rows that found fewer than k in the first."""


_ANY_DIM, _LARGEST_DIM = 1024, 2**17
"""Of the vectors that a description is tried with."""


class Factory(Index):
    """An index of FAISS: ``Flat``, ``IVF256,Flat``, ``HNSW16``, ``PQ16``, ``LSH`` ...

    FAISS knows no classes. If the index type takes a selector, a large class is left out inside the
    search. Otherwise the search asks for more than k neighbours, and leaves out those of the same
    class. For rows that find fewer than k, neighbours, ``nprobe`` or ``efSearch`` grow fourfold,
    once. Rows that still find fewer are searched exactly, which costs less than another round. What
    is found is ranked by true distances. FAISS runs on the CPU here, with torch's number of
    threads.

    Args:
        factory: FAISS' description of the index.
        parameters: Its search parameters as FAISS writes them, e.g. ``nprobe=16`` or
            ``efSearch=64``. By default an inverted file probes one sixteenth of its lists.
        shortlist: Times k rows are taken from the index and ranked by true distances: for indexes
            that only estimate distances, such as ``LSH`` and ``PQ16``.
        memory: As in :class:`~minesweep.indexes.base.Index`; the index itself comes on top.
    """

    def __init__(
        self, factory: str, parameters: str = "", shortlist: int = 1, memory: int = 64
    ) -> None:
        super().__init__(memory)
        if shortlist < 1:
            raise UserError(f"shortlist={shortlist} must be at least 1")
        self.factory, self.parameters, self.shortlist = factory, parameters, shortlist
        self._check()

    def check(self, dim: int) -> None:
        self._describe(import_faiss(), dim)

    def _check(self) -> None:
        """Refuses what FAISS cannot read, before there are any embeddings."""
        faiss = import_faiss()
        zero = re.search(r"(?:IVF|HNSW|PQ|OPQ)0(?!\d)", self.factory)
        if zero:
            raise UserError(f"factory={self.factory}: {zero[0]} must be at least {zero[0][:-1]}1")
        parts = [int(number) for number in re.findall(r"PQ([1-9]\d{0,2})", self.factory)]
        # A dimension that suits every part; the true one is known when the index is built.
        dim = math.lcm(_ANY_DIM, *parts)
        if dim <= _LARGEST_DIM:
            self._set(faiss, self._describe(faiss, dim))

    def _describe(self, faiss: Any, dim: int) -> Any:
        try:
            return faiss.index_factory(dim, self.factory)
        except RuntimeError as error:
            raise UserError(
                f"factory={self.factory} describes no FAISS index of {dim} dimensions "
                f"({reason(error)}); such as Flat, IVF256,Flat, HNSW16 or PQ16 do"
            ) from None

    def _build(self) -> None:
        faiss = import_faiss()
        n, dim = self._points.shape
        faiss.omp_set_num_threads(torch.get_num_threads())
        self._quantizers: list[Any] = []
        self._vectors = self._points.cpu().numpy()
        self._index = self._describe(faiss, dim)
        inner = _inner(self._index)
        for name in ("cp", "pq"):
            if clustering := getattr(getattr(inner, name, None), "cp", getattr(inner, name, None)):
                clustering.min_points_per_centroid = 1  # or it warns on standard error
        for rotation in _rotations(self._index):
            quantizer = faiss.ProductQuantizer(rotation.d_out, rotation.M, 8)
            quantizer.cp.min_points_per_centroid = 1
            self._quantizers.append(quantizer)  # FAISS keeps no reference to it
            rotation.pq = quantizer
        graph = not hasattr(inner, "nlist") and hasattr(inner, "hnsw")
        try:
            self._index.train(self._vectors)
            if graph:  # threads would race for the order of its edges
                faiss.omp_set_num_threads(1)
            self._index.add(self._vectors)
        except RuntimeError as error:
            raise UserError(
                f"factory={self.factory} cannot be built from {n} embeddings ({reason(error)})"
            ) from None
        faiss.omp_set_num_threads(torch.get_num_threads())
        self._lists = int(getattr(inner, "nlist", 0))
        if self._lists:
            inner.nprobe = -(-self._lists // _PROBED)
        self._set(faiss, self._index)
        self._probes = int(getattr(inner, "nprobe", 0))
        self._visits = int(inner.hnsw.efSearch) if graph else 0
        self._selects = self._takes_selector()

    def _set(self, faiss: Any, index: Any) -> None:
        for word in filter(None, self.parameters.split(",")):
            name, _, value = word.partition("=")
            if re.fullmatch(r"-?[\d.]+", value) and float(value) < 1:
                raise UserError(f"parameters.{name}={value} must be at least 1")
        try:
            if self.parameters:
                faiss.ParameterSpace().set_index_parameters(index, self.parameters)
        except RuntimeError as error:
            raise UserError(
                f"parameters={self.parameters} cannot be set in {self.factory} ({reason(error)}); "
                "they look like nprobe=16 or efSearch=64"
            ) from None

    def _takes_selector(self) -> bool:
        try:
            self._index.search(self._vectors[:1], 1, params=self._settings((0, 1), 1, 1))
        except (RuntimeError, TypeError):
            return False
        return True

    def _negatives(self, places: Tensor, k: int) -> tuple[Tensor, Tensor]:
        want = min(k * self.shortlist, len(self._points))
        found = torch.full((len(places), want), -1, device=places.device)
        groups = self._classes[places].masked_fill(self._sizes[places] <= 3 * want, -1)
        for group in groups.unique().tolist():
            rows = (groups == group).nonzero()[:, 0]
            found[rows] = self._ask(places[rows], None if group < 0 else group, want, k)
        looked = (found >= 0).sum(1)
        others = len(self._points) - self._sizes[places]
        distances = self._distances(places, found)
        left = (looked < others.clamp(max=k)).nonzero()[:, 0]
        if len(left):
            distances[left], found[left] = torch.inf, -1
            distances[left, :k], found[left, :k] = self._exact(places[left], k, nearest=True)
            looked[left] = others[left]
        self.candidates = float(looked.double().mean())
        return distances, found

    def _ask(self, places: Tensor, which: int | None, want: int, k: int) -> Tensor:
        """Places ``[q, want]`` of other classes; -1: none found.

        Args:
            which: The class of all of them, where it is large.
        """
        size = int(self._sizes[places].max())
        own = None if which is None or not self._selects else self._starts[which : which + 2]
        most = want if own else min(len(self._points), want + size)
        found = torch.full((len(places), want), -1, device=places.device)
        left = torch.arange(len(places), device=places.device)
        for wider in (1, _WIDER):
            count = min(most, 4 * want * wider)
            found[left] = self._search(places[left], own, want, count, wider)
            left = left[(found[left] >= 0).sum(1) < k]
            if not len(left):
                break
        return found

    def _search(
        self, places: Tensor, own: list[int] | None, want: int, count: int, wider: int
    ) -> Tensor:
        """The first ``want`` of other classes among the ``count`` that FAISS finds."""
        settings = self._settings(own, count, wider)
        parts = []
        for block in places.split(max(1, self.memory * 2**18 // (8 * count))):
            _, at = self._index.search(self._vectors[block.cpu().numpy()], count, params=settings)
            at = torch.from_numpy(at).to(places.device)
            other = (self._classes[at] != self._classes[block, None]) & (at >= 0)
            order = (~other).int().sort(dim=1, stable=True).indices[:, :want]
            parts.append(at.masked_fill(~other, -1).gather(1, order))
        return torch.cat(parts)

    def _settings(self, own: Any, count: int, wider: int) -> Any:
        """FAISS' search parameters; None where the index has none to set."""
        faiss = import_faiss()
        words: dict[str, Any] = {}
        if own:
            self._hidden = faiss.IDSelectorRange(*own)  # FAISS keeps no reference to it
            words["sel"] = faiss.IDSelectorNot(self._hidden)
        inner = _inner(self._index)
        if self._lists:
            probes = min(self._lists, self._probes * wider)
            kind = (
                faiss.IVFPQSearchParameters
                if isinstance(inner, faiss.IndexIVFPQ)
                else faiss.SearchParametersIVF
            )
            settings = kind(nprobe=probes, **words)
        elif self._visits:
            visits = min(len(self._points), max(self._visits, 2 * count) * wider)
            settings = faiss.SearchParametersHNSW(efSearch=visits, **words)
        elif words:
            settings = faiss.SearchParameters(**words)
        else:
            return None
        outer = faiss.downcast_index(self._index)
        if isinstance(outer, faiss.IndexPreTransform):
            return faiss.SearchParametersPreTransform(index_params=settings)
        if isinstance(outer, faiss.IndexRefine):
            return faiss.IndexRefineSearchParameters(k_factor=1.0, base_index_params=settings)
        return settings


def import_faiss() -> Any:
    """FAISS, or a line that says how to get it."""
    try:
        # It tells at the level of information which of its libraries it loads.
        logging.getLogger("faiss.loader").setLevel(logging.WARNING)
        import faiss
    except ImportError as error:
        raise UserError(f"FAISS cannot be imported ({error}): pip install faiss-cpu") from None
    return faiss


def _inner(index: Any) -> Any:
    """The index that searches, below what transforms the vectors or ranks the answers."""
    faiss = import_faiss()
    index = faiss.downcast_index(index)
    while isinstance(index, faiss.IndexPreTransform | faiss.IndexRefine):
        index = faiss.downcast_index(
            index.index if isinstance(index, faiss.IndexPreTransform) else index.base_index
        )
    return index


def _rotations(index: Any) -> list[Any]:
    """The rotations before the index that are learned with a quantizer of their own."""
    faiss = import_faiss()
    outer = faiss.downcast_index(index)
    if not isinstance(outer, faiss.IndexPreTransform):
        return []
    chain = [faiss.downcast_VectorTransform(outer.chain.at(i)) for i in range(outer.chain.size())]
    return [part for part in chain if isinstance(part, faiss.OPQMatrix)]


def reason(error: RuntimeError) -> str:
    """FAISS' message without its C++ signature and file."""
    text = str(error).strip().splitlines()[0]
    text = text.split("Error: ")[-1] if "Error: " in text else text.split(": ")[-1]
    return text.strip().rstrip(".")
