"""The page over all runs, and TensorBoard beside it: ``python src/dashboard.py``.

``--wandb ENTITY/PROJECT`` instead saves a workspace and a report at Weights & Biases.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from minesweep.config.entry import clear_errors
from minesweep.config.places import runs_folder


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Writes runs/index.html, a page over all runs, and starts TensorBoard on this "
        "machine's own address; Ctrl-C ends both."
    )
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=runs_folder(),
        help="where the runs lie (default: runs, or MINESWEEP_RUNS)",
    )
    parser.add_argument(
        "--no-tensorboard", action="store_true", help="write the page once, and start nothing"
    )
    parser.add_argument(
        "--every", type=float, default=10, metavar="SECONDS", help="between two writings (10)"
    )
    parser.add_argument(
        "--wandb",
        metavar="ENTITY/PROJECT",
        help="save a workspace and a report of each study at W&B instead, and end",
    )
    return parser.parse_args()


if __name__ == "__main__":
    options = parse_arguments()
    with clear_errors():
        # Imported here: --help and a wrong option must answer at once.
        if options.wandb:
            from minesweep.dashboard.cloud import save

            print(*save(options.wandb, options.folder), sep="\n")
        elif options.no_tensorboard:
            from minesweep.dashboard.index import write_index

            print(write_index(options.folder))
        else:
            from minesweep.dashboard.watch import watch

            watch(options.folder, options.every)
