"""What surrounds an entry: one clear line and exit status 1 for what the user can mend."""

from __future__ import annotations

import gc
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
        from minesweep.config.overrides import user_folders

        folder = next(iter(user_folders(sys.argv)), None)
        sys.exit(_line(explain(error, command_line_overrides(), folder)))
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


def prepare_arguments() -> None:
    """Readies the command line for Hydra: names are text, and options that do nothing are told."""
    from minesweep.config.overrides import IGNORED, names_as_text, user_folders

    words = sys.argv[1:]
    for word in list(words):
        name = word.lstrip("+").partition("=")[0]
        if name in IGNORED:
            words.remove(word)
            print(_line(f"{name} is ignored: {IGNORED[name]}"), file=sys.stderr)
    several = any(word in ("-m", "--multirun") for word in words)
    sys.argv[1:] = names_as_text(words, user_folders(words), several)


def collect_garbage_again() -> None:
    """Ends the part of a process that imports: an entry that begins with ``gc.disable()`` takes a
    fifth less for it.

    What is there by now stays, and is not looked at again. Nothing happens in a process that
    collects garbage already.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def _line(message: str) -> str:
    return "minesweep: " + " ".join(message.split())
