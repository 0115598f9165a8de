"""Negatives that are mined again while a Trainer of sentence-transformers runs."""

from __future__ import annotations

from typing import Any

import torch

from minesweep.datasets.corpus import Lists
from minesweep.datasets.retrieval_files import Collection
from minesweep.errors import UserError
from minesweep.miners.negatives import Rules
from minesweep.miners.offline import mine_negatives, unit_vectors


class RemineMixin:
    """Mines with the model as it is: before a training, and every ``every`` steps of it.

    Write it before ``transformers.TrainerCallback`` in the list of bases, and give the Trainer
    ``datasets.Dataset.from_dict({"pair": range(len(found.pairs))}).with_transform(remine.rows)``.
    A batch that is fetched ahead has the older negatives. Random ones fill up what is short.
    """

    def __init__(self, model: Any, found: Collection, rules: Rules, every: int) -> None:
        self.found, self.rules, self.every, self.times = found, rules, every, 0
        answers: list[list[int]] = [[] for _ in found.queries]
        for query, document in found.pairs:
            answers[query].append(document)
        self.known = Lists.of(answers)
        self.mine(model)

    def on_step_end(self, args: Any, state: Any, control: Any, *, model: Any, **more: Any) -> None:
        """The Trainer's hook."""
        if args.dataloader_num_workers:
            raise UserError("dataloader_num_workers must be 0: workers do not see what is mined")
        if state.global_step % self.every == 0 and state.global_step < state.max_steps:
            self.mine(model)

    def mine(self, model: Any) -> None:
        """Encodes all texts and chooses each query's negatives."""
        training, found = model.training, self.found
        given = {"convert_to_tensor": True, "show_progress_bar": False}
        queries, documents = (
            unit_vectors(lambda part: model.encode(part, **given), texts, lambda count: None).cpu()
            for texts in (found.queries, found.documents)
        )
        model.train(training)
        self.mined = mine_negatives(queries, documents, self.known, self.rules, seed=self.times)
        self.negatives, every = self.mined.rows.clone(), torch.arange(len(queries))
        while (short := (self.negatives < 0) | self.known.contains(every, self.negatives)).any():
            self.negatives[short] = torch.randint(len(documents), (int(short.sum()),))
        self.times += 1

    def rows(self, batch: dict[str, list[int]]) -> dict[str, list[str]]:
        """Query, positive and negatives of ``batch["pair"]``: a transform of ``datasets``."""
        asked, answers = zip(*(self.found.pairs[pair] for pair in batch["pair"]), strict=True)
        columns = {f"negative_{m + 1}": c for m, c in enumerate(self.negatives[list(asked)].T)}
        texts = {"positive": answers, **{name: c.tolist() for name, c in columns.items()}}
        table = {name: [self.found.documents[row] for row in rows] for name, rows in texts.items()}
        return {"query": [self.found.queries[query] for query in asked], **table}
