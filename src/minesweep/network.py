"""Whether a server can be reached, asked before a library spends a minute on its retries."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import ParseResult, urlparse
from urllib.request import getproxies


def answers(host: ParseResult) -> bool:
    """Whether the server of a URL takes a connection within a second."""
    port = host.port or (80 if host.scheme == "http" else 443)
    try:
        socket.create_connection((host.hostname or "", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def hub() -> Iterator[None]:
    """While entered, Hugging Face's libraries read their cache alone if the hub does not answer.

    Else they would ask six times for each file, for a minute, and also for one that is cached.

    Raises:
        OSError: What was asked for failed; the error names the hub if that does not answer.
    """
    from huggingface_hub import constants, utils

    host = urlparse(constants.ENDPOINT)
    if constants.HF_HUB_OFFLINE or getproxies() or answers(host):
        yield
        return
    # datasets has read the setting when it was imported.
    known: list[Any] = [constants, sys.modules.get("datasets.config")]
    # Before 1.0 the hub's sessions keep the setting that they began with.
    begin_anew = getattr(utils, "reset_sessions", lambda: None)
    for module in filter(None, known):
        module.HF_HUB_OFFLINE = True
    begin_anew()
    try:
        yield
    except OSError as error:
        raise OSError(f"{host.hostname} does not answer, and the cache does not have it") from error
    finally:
        for module in filter(None, known):
            module.HF_HUB_OFFLINE = False
        begin_anew()
