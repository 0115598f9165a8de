"""How long it takes to answer: ``train.py --cfg job`` and ``--help`` against a bare Hydra app.

    python benchmarks/startup.py
    python benchmarks/startup.py --parts     # only: from the command to the first step, by parts

Whole processes, in turn, so that a machine that slows down slows all; medians and ratios. The parts
are those of ``python src/train.py``, each timed where it stands in a process of its own.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import compare, facts, in_turns, options, write

TRAIN = Path(__file__).resolve().parents[1] / "src" / "train.py"
BARE = """
import hydra

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    pass

main()
"""
PARTS = """
import sys, time

marks = [("the interpreter", time.time() - float(sys.argv[1]))]

def part(name):
    marks.append((name, time.time() - float(sys.argv[1])))

import hydra, minesweep.config.entry
part("import hydra")
from minesweep.config.compose import compose
cfg = compose(["logger=none", "study=startup", f"paths.runs_dir={sys.argv[2]}"])
part("compose the configuration")
import torch
part("import torch")
import minesweep.training.run as run
part("import minesweep.training")
from minesweep.config.build import build
data = run.load_data(cfg, build(cfg, "dataset"), torch.device("cpu"))
part("read MNIST")
import torch._dynamo
part("import torch._dynamo (torch.optim does)")
from pathlib import Path
trainer = run.Trainer(cfg, data, run.RunFolder(Path(sys.argv[2])))
part("model, miner, optimizer")
trainer.model.train()
trainer.update()
part("the first step (the way back is chosen)")
trainer.update()
part("the second step")
for (name, there), (_, before) in zip(marks, [("", 0.0), *marks]):
    print(f"{there - before:.4f} {name}")
"""


def main(argv: list[str] | None = None) -> None:
    parser = options(str(__doc__), "startup", rounds=15)
    parser.add_argument("--parts", action="store_true", help="the parts alone; nothing is written")
    given = parser.parse_args(argv)
    by_part = parts(min(given.rounds, 5))
    for name, middle in by_part.items():
        print(f"{middle:7.3f} s  {name}")
    if given.parts:
        return
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.py"
        bare.write_text(BARE)
        commands = {
            "bare Hydra app, --cfg job": [str(bare), "--cfg", "job"],
            "train.py --cfg job": [str(TRAIN), "--cfg", "job"],
            "train.py --help": [str(TRAIN), "--help"],
            "train.py miner.kk=3": [str(TRAIN), "miner.kk=3"],
        }
        cases = {name: lambda command=command: run(command) for name, command in commands.items()}
        times = in_turns(cases, given.rounds)  # the warming round fills the disk's cache
    peer, ours, *_ = times
    known = facts(("hydra-core",))
    against = f"a bare Hydra app ({known['versions']['hydra-core']})"
    row = compare(ours, against, times[ours], times[peer], most=1.3)
    write(given.output, [row], {"seconds": times, "parts": by_part}, note=given.note, **known)


def run(command: list[str]) -> None:
    subprocess.run([sys.executable, *command], capture_output=True, check=False)


def parts(rounds: int) -> dict[str, float]:
    """Seconds of each part between the command and the second step: the median of the rounds."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            command = [sys.executable, "-c", PARTS, str(time.time()), folder]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            for line in done.stdout.splitlines():
                taken, name = line.split(maxsplit=1)
                found.setdefault(name, []).append(float(taken))
    medians = {name: statistics.median(taken) for name, taken in found.items()}
    return medians | {"in all": sum(medians.values())}


if __name__ == "__main__":
    main()
