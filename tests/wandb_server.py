"""A W&B protocol server for the tests, and the pytest fixture `wandb_server`.

The real `wandb sweep`, `wandb agent`, `wandb sync` and `wandb.init` talk to it over loopback,
so that a test sees what a W&B account would have received. Everything is kept in memory; see
wandb_backend.py for what is answered and what is not.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from children import end_wandb
from wandb_backend import Backend

API_KEY = "a" * 40  # the client checks the length alone

# `wandb agent`, except that it asks for its next trial every 0.1 s instead of every 5 s.
_QUICK_AGENT = """\
from wandb import wandb_agent
from wandb.cli.cli import cli
wandb_agent.Agent.POLL_INTERVAL = 0.1
cli()
"""


class WandbServer(Backend):
    """The server: a context manager that listens on a free loopback port.

    Args:
        folder: where clients keep their run folders, configuration and cache (`env`).
        seed: of random sweeps.
    """

    def __init__(self, folder: Path, seed: int = 0) -> None:
        super().__init__(seed)
        self.folder = folder
        self.errors: list[str] = []
        # A status to answer everything with from now on, or "slow", or "empty".
        self.fault: int | str | None = None
        self._over = threading.Event()
        self._http = _HTTPServer(self)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> WandbServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.stop()

    def stop(self) -> None:
        """Goes away: whoever connects from now on is refused."""
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def has_fault(self) -> bool:
        """Whether requests are to be answered wrongly now, after the wait of a slow server."""
        if self.fault == "slow":
            self._over.wait()
        return self.fault is not None

    def env(self, python: str = sys.executable) -> dict[str, str]:
        """The whole environment of a client process: this server, and nothing of the user's.

        Args:
            python: the interpreter that an agent is to run its trials with.
        """
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
        directories = {
            variable: self.folder / name
            for variable, name in [
                ("WANDB_DIR", "runs"),
                ("WANDB_CONFIG_DIR", "config"),
                ("WANDB_CACHE_DIR", "cache"),
                ("WANDB_DATA_DIR", "data"),
                ("WANDB_ARTIFACT_DIR", "artifacts"),
            ]
        }
        for directory in directories.values():
            directory.mkdir(parents=True, exist_ok=True)
        return {
            **inherited,
            **{variable: str(directory) for variable, directory in directories.items()},
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": API_KEY,
            "WANDB_ERROR_REPORTING": "false",  # it would go to a public host
            # A machine that is busy with the other tests can take its time to answer.
            "WANDB_INIT_TIMEOUT": "250",
            "WANDB_HTTP_TIMEOUT": "200",
            "NETRC": str(self.folder / "netrc"),
            # The agent's ${interpreter} is whatever `python` comes first here.
            "PATH": f"{Path(python).parent}{os.pathsep}{inherited.get('PATH', '')}",
        }

    def command(self, *arguments: str, python: str = sys.executable) -> list[str]:
        """The command line of `wandb <arguments>`; an agent asks for trials without waiting."""
        if arguments[0] == "agent":
            return [python, "-c", _QUICK_AGENT, *arguments]
        return [str(Path(python).with_name("wandb")), *arguments]


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = False  # closing the server waits for the requests in flight

    def __init__(self, state: WandbServer) -> None:
        self.state = state
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep a fault for the fixture to report; a client may be killed at any time."""
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            self.state.errors.append(repr(error))


class _Handler(BaseHTTPRequestHandler):
    """HTTP/1.0, one request a connection, so that none is open when the server closes."""

    timeout = 10
    server: _HTTPServer

    def do_POST(self) -> None:
        body = self._body()
        state = self.server.state
        if state.has_fault():
            status = state.fault if isinstance(state.fault, int) else 200
            self._send(status, {"errors": [{"message": "fault"}]} if status > 200 else {})
            return
        answer: dict[str, Any] | None = {}
        with state.changed:
            if self.path == "/graphql":
                answer = state.graphql(json.loads(body))
            elif self.path.endswith("/file_stream"):
                _, _, _, project, run_id, _ = self.path.split("/")
                state.file_stream(unquote(project), unquote(run_id), json.loads(body))
            elif not self.path.startswith("/sdk/otel/"):
                state.unanswered.append(self.path)
                answer = None
            state.changed.notify_all()
        if answer is None:
            self._send(400, {"errors": [{"message": "this test server does not know that"}]})
        else:
            self._send(200, answer)

    def do_PUT(self) -> None:
        body = self._body()
        _, _, project, run_id, name = unquote(self.path).split("/", 4)
        with self.server.state.changed:
            run = self.server.state.find_run(project, run_id)
            assert run is not None, f"upload to the unknown run {project}/{run_id}"
            run.files[name] = body
        self._send(200, {})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _send(self, status: int, answer: Mapping[str, Any]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Print nothing: a test's output is its own."""


@pytest.fixture
def wandb_server(tmp_path: Path) -> Iterator[WandbServer]:
    """A W&B server of the test's own; a fault inside it fails the test."""

    with WandbServer(tmp_path / "wandb_client") as server:
        yield server
        end_wandb()
    assert not server.errors
