"""A hub that does not answer costs a second, not the minute of its client's retries."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from minesweep.errors import UserError
from minesweep.models.timm import Timm
from minesweep.network import hub


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[socket.socket]:
    """A socket that answers once it listens, in the hub's place."""
    monkeypatch.setattr("minesweep.network.getproxies", dict)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield taken


def test_the_cache_alone_is_read_where_the_hub_does_not_answer(server: socket.socket) -> None:
    with hub():
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE
    with pytest.raises(OSError, match=r"127\.0\.0\.1 does not answer"), hub():
        raise FileNotFoundError("retry")
    with pytest.raises(TypeError), hub():
        raise TypeError
    assert not constants.HF_HUB_OFFLINE
    server.listen()
    with hub():
        assert not constants.HF_HUB_OFFLINE


def test_weights_are_asked_for_once(
    server: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    told = r"no weights of resnet10t could be had \(127\.0\.0\.1 does not answer"
    with pytest.raises(UserError, match=told):
        Timm("resnet10t", pretrained=True, input_shape=(3, 64, 64), num_classes=2)
    assert "Retrying" not in caplog.text
