"""The files of MNIST: the idx format, downloads from a real local server, damage."""

import gzip
import hashlib
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minesweep.datasets.download import DownloadError, download
from minesweep.datasets.idx import IdxError, parse_idx, read_idx
from minesweep.datasets.mnist import Mnist
from minesweep.errors import UserError

ROOT = Path(__file__).parent.parent
CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(array: np.ndarray) -> bytes:
    """The idx writer that the reader is tested against."""
    header = bytes([0, 0, CODES[array.dtype.str[1:]], array.ndim])
    sizes = b"".join(struct.pack(">I", size) for size in array.shape)
    return header + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


arrays = hnp.arrays(
    dtype=st.sampled_from(list(CODES)).map(np.dtype),
    shape=hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4),
)


# --- idx ---


@given(arrays)
def test_idx_gives_back_what_was_written(array):
    found = parse_idx(idx_bytes(array))
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.dtype.isnative
    assert found.flags.writeable
    np.testing.assert_array_equal(found, array)


@given(arrays, st.data())
def test_idx_cut_at_any_byte_or_too_long_is_refused(array, data):
    whole = idx_bytes(array)
    cut = data.draw(st.integers(0, len(whole) - 1))
    for broken in (whole[:cut], whole + b"\0"):
        with pytest.raises(IdxError):
            parse_idx(broken)


@pytest.mark.parametrize("magic", [b"\0\0\x08", b"\1\0\x08\1", b"\0\0\x07\1", b"<htm", b""])
def test_idx_wrong_magic_is_refused(magic):
    with pytest.raises(IdxError, match="magic"):
        parse_idx(magic + (b"" if len(magic) < 4 else struct.pack(">I", 1) + b"x"))


def test_idx_reads_packed_and_unpacked_whatever_the_name(tmp_path):
    array = np.arange(6, dtype="i4").reshape(2, 3)
    packed = gzip.compress(idx_bytes(array))
    for name, content in {"a.gz": packed, "b": packed, "c": idx_bytes(array)}.items():
        (tmp_path / name).write_bytes(content)
        np.testing.assert_array_equal(read_idx(tmp_path / name), array)
    for broken in (packed[:-9], packed[:20], packed[:12] + b"\xff\xff" + packed[14:]):
        (tmp_path / "a.gz").write_bytes(broken)
        with pytest.raises(IdxError):
            read_idx(tmp_path / "a.gz")


# --- a small MNIST, and a server for it ---


def tiny_files() -> dict[str, bytes]:
    draw = np.random.default_rng(0)
    files = {}
    for part, count in {"train": 60, "t10k": 10}.items():
        pixels = draw.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = draw.integers(0, 10, count, dtype=np.uint8)
        files[f"{part}-images-idx3-ubyte.gz"] = gzip.compress(idx_bytes(pixels))
        files[f"{part}-labels-idx1-ubyte.gz"] = gzip.compress(idx_bytes(labels))
    return files


FILES = tiny_files()
LABELS, IMAGES = "train-labels-idx1-ubyte.gz", "train-images-idx3-ubyte.gz"


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


class TinyMnist(Mnist):
    mirrors = ()
    checksums = {name: md5(content) for name, content in FILES.items()}  # noqa: RUF012
    official = {"train": 60, "t10k": 10}  # noqa: RUF012
    validation = 5


def write(data_dir: Path, files: dict[str, bytes] = FILES) -> Path:
    raw = data_dir / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (raw / name).write_bytes(content)
    return data_dir


