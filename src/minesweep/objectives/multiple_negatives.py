"""InfoNCE over the documents of the batch: each query's positive against all the others."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from minesweep.datasets.base import Batch, Data, Split
from minesweep.datasets.corpus import Corpus
from minesweep.datasets.documents import Documents
from minesweep.errors import UserError
from minesweep.evaluation.ranking import ranking
from minesweep.miners.base import Miner, Pool
from minesweep.objectives.base import Objective, Outcome
from minesweep.objectives.mined import Mined, hardest_negatives
from minesweep.words import check_word

HARDER = ("mined", "all")


class MultipleNegatives(Objective):
    """Cross-entropy of each query's positive among all documents of the batch.

    The documents of a batch are the positives of all its queries and the negatives that the miner
    proposes for each. The query itself, and documents that are known to answer it, are no
    negatives of it, unless the miner proposes them for it. Similarities are cosines.

    Sources: Henderson et al., arXiv 1705.00652, section 4.4; ``MultipleNegativesRankingLoss`` of
    sentence-transformers, whose mask of known positives is missing. ``hardness`` is its
    ``hardness_strength``: Robinson et al., arXiv 2010.04592, weigh negatives by
    exp(beta * similarity) in the same way.

    Args:
        scale: What cosines are multiplied by: 1 / temperature; above 0.
        hardness: alpha: alpha times the cosine, as a constant, is added to a negative's logit.
        harder: Which negatives ``hardness`` is of: ``mined`` ones or ``all``.
        chunk: Texts in a forward pass. Each chunk is run again in the backward pass. So a large
            batch needs the memory of one chunk, and has the gradient of the whole (gradient
            caching, Gao et al., arXiv 2101.06983). None for one pass.
    """

    candidate = "document"
    monitor = "val/ndcg_at_10"
    evaluates = ("ndcg_at_10", "mrr_at_10", "recall_at_1", "recall_at_10", "recall_at_100")

    def __init__(
        self,
        scale: float = 20.0,
        hardness: float = 0.0,
        harder: str = "mined",
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        if not scale > 0 or not hardness >= 0:
            raise UserError(
                f"objective.scale={scale} must be above 0, objective.hardness={hardness} at least 0"
            )
        self.scale, self.hardness, self.chunk = scale, hardness, chunk
        self.harder = check_word("objective.harder", harder, HARDER)
        self._corpus: Corpus | None = None

    def setup(self, model: nn.Module, pool: Pool, data: Data) -> None:
        if pool.corpus is None:
            raise UserError(
                "objective=multiple_negatives compares queries with documents, and the dataset has "
                "none: choose dataset=quora_retrieval or dataset=retrieval"
            )
        self._corpus = pool.corpus

    def vectors(self, outputs: Tensor) -> Tensor:
        """Unit vectors, so that an inner product is a cosine."""
        return functional.normalize(outputs.float(), dim=1)

    def forward(self, model: nn.Module, batch: Batch, miner: Miner, step: int) -> Outcome:
        n, group = batch.rows.shape
        vectors = self.vectors(self._outputs(model, batch, n * group)).view(n, group, -1)
        queries, answers, mined = vectors[:, 0], vectors[:, 1], vectors[:, 2:].flatten(0, 1)
        cosines = queries @ torch.cat([answers, mined]).T
        logits = self.scale * cosines
        own = torch.eye(n, cosines.shape[1], dtype=torch.bool, device=cosines.device)
        if self.hardness:
            harder = ~own if self.harder == "all" else torch.ones_like(own)
            if self.harder == "mined":
                harder[:, :n] = False
            logits = logits + self.hardness * cosines.detach() * harder
        barred = self._barred(batch.rows) & ~own
        logits = logits.masked_fill(barred, -torch.inf)
        target = torch.arange(n, device=logits.device)
        losses = functional.cross_entropy(logits, target, reduction="none")
        scores = losses.detach()
        weights = miner.select(scores, step=step, rows=batch.rows, labels=batch.labels)
        assert isinstance(weights, Tensor), "a miner of documents returns one tensor of weights"
        loss = (losses * weights).sum() / weights.sum().clamp(min=1)
        with torch.no_grad():
            metrics = {
                "train/accuracy": (logits.argmax(1) == target).double().mean(),
                "train/positive_similarity": cosines.diagonal().mean(),
                "mining/masked_positives": barred.sum(1).double().mean(),
            }
        return Outcome(loss, scores, weights, metrics, details={"cosines": cosines.detach()})

    def _outputs(self, model: nn.Module, batch: Batch, texts: int) -> Tensor:
        if self.chunk is None or self.chunk >= texts or not torch.is_grad_enabled():
            return model(batch.inputs)
        parts = torch.arange(texts, device=batch.rows.device).split(self.chunk)
        return torch.cat(
            [checkpoint(_run, model, batch, part, use_reentrant=False) for part in parts]
        )

    def _barred(self, rows: Tensor) -> Tensor:
        """``[n, n (1 + m)]`` bool: documents of the batch that may answer the query, or are it."""
        corpus = self._corpus
        assert corpus is not None, "setup() comes first"
        queries = rows[:, 0] - corpus.documents
        documents = torch.cat([rows[:, 1], rows[:, 2:].flatten()]).expand(len(rows), -1)
        itself = documents == corpus.itself[queries][:, None]
        known = corpus.known.contains(queries, documents)
        # A document that the miner proposes is a negative of its query, whatever is known.
        own = torch.arange(len(rows), device=rows.device).repeat_interleave(rows.shape[1] - 2)
        proposed = torch.cat([own.new_full((len(rows),), -1), own])
        return (itself | known) & (proposed != torch.arange(len(rows), device=rows.device)[:, None])

    def mined(self, batch: Batch, outcome: Outcome, most: int) -> Mined | None:
        """The queries whose negative is nearest, measured against their positive.

        Shown is the most similar of the query's mined negatives; where none is mined, the most
        similar other positive of the batch.
        """
        n, group = batch.rows.shape
        cosines, m = outcome.details["cosines"], group - 2
        negatives = cosines.masked_fill(self._barred(batch.rows), -torch.inf)
        negatives[:, :n].fill_diagonal_(-torch.inf)
        shown = negatives
        if m:
            owner = torch.arange(n, device=cosines.device).repeat_interleave(m)
            own = owner == torch.arange(n, device=cosines.device)[:, None]
            own = torch.cat([torch.zeros_like(cosines[:, :n], dtype=torch.bool), own], 1)
            shown = negatives.masked_fill(~own, -torch.inf)
        weights = torch.zeros_like(shown).scatter_(1, shown.argmax(1, keepdim=True), 1)
        positive = cosines[:, :n].diagonal()
        order, column, values = hardest_negatives(negatives, positive, weights, most)
        documents = torch.cat([batch.rows[:, 1], batch.rows[:, 2:].flatten()])
        rows = {
            "query": batch.rows[order, 0],
            "positive": batch.rows[order, 1],
            "negative": documents[column],
        }
        assert self._corpus is not None
        queries = rows["query"] - self._corpus.documents
        answers = self._corpus.answers.contains(queries, rows["negative"][:, None])
        further = {"loss": outcome.scores[order].float(), "answers_the_query": answers[:, 0]}
        return Mined(n, rows, values | further)

    def evaluate(self, model: nn.Module, split: Split, chunk: int = 2048) -> dict[str, float]:
        """nDCG@10, MRR@10 and recall of the split's queries against the whole corpus."""
        if not isinstance(split, Documents):
            raise UserError("objective=multiple_negatives is evaluated on a dataset of documents")

        def encode(rows: Tensor) -> Tensor:
            return torch.cat(
                [self.vectors(model(split.fetch(part).inputs)) for part in rows.split(chunk)]
            )

        documents = encode(torch.arange(split.documents, device=split.device))
        return ranking(encode(split.queries), documents, split.relevant, split.excluded)


def _run(model: nn.Module, batch: Batch, part: Tensor) -> Tensor:
    return model(batch.inputs[part])
