"""How long it takes to answer: ``train.py --cfg job`` and ``--help`` against a bare Hydra app.

    python benchmarks/startup.py

Whole processes, in turn, so that a machine that slows down slows all; medians and ratios.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
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


def main(argv: list[str] | None = None) -> None:
    given = options(str(__doc__), "startup", rounds=15).parse_args(argv)
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
    write(given.output, [row], {"seconds": times}, note=given.note, **known)


def run(command: list[str]) -> None:
    subprocess.run([sys.executable, *command], capture_output=True, check=False)


if __name__ == "__main__":
    main()
