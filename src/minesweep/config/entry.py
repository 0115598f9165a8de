"""What surrounds an entry: one clear line and exit status 1 for what the user can mend."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import minesweep.config.places  # noqa: F401  (registers the resolver that conf/ uses)

TRACEBACKS = os.environ.get("HYDRA_FULL_ERROR") == "1"
"""Whether the user asked for tracebacks; read before this module sets the same switch."""


@contextmanager
def clear_errors() -> Iterator[None]:
    """Prints a UserError, or an error of Hydra's, as one line and exits with status 1.

    Any other exception is a fault of ours (or of a user's own code) and keeps its traceback,
    as do all with ``HYDRA_FULL_ERROR=1``.
    """
    if TRACEBACKS:
        yield
        return
    # Hydra would print its own message of several lines; so it has to let its errors through.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from minesweep.errors import UserError

    try:
        yield
    except UserError as error:
        sys.exit(_line(str(error)))
    except (HydraException, OmegaConfBaseException) as error:
        from minesweep.config.compose import command_line_overrides, explain

        sys.exit(_line(explain(error, command_line_overrides(), _option("--config-dir", "-cd"))))
    finally:
        del os.environ["HYDRA_FULL_ERROR"]


@contextmanager
def clear_job_errors() -> Iterator[None]:
    """The same inside a single job, whose errors Hydra would precede with a line of its own.

    A job of a multirun raises: one trial must not end its siblings.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from minesweep.errors import UserError

    try:
        yield
    except UserError as error:
        if TRACEBACKS or HydraConfig.get().mode is not RunMode.RUN:
            raise
        sys.exit(_line(str(error)))


def _line(message: str) -> str:
    return "minesweep: " + " ".join(message.split())


def _option(*names: str) -> str | None:
    """The value of a command-line option that Hydra reads, for a message."""
    for position, word in enumerate(sys.argv):
        name, _, value = word.partition("=")
        if name in names:
            return value or (sys.argv[position + 1] if position + 1 < len(sys.argv) else None)
    return None