class Handler(BaseHTTPRequestHandler):
    """``/<how>/<name>``: how is good, truncated, wrong, missing or stalled."""

    server: "Server"

    def do_GET(self):
        how, name = self.path.strip("/").split("/")
        self.server.asked.append(self.path)
        content = FILES[name]
        if how == "missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if how == "wrong":
            content = bytes(len(content))
        if how in ("truncated", "stalled"):
            content = content[: len(content) // 2]
        self.wfile.write(content)
        if how == "stalled":
            self.wfile.flush()
            self.server.release.wait(30)

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.release = threading.Event()

    def url(self, how: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{how}/"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.release.set()
        server.shutdown()
        thread.join()


# --- downloads ---


def test_mirrors_are_tried_in_order_until_one_gives_the_file_whole(server, tmp_path):
    hows = ["missing", "truncated", "wrong", "good", "missing"]
    path = download(LABELS, [server.url(h) for h in hows], tmp_path, TinyMnist.checksums[LABELS])
    assert path == tmp_path / LABELS
    assert path.read_bytes() == FILES[LABELS]
    assert server.asked == [f"/{how}/{LABELS}" for how in hows[:4]]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("how", ["truncated", "wrong", "missing"])
def test_a_broken_download_leaves_nothing_and_says_why(server, tmp_path, how):
    with pytest.raises(DownloadError, match="404|Not Found" if how == "missing" else "broken"):
        download(LABELS, [server.url(how)], tmp_path, TinyMnist.checksums[LABELS])
    assert list(tmp_path.iterdir()) == []


def test_without_a_checksum_a_download_that_breaks_off_is_refused(server, tmp_path):
    mirrors = [server.url("truncated"), server.url("good")]
    path = download(LABELS, mirrors, tmp_path, None)
    assert path.read_bytes() == FILES[LABELS]
    with pytest.raises(DownloadError, match="bytes before its end"):
        download(IMAGES, mirrors[:1], tmp_path, None)
    assert list(tmp_path.iterdir()) == [path]


def test_a_mirror_that_stalls_is_left_for_the_next(server, tmp_path, monkeypatch):
    monkeypatch.setattr("minesweep.datasets.download.READ_TIMEOUT", 0.2)
    mirrors = [server.url("stalled"), server.url("good")]
    path = download(IMAGES, mirrors, tmp_path, TinyMnist.checksums[IMAGES])
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(DownloadError, match="timed out"):
        download(LABELS, mirrors[:1], tmp_path, TinyMnist.checksums[LABELS])


def test_a_killed_download_leaves_no_file_that_counts(server, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    program = (
        "import sys; from pathlib import Path; from minesweep.datasets.download import download; "
        "download(sys.argv[1], [sys.argv[2]], Path(sys.argv[3]), sys.argv[4])"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, IMAGES, server.url("stalled"), raw, "0" * 32],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    try:
        wait = threading.Event()
        while not list(raw.glob(".*.part")):  # the download is under way
            assert child.poll() is None
            wait.wait(0.02)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not (raw / IMAGES).exists()
    dataset = TinyMnist()
    dataset.mirrors = (server.url("good"),)
    assert len(dataset.load(tmp_path).train) == 55
    assert (raw / IMAGES).read_bytes() == FILES[IMAGES]


def test_only_missing_files_are_downloaded(server, tmp_path):
    write(tmp_path, {name: FILES[name] for name in FILES if name != LABELS})
    dataset = TinyMnist()
    dataset.mirrors = (server.url("good"),)
    dataset.load(tmp_path)
    dataset.load(tmp_path)
    assert server.asked == [f"/good/{LABELS}"]


def test_no_file_and_no_network_is_one_line_that_helps(tmp_path):
    with Server() as closed:  # its port is free again, so that nobody answers there
        url = closed.url("good")
    dataset = TinyMnist()
    dataset.mirrors = (url,)
    with pytest.raises(UserError) as caught:
        dataset.load(tmp_path)
    line = str(caught.value)
    assert str(tmp_path / "MNIST" / "raw" / IMAGES) in line
    assert "missing" in line
    assert "dataset=digits" in line
    assert "\n" not in line
    assert not (tmp_path / "MNIST").exists()


# --- files of MNIST ---


def test_packed_and_unpacked_files_give_the_same_data(tmp_path):
    write(tmp_path / "packed")
    unpacked = {name.removesuffix(".gz"): gzip.decompress(FILES[name]) for name in FILES}
    write(tmp_path / "unpacked", unpacked)
    found = {TinyMnist().load(tmp_path / way).fingerprint() for way in ("packed", "unpacked")}
    assert len(found) == 1


def damaged(name: str) -> bytes:
    pixels = np.zeros((59, 28, 28), np.uint8)
    labels = np.arange(60, dtype=np.uint8)  # up to 59, where classes end at 9
    return {
        IMAGES: FILES[IMAGES][:-1],
        LABELS: gzip.compress(idx_bytes(np.zeros(60, np.uint8))),  # whole, but not the official
        IMAGES[:-3]: idx_bytes(pixels),
        LABELS[:-3]: idx_bytes(labels),
        "t10k-labels-idx1-ubyte": b"<html>not found</html>",
    }[name]


@pytest.mark.parametrize(
    "name", [IMAGES, LABELS, IMAGES[:-3], LABELS[:-3], "t10k-labels-idx1-ubyte"]
)
def test_a_damaged_file_is_named(tmp_path, name):
    write(tmp_path)
    raw = tmp_path / "MNIST" / "raw"
    (raw / f"{name.removesuffix('.gz')}.gz").unlink()
    (raw / name).write_bytes(damaged(name))
    with pytest.raises(UserError, match="is damaged") as caught:
        TinyMnist().load(tmp_path)
    assert str(raw / name) in str(caught.value)
    assert "delete it" in str(caught.value)
    assert "\n" not in str(caught.value)
