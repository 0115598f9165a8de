"""Which metrics a sweep can be after."""

from __future__ import annotations

from minesweep.config.checks import nearest
from minesweep.errors import UserError
from minesweep.sweeps.spec import Sweep

LOGGED = (
    "lr",
    "mining/flipped_share",
    "mining/loss_share",
    "mining/reselected",
    "samples/backward",
    "samples/forward",
    "train/accuracy",
    "train/accuracy_running",
    "train/loss_batch",
    "train/loss_selected",
    "val/accuracy",
    "val/accuracy_fixed",
    "val/average_precision",
    "val/f1",
    "val/f1_fixed",
    "val/loss",
    "val/roc_auc",
)
"""Scalars of the journal."""
SUMMARISED = (
    "test/accuracy",
    "test/accuracy_best",
    "test/average_precision",
    "test/f1",
    "test/loss",
    "test/roc_auc",
    "test/roc_auc_best",
    "val/accuracy_best",
    "val/roc_auc_best",
)
"""Further ones that only a finished run has."""


def check_metric(sweep: Sweep) -> None:
    """Raises a UserError where the sweep's metric is none that a run logs in time."""
    if sweep.metric is None:
        return
    name, known = sweep.metric.name, (*LOGGED, *SUMMARISED)
    if name not in known:
        guess = nearest(name, known) or f"; known: {', '.join(known)}"
        raise UserError(f"{sweep.path}: metric.name: no run logs {name}{guess}")
    if sweep.early_terminate is not None and name in SUMMARISED:
        raise UserError(
            f"{sweep.path}: early_terminate cannot follow {name}, which is known only at the end "
            "of a run; use val/accuracy"
        )
