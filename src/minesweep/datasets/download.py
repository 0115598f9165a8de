"""Downloads one file from the first mirror that gives it whole."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 4.0
"""Seconds. Short, so that a machine without a network learns it soon."""
READ_TIMEOUT = 30.0
"""Seconds without a byte, once connected."""
_CHUNK = 1 << 16
_QUIET = 1.0  # seconds before a progress bar is shown


class DownloadError(Exception):
    """No mirror gave the file; the message says why, mirror by mirror."""


def md5(path: Path) -> str:
    """The MD5 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, _md5).hexdigest()


def download(name: str, mirrors: Sequence[str], folder: Path, checksum: str | None) -> Path:
    """Downloads ``name`` into ``folder``.

    The bytes go to a temporary file beside the target, which takes the target's name only
    after its MD5 was found right: a broken or killed download never counts as a file.

    Args:
        name: File name, put behind each mirror's address.
        mirrors: Addresses that end in ``/``, tried in order.
        folder: Where the file goes; made if missing.
        checksum: MD5 in hex; None where none is known: then only the length is checked, where
            the server tells it.

    Raises:
        DownloadError: No mirror gave a file with this checksum.
    """
    failures: dict[str, list[str]] = {}
    for mirror in mirrors:
        try:
            return _fetch(mirror + name, folder / name, checksum)
        except (OSError, http.client.HTTPException, DownloadError) as error:
            failures.setdefault(_reason(error), []).append(_host(mirror))
    raise DownloadError("; ".join(f"{', '.join(at)}: {why}" for why, at in failures.items()))


def _fetch(url: str, target: Path, checksum: str | None) -> Path:
    with _opener().open(url) as response:
        log.info("downloading %s", url)
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(
            prefix=f".{target.name}.", suffix=".part", dir=target.parent
        )
        try:
            with open(descriptor, "wb") as file:
                found = _copy(response, file, target.name)
                file.flush()
                os.fsync(file.fileno())
            if response.length:
                raise DownloadError(f"broken off {response.length} bytes before its end")
            if checksum is not None and found != checksum:
                raise DownloadError(f"broken file (MD5 {found}, not {checksum})")
            os.chmod(part, 0o644)  # mkstemp makes it unreadable to others
            os.replace(part, target)
        finally:
            Path(part).unlink(missing_ok=True)
    return target


def _copy(response: http.client.HTTPResponse, file: IO[bytes], name: str) -> str:
    """Copies the body and returns its MD5. A bar is shown if that takes a while."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    progress = Progress(
        "{task.description}",
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    task = progress.add_task(name, total=response.length)
    digest, began = _md5(), time.monotonic()
    try:
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            digest.update(chunk)
            progress.advance(task, len(chunk))
            if not progress.live.is_started and time.monotonic() - began > _QUIET:
                progress.start()
    finally:
        progress.stop()
    return digest.hexdigest()


def _md5() -> hashlib._Hash:
    return hashlib.md5(usedforsecurity=False)


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", error)  # URLError wraps what happened
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__


def _host(mirror: str) -> str:
    return urllib.request.Request(mirror).host


class _Http(http.client.HTTPConnection):
    def connect(self) -> None:
        self.timeout = CONNECT_TIMEOUT
        super().connect()
        self.sock.settimeout(READ_TIMEOUT)


class _Https(_Http, http.client.HTTPSConnection):
    """The same with encryption: ``_Http`` comes first, so its ``connect`` calls that of HTTPS."""


def _opener() -> urllib.request.OpenerDirector:
    """urllib with two timeouts, one to connect and one to read, where it has one for both."""

    class HttpHandler(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(_Http, req)

    class HttpsHandler(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(_Https, req)

    return urllib.request.build_opener(HttpHandler, HttpsHandler)
