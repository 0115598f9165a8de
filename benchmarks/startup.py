"""How long it takes to answer: ``train.py --cfg job`` and ``--help`` against a bare Hydra app.

    python benchmarks/startup.py

Whole processes, in turn, so that a machine that slows down slows all; medians and ratios.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRAIN = Path(__file__).resolve().parents[1] / "src" / "train.py"
BARE = """
import hydra

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    pass

main()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.py"
        bare.write_text(BARE)
        commands = {
            "bare Hydra app, --cfg job": [str(bare), "--cfg", "job"],
            "train.py --cfg job": [str(TRAIN), "--cfg", "job"],
            "train.py --help": [str(TRAIN), "--help"],
            "train.py miner.kk=3": [str(TRAIN), "miner.kk=3"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(rounds + 1):
            for name, command in commands.items():
                began = time.perf_counter()
                subprocess.run([sys.executable, *command], capture_output=True, check=False)
                if turn:  # the first round warms the disk's cache
                    seconds[name].append(time.perf_counter() - began)
    base = seconds["bare Hydra app, --cfg job"]
    for name, values in seconds.items():
        ratios = [a / b for a, b in zip(values, base, strict=True)]
        print(
            f"{name:28} {statistics.median(values):6.3f} s  [{min(values):.3f}, {max(values):.3f}]"
            f"   ratio {statistics.median(ratios):.2f}"
        )


if __name__ == "__main__":
    main()
