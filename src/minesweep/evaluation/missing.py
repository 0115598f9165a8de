"""Metrics that cannot be computed: they are NaN, and a run says once why."""

from __future__ import annotations

import logging
import math
from functools import cache

from minesweep.errors import UserError

log = logging.getLogger(__name__)

NAN = math.nan


class NotComputable(UserError):
    """A metric has no value for these data, for example because they have one class alone."""


@cache
def tell(reason: str) -> None:
    """Logs a warning, the first time that this process is given it."""
    log.warning("%s", reason)
