"""Runs a W&B sweep file here, without an account: ``python src/sweep.py sweeps/nk.yaml``.

Started again, it goes on where it stopped. Overrides after the file hold for every trial.
With --until-sure it adds seeds until it knows which arms help, cost, or make no difference.
"""

from __future__ import annotations

import argparse
import os
import sys

from minesweep.config.entry import clear_errors


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("file", metavar="FILE", help="a W&B sweep file, such as sweeps/nk.yaml")
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="e.g. dataset=digits")
    parser.add_argument("--check", action="store_true", help="check, print the plan, run nothing")
    parser.add_argument(
        "--launcher",
        default="basic",
        help="basic (in this process), joblib, submitit_local, submitit_slurm, or any of Hydra's",
    )
    parser.add_argument(
        "--jobs", type=int, default=1, help="trials at a time; they share the cores"
    )
    parser.add_argument(
        "--worker",
        action="store_true",
        help="be one of several that share the runs' folder, on any machines: take trials that "
        "nobody is at, print no report",
    )
    parser.add_argument("--count", type=int, help="at most so many trials (instead of run_cap)")
    parser.add_argument("--retries", type=int, default=1, help="further tries of a failed trial")
    parser.add_argument("--seed", type=int, default=0, help="of a random or bayes search")
    parser.add_argument(
        "--until-sure",
        action="store_true",
        help="add seeds to a grid until each arm is answered; an answered arm gets no more",
    )
    parser.add_argument(
        "--care",
        type=float,
        metavar="D",
        help="with --until-sure: the smallest difference that matters, in points of the metric "
        "(default: 0.5 for an accuracy)",
    )
    parser.add_argument(
        "--max-seeds", type=int, help="with --until-sure: seeds of an arm at most (default: 20)"
    )
    parser.add_argument(
        "--budget",
        metavar="TIME|TRIALS",
        help="with --until-sure: what the study may spend, such as 2h, 30m or 100 (trials)",
    )
    parser.add_argument("--config-dir", help="a folder with your own datasets, models, ...")
    return parser.parse_intermixed_args()


if __name__ == "__main__":
    with clear_errors():
        from minesweep.sweeps.command import command

        arguments = command(parse_arguments())
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *arguments])
