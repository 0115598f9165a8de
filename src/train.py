"""Trains one run: ``python src/train.py miner=ohem miner.k=384``.

``--help`` lists the groups, ``--cfg job`` the configuration, ``-m`` runs a product of choices.
"""

from __future__ import annotations

import gc
from typing import Any

import hydra
from omegaconf import DictConfig

from minesweep.config.entry import (
    clear_errors,
    clear_job_errors,
    collect_garbage_again,
    prepare_arguments,
)
from minesweep.config.places import VERSION_BASE


@hydra.main(config_path="../conf", config_name="train", **VERSION_BASE)
def main(cfg: DictConfig) -> dict[str, Any]:
    # Imported here: --help, --cfg job and a wrong key must answer at once.
    from minesweep.training.run import run

    collect_garbage_again()
    with clear_job_errors():
        return run(cfg)


if __name__ == "__main__":
    gc.disable()
    with clear_errors():
        prepare_arguments()
        main()
