"""Which metrics a sweep can be after."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from minesweep.errors import UserError
from minesweep.sweeps.spec import Sweep
from minesweep.words import nearest

if TYPE_CHECKING:
    from minesweep.objectives.base import Objective

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
)
"""Scalars of the journal beside those of the validation."""


def check_metric(sweep: Sweep, objectives: Iterable[Objective]) -> None:
    """Refuses a sweep whose metric is none that its runs log in time.

    Args:
        sweep: The sweep.
        objectives: Those of its trials; what they evaluate is known as ``val/...``,
            and at the end of a run as ``test/...``.

    Raises:
        UserError: With the nearest metric that is logged.
    """
    if sweep.metric is None:
        return
    name = sweep.metric.name
    during, at_end = set(LOGGED), set()
    for objective in objectives:
        evaluated = _evaluated(objective)
        if evaluated is None:
            if name.startswith("val/"):
                during.add(name)
            elif name.startswith("test/"):
                at_end.add(name)
            evaluated = (objective.monitor.removeprefix("val/"),)
        during |= {f"val/{metric}" for metric in evaluated}
        at_end |= {f"test/{metric}{end}" for metric in evaluated for end in ("", "_best")}
        at_end.add(f"{objective.monitor}_best")
    if name not in during | at_end:
        known = sorted(during | at_end)
        guess = nearest(name, known) or f"; known: {', '.join(known)}"
        raise UserError(f"{sweep.path}: metric.name: no run logs {name}{guess}")
    if sweep.early_terminate is not None and name not in during:
        raise UserError(
            f"{sweep.path}: early_terminate cannot follow {name}, which is known only at the end "
            "of a run; use val/accuracy"
        )


def _evaluated(objective: Objective) -> Sequence[str] | None:
    """What an objective's evaluation returns; None where it does not say."""
    classifies = objective.monitor == "val/accuracy"
    return getattr(objective, "evaluates", ("accuracy", "loss") if classifies else None)
