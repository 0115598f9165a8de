"""One W&B run: begun, fed on another thread, and closed within a time limit."""

from __future__ import annotations

import json
import netrc
import os
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import ParseResult, urlparse

from minesweep.network import answers
from minesweep.tracking.background import Background
from minesweep.tracking.journal import Row

FILE = "wandb.json"
"""Where a folder keeps the id of its W&B run, the project and entity, and the address online."""
SHARE_OF_UPLOAD = 0.6
"""The share of the time limit in which W&B itself uploads what is left."""


class WandbRun:
    """A W&B run whose id is kept in a folder, and resumed with it.

    Nothing that W&B does stops or delays who calls. All calls after the start are made on
    another thread, and :meth:`close` waits ``limit`` seconds at most.

    Args:
        folder: Keeps the id, and what W&B writes itself.
        limit: Seconds that :meth:`close` waits at most.
        arguments: Of ``wandb.init``: ``project``, ``entity``, ``name``, ``group``, ...
        id: Of the run, if it is not the folder's own.

    Attributes:
        id: Of the run.
        run: The ``wandb.Run``; None if W&B did not even begin one offline.
        problems: What did not arrive, in W&B's words.
    """

    def __init__(
        self, folder: Path, limit: float, arguments: Mapping[str, Any], id: str = ""
    ) -> None:
        import wandb

        self._wandb, self._limit = wandb, limit
        self.problems: list[str] = []
        self.id = id or str(kept(folder).get("id") or secrets.token_hex(4))
        keep(folder, {"id": self.id})
        self.run = self._start(folder, arguments)
        if self.run is not None:
            facts = {"id": self.id, "project": self.run.project, "entity": self.run.entity or ""}
            # There is no address offline.
            keep(folder, {**facts, "url": self.run.url} if self.run.url else facts)
        self._calls = Background("wandb")

    def _start(self, folder: Path, arguments: Mapping[str, Any]) -> Any:
        """Begins the W&B run: offline if W&B refuses it, and None if that fails as well."""
        wandb = self._wandb
        settings = {
            "init_timeout": 20,
            "console": "off",
            "silent": True,
            "finish_timeout": self._limit * SHARE_OF_UPLOAD,
            "finish_timeout_raises": True,
        }
        known = wandb.Settings.model_fields  # older versions have no limit of their own
        settings = {key: value for key, value in settings.items() if key in known}
        for way in (mode(), "offline"):
            try:
                wandb.setup()
                # What W&B has to say goes into one warning at the end.
                wandb.termsetup(wandb.Settings(silent=True), _Notes(self.problems))
                return wandb.init(
                    mode=way,
                    id=self.id,
                    resume="allow",
                    dir=folder,
                    settings=wandb.Settings(**settings),
                    **arguments,
                )
            except Exception as error:
                self.problems.append(f"{type(error).__name__}: {error}")
                end_service(wandb)  # it would say that the id is in use
        return None

    def put(self, call: Callable[[], object]) -> None:
        """Has a call made on the other thread, after those before it."""
        self._calls.put(call)

    def close(
        self, summary: Row | None, exit_code: int = 0, last: Callable[[], object] | None = None
    ) -> None:
        """Closes the W&B run within the time limit; ``problems`` holds what did not arrive.

        Args:
            summary: Joins the run's summary.
            exit_code: Of the process.
            last: A further call, after the summary.
        """
        began = time.monotonic()
        if self.run is not None:
            if summary:
                self.put(partial(self.run.summary.update, summary))
            if last is not None:
                self.put(last)
            self._calls.close(self._limit * (1 - SHARE_OF_UPLOAD) / 2)
            closing = Background("wandb-finish")
            closing.put(partial(self.run.finish, exit_code=exit_code))
            answered = closing.close(began + self._limit - time.monotonic())
            if not answered or not isinstance(closing.error, TimeoutError | None):
                end_service(self._wandb)
            self._judge(answered, closing.error)
        self._wandb.termsetup(self._wandb.Settings(), None)

    @property
    def unsent(self) -> str:
        """The first problem, in one line; empty if W&B took everything."""
        return " ".join(self.problems[0].split())[:200] if self.problems else ""

    @property
    def sync(self) -> str:
        """The command that sends the run later."""
        return f"wandb sync {Path(self.run.dir).parent}" if self.run else "wandb sync"

    def _judge(self, answered: bool, error: Exception | None) -> None:
        """Adds to the problems what went wrong at the end."""
        if self._calls.error is not None:
            self.problems.append(f"{type(self._calls.error).__name__}: {self._calls.error}")
        if not answered or isinstance(error, TimeoutError):
            self.problems.insert(0, f"no answer within {self._limit:g} seconds")
        elif error is not None:
            self.problems.append(f"{type(error).__name__}: {error}")


class _Notes:
    """Takes what W&B would print; keeps what says that data did not arrive."""

    def __init__(self, problems: list[str]) -> None:
        self._problems = problems

    def info(self, text: str) -> None:
        """Progress is of no interest."""

    def warning(self, text: str) -> None:
        if "wandb sync" in text:
            self._problems.append(text.rpartition("WARNING ")[2].partition(". ")[0])

    error = warning


def end_service(wandb: Any) -> None:
    """Ends a service process that hangs or has died, for which Python would wait at its end."""
    with suppress(Exception):  # W&B has no public way to do this
        service = wandb.sdk.wandb_setup.singleton()._connection._proc._process
        service.kill()
        service.wait()

    def forget() -> None:
        with suppress(SystemExit):  # with the exit status of the service
            wandb.teardown()

    teardown = Background("wandb-teardown")
    teardown.put(forget)
    teardown.close(5)


Mode = Literal["online", "offline", "disabled", "shared"]


def mode() -> Mode:
    """``WANDB_MODE`` if set; else online where a key is configured and the host answers.

    The host is given one second: ``wandb.init`` itself would wait 100 for a missing network.
    """
    chosen = os.environ.get("WANDB_MODE")
    if chosen:
        return cast(Mode, chosen)  # wandb_rules tells a wrong word
    host = _host()
    if has_key() and answers(host):
        return "online"
    return "offline"


def has_key() -> bool:
    """Whether a key for W&B's host is configured."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        return netrc.netrc(str(path)).authenticators(_host().hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _host() -> ParseResult:
    if address := os.environ.get("WANDB_BASE_URL"):
        return urlparse(address)
    import wandb

    return urlparse(wandb.setup().settings.base_url)


def keep(folder: Path, facts: Mapping[str, Any]) -> None:
    """Writes what a folder keeps of its W&B run."""
    (folder / FILE).write_text(json.dumps(facts) + "\n")


def kept(folder: Path) -> dict[str, Any]:
    """What a folder keeps of its W&B run; empty if it has none, or a damaged one."""
    try:
        facts = json.loads((folder / FILE).read_text())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}
