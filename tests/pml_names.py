"""Tries every loss and miner of pytorch-metric-learning by its name.

``python tests/pml_names.py`` prints the table of docs/how-to/pml.md.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minesweep.config.compose import compose
from minesweep.errors import UserError
from minesweep.training import checkpoint
from minesweep.training.loop import Trainer
from minesweep.training.run import run

DEVIANT: dict[str, list[str]] = {
    "RankedListLoss": ["+objective.arguments.margin=1", "+objective.arguments.Tn=1"],
    "HistogramLoss": ["+objective.arguments.n_bins=20"],
}
"""Names that need arguments of their own."""
SETTINGS = [
    *("miner=pml", "dataset=digits", "model=embedding_mlp_256", "logger=none"),
    *("trainer.batch_size=64", "miner.per_class=8", "trainer.max_steps=12", "trainer.threads=1"),
    *("trainer.eval_every=6", "trainer.checkpoint_every=4", "trainer.progress=false"),
]


class Stop(Exception):
    """Ends a run as a killed process would."""


@dataclass
class Names:
    """What happened, by name: ``trains and resumes``, or why not."""

    found: dict[str, dict[str, str]] = field(default_factory=dict)

    def lines(self) -> list[str]:
        return [
            f"| `{name}` | {told} |" for rows in self.found.values() for name, told in rows.items()
        ]


def all_names(kind: str) -> list[str]:
    """All public classes of a module of PML."""
    import inspect
    from importlib import import_module

    module = import_module(f"pytorch_metric_learning.{kind}")
    return sorted(n for n, v in vars(module).items() if inspect.isclass(v) and n[0].isupper())


def weights(runs: Path, study: str) -> Any:
    (folder,) = (runs / study).glob("*/checkpoints")
    state = checkpoint.last_good(folder)
    assert state is not None
    summary = json.loads((folder.parent / "summary.json").read_text())
    return {name: w.tolist() for name, w in state["model"].items()}, summary


def attempt(chosen: list[str], runs: Path, name: str) -> str:
    """Trains once undisturbed and once killed at step 6, and compares the two to the bit."""
    update = Trainer.update

    def dying(self: Trainer) -> Any:
        if self.step == 6:
            raise Stop
        return update(self)

    words = [*SETTINGS, *chosen, f"paths.runs_dir={runs}"]
    try:
        run(compose([*words, f"study={name}-whole"]))
        Trainer.update = dying  # type: ignore[method-assign]
        try:
            run(compose([*words, f"study={name}-killed"]))
        except Stop:
            pass
        finally:
            Trainer.update = update  # type: ignore[method-assign]
        run(compose([*words, f"study={name}-killed"]))
    except UserError as error:
        return f"refuses: {' '.join(str(error).split())[:160]}".replace("|", "/")
    except Exception as error:
        return f"fails: {type(error).__name__}: {error}"[:160]
    same = weights(runs, f"{name}-whole") == weights(runs, f"{name}-killed")
    return "trains and resumes" if same else "trains, but resumes otherwise"


def table(runs: Path) -> Names:
    """Tries them all: each loss on all pairs, each miner with the triplet loss."""
    tried = Names()
    for kind, key in (("losses", "objective.loss"), ("miners", "miner.miner")):
        rows = tried.found.setdefault(kind, {})
        for name in all_names(kind):
            other = ["miner.miner=null"] if kind == "losses" else []
            rows[name] = attempt([*other, f"{key}={name}", *DEVIANT.get(name, [])], runs, name)
    return tried


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for kind, rows in table(Path(folder)).found.items():
            print(f"\n{kind}\n")
            for name, told in rows.items():
                print(f"| `{name}` | {told} |")
