"""Negatives that are mined anew while sentence-transformers' Trainer runs, on Quora's questions.

pip install -e '.[sentence-transformers,text]' datasets
MINESWEEP_DATA=data python examples/sentence_transformers_quora.py  # wants quora/pairs.tsv.gz there
"""

from __future__ import annotations

import argparse
import csv
import gzip
import itertools
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from minesweep.compat import import_torchvision
from minesweep.datasets.retrieval_files import Collection
from minesweep.loops.sentence_transformers import RemineMixin
from minesweep.miners.negatives import Rules

import_torchvision()  # transformers imports it, and a build for another torch needs this help
warnings.simplefilter("ignore")  # what these packages warn of as they are imported
import datasets  # noqa: E402
import transformers  # noqa: E402
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer  # noqa: E402
from sentence_transformers import SentenceTransformerTrainingArguments as Arguments  # noqa: E402
from sentence_transformers.losses import MultipleNegativesRankingLoss  # noqa: E402
from sentence_transformers.models import StaticEmbedding  # noqa: E402


class Remine(RemineMixin, transformers.TrainerCallback):
    """The callback of the Trainer."""


def duplicates(folder: Path, most: int) -> Collection:
    """The first pairs of duplicates: the first question is asked, the second is the document."""
    with gzip.open(folder / "quora" / "pairs.tsv.gz", "rt", encoding="utf-8", newline="") as file:
        lines = (x for x in csv.DictReader(file, delimiter="\t") if x["is_duplicate"] == "1")
        kept = [(x["question1"], x["question2"]) for x in itertools.islice(lines, most)]
    queries, documents = (list(dict.fromkeys(side)) for side in zip(*kept, strict=True))
    numbers = [{text: n for n, text in enumerate(texts)} for texts in (queries, documents)]
    pairs = [(numbers[0][query], numbers[1][document]) for query, document in kept]
    return Collection(documents, queries, list(dict.fromkeys(pairs)))


def encoder() -> SentenceTransformer:
    """wordllama's table as a model of sentence-transformers; any other model will do."""
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    from minesweep.datasets.tokenizers import wordllama_file

    tokenizer = wordllama_file("tokenizers/l2_supercat_tokenizer_config.json")
    (table,) = load_file(wordllama_file("weights/l2_supercat_256.safetensors")).values()
    module = StaticEmbedding(
        Tokenizer.from_file(str(tokenizer)), embedding_weights=table[:, :64].float().numpy()
    )
    return SentenceTransformer(modules=[module], device="cpu")


def main(steps: int = 30, every: int = 10, most: int = 3000) -> Remine:
    """Trains, and tells how often was mined and what the negatives are like."""
    torch.set_num_threads(1)
    found, model = duplicates(Path(os.environ.get("MINESWEEP_DATA", "data")), most), encoder()
    remine = Remine(model, found, Rules(num_negatives=2, relative_margin=0.05), every=every)
    first = remine.mined.scores[remine.mined.rows >= 0].mean()
    # With a name of its own: to hash a table fails with some versions of dill and pyarrow.
    numbers = datasets.table.InMemoryTable.from_pydict({"pair": list(range(len(found.pairs)))})
    table = datasets.Dataset(numbers, fingerprint="pairs")
    with tempfile.TemporaryDirectory() as folder:
        given: dict[str, Any] = {"learning_rate": 2e-2, "max_steps": steps, "report_to": "none"}
        given |= {"per_device_train_batch_size": 64, "save_strategy": "no", "disable_tqdm": True}
        SentenceTransformerTrainer(
            model,
            Arguments(folder, use_cpu=True, logging_steps=every, **given),
            table.with_transform(remine.rows),
            loss=MultipleNegativesRankingLoss(model),
            callbacks=[remine],
        ).train()
    last = remine.mined.scores[remine.mined.rows >= 0].mean()
    print(
        f"mined {remine.times} times for {len(found.queries)} queries among "
        f"{len(found.documents)} documents; "
        f"mean cosine of the negatives {first:.3f}, then {last:.3f}"
    )
    return remine


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--every", type=int, default=10, help="steps between two minings")
    main(**vars(parser.parse_args()))
