"""Hard examples in transformers.Trainer: a tiny BERT judges whether two questions are the same.

pip install -e '.[transformers]'
MINESWEEP_DATA=data python examples/huggingface_quora.py     # wants quora/pairs.tsv.gz there
"""

from __future__ import annotations

import argparse
import csv
import gzip
import itertools
import os
import tempfile
import time
import warnings
import zlib
from pathlib import Path

import torch
from torch import Tensor

from minesweep import HardExamples
from minesweep.compat import import_torchvision
from minesweep.loops.huggingface import HardExamplesMixin
from minesweep.miners import All, Ohem

import_torchvision()  # transformers imports it, and a build for another torch needs this help
import transformers  # noqa: E402

TOKENS, VOCABULARY = 32, 4096
Example = dict[str, Tensor]


class Mined(HardExamplesMixin, transformers.Trainer):
    """The Trainer, learning from the hard examples."""


def read(folder: Path, most: int) -> list[Example]:
    """The first pairs of the file, as token ids: hashed words, in place of a tokenizer."""
    with gzip.open(folder / "quora" / "pairs.tsv.gz", "rt", encoding="utf-8", newline="") as file:
        lines = csv.DictReader(file, delimiter="\t")
        return [encoded(line) for line in itertools.islice(lines, most)]


def encoded(line: dict[str, str]) -> Example:
    words = f"{line['question1']} [SEP] {line['question2']}".lower().split()[:TOKENS]
    ids = torch.zeros(TOKENS, dtype=torch.long)
    ids[: len(words)] = torch.tensor([1 + zlib.crc32(w.encode()) % (VOCABULARY - 1) for w in words])
    same = torch.tensor(int(line["is_duplicate"]))
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": same}


def main(steps: int = 30, n: int = 64, k: int = 16) -> dict[str, dict[str, float]]:
    """Trains on all n and on the hardest k of each batch; returns seconds and the last loss."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    pairs = read(Path(os.environ.get("MINESWEEP_DATA", "data")), most=n * steps)
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=TOKENS,
        num_labels=2,
    )
    found = {}
    for name, miner in {"all": All(), "hard": Ohem(k=k)}.items():
        transformers.set_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            settings = transformers.TrainingArguments(
                folder,
                max_steps=steps,
                per_device_train_batch_size=n,
                learning_rate=5e-4,
                logging_steps=steps,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=True,
                seed=0,
            )
            hard = HardExamples(miner)
            model = transformers.BertForSequenceClassification(config)
            trainer = Mined(model, settings, train_dataset=pairs, hard=hard)
            began = time.perf_counter()
            trainer.train()
            seconds = time.perf_counter() - began
        found[name] = {"seconds": seconds, **hard.log()}
        print(f"{name:5} {seconds:6.1f} s  backward={hard.way}  {hard.log()}")
    saved = 1 - found["hard"]["seconds"] / found["all"]["seconds"]
    print(f"learning from the hardest {k} of {n} saves {saved:.0%} of the time")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=30)
    main(parser.parse_args().steps)
