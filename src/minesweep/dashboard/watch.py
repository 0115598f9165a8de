"""The index page kept new, and TensorBoard beside it, until Ctrl-C."""

from __future__ import annotations

import logging
import signal
import threading
from pathlib import Path

from minesweep.dashboard.index import write_index
from minesweep.errors import UserError


def watch(folder: Path, every: float) -> None:
    """Starts TensorBoard, and writes the page at once and every ``every`` seconds.

    Ends at SIGINT or SIGTERM, and then leaves a page without links to TensorBoard.
    """
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    page = write_index(folder)
    print(f"{page.resolve().as_uri()}", flush=True)
    address = start_tensorboard(folder)
    print(f"TensorBoard at {address} (Ctrl-C ends it)", flush=True)
    while not ended.is_set():
        write_index(folder, address)
        ended.wait(every)
    write_index(folder)


def start_tensorboard(folder: Path) -> str:
    """TensorBoard over ``folder`` on the loopback address, in a thread that ends with us.

    Returns:
        Its address; the port is a free one.

    Raises:
        UserError: It does not start.
    """
    from tensorboard import program

    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    server = program.TensorBoard()
    server.configure(
        argv=[
            "",
            "--logdir",
            str(folder),
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--load_fast=false",
        ]
    )
    try:
        return str(server.launch())
    except (SystemExit, program.TensorBoardServerException) as error:
        raise UserError(
            f"TensorBoard does not start ({error}); --no-tensorboard leaves it out"
        ) from None
