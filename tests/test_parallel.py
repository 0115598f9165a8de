"""Several processes on one run: the same as one, whoever writes; and one step in pieces."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from conftest import ROOT, SMALL, Train, on_digits
from torch import nn

from minesweep import parallel
from minesweep.config.compose import compose
from minesweep.errors import UserError
from minesweep.objectives.moco import MoCo
from minesweep.tracking.journal import read_rows
from minesweep.training import checkpoint
from minesweep.training.loop import Trainer
from minesweep.training.run import run

MOCHI = ["miner=mochi", *on_digits("mochi"), "logger.every=3", "trainer.eval_every=10"]


def two(work: Callable[[int, Path], None], folder: Path) -> None:
    """Runs ``work(rank, folder)`` in two processes that are connected as torchrun connects them."""
    # The store listens before anybody connects, and outlives the processes.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)

    def start(rank: int) -> None:
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port),
            "TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_USE_AGENT_STORE": "True",
        }  # fmt: skip
        work(rank, folder)
        (folder / f"done-{rank}").touch()

    context = multiprocessing.get_context("fork")  # starting torch anew would take seconds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads
        started = [context.Process(target=start, args=(rank,), daemon=True) for rank in range(2)]
        for process in started:
            process.start()
    try:
        while any(process.is_alive() for process in started):
            time.sleep(0.05)
            assert not any(process.exitcode for process in started), "one has failed"
    finally:
        for process in started:
            process.kill()
            process.join()
    assert all((folder / f"done-{rank}").exists() for rank in range(2))


def losses(runs: Path, study: str) -> list[dict[str, float]]:
    (journal,) = (runs / study).glob("*-s0-*/journal.jsonl")
    rows = read_rows(journal)
    return [{k: v for k, v in row.items() if not isinstance(v, dict)} for row in rows]


def keeping_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = Trainer.fit

    def keep(self: Trainer, *arguments: Any) -> None:
        fit(self, *arguments)
        name = f"queue-s{self.cfg.seed}-{parallel.rank()}-of-{parallel.processes()}.pt"
        torch.save(self.objective.queue.state_dict(), self.folder.path.parents[1] / name)

    monkeypatch.setattr(Trainer, "fit", keep)


def test_two_processes_compute_what_one_computes(
    train: Train, runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping_the_queue(monkeypatch)
    train(*MOCHI, "study=one")
    small = [*SMALL, *MOCHI, "trainer.progress=false", "study=two", "trainer.parallel=ddp"]

    def work(rank: int, folder: Path) -> None:
        first = run(compose(small))
        assert run(compose(small)) == first  # both find it finished
        # They stay joined for the runs that follow, one that fails in both among them.
        with pytest.raises(UserError, match="must be a multiple of 14"):
            run(compose([*small, "trainer.accumulate=7"]))
        assert run(compose([*small, "seed=1"])) != first

    two(work, tmp_path)
    assert len(list((runs_dir / "two").glob("*-s1-*/summary.json"))) == 1
    one, both = losses(runs_dir, "one"), losses(runs_dir, "two")
    assert [row["step"] for row in one] == [row["step"] for row in both]
    for a, b in zip(one, both, strict=True):
        assert b == pytest.approx(a, rel=2e-4, abs=2e-4)
    alone, first, second = (
        torch.load(runs_dir / f"queue-s0-{name}.pt") for name in ("0-of-1", "0-of-2", "1-of-2")
    )
    for name, value in first.items():
        assert torch.equal(value, second[name])
        torch.testing.assert_close(value, alone[name], atol=1e-4, rtol=1e-4)
    assert alone["filled"] == 150


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_nodes_compute_what_one_process_computes(train: Train, runs_dir: Path) -> None:
    """As on two machines: an agent of torchrun's on each, which meet at a port.

    The test listens there: a port that is free now may be taken when an agent comes to it.
    """
    train(*MOCHI, "study=one")
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"),
        *("--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{store.port}", "--rdzv-id=test"),
        *("--rdzv-conf=is_host=false", "--local-addr=127.0.0.1"),
        *("src/train.py", *SMALL, *MOCHI, "study=two", "trainer=ddp", *SMALL[-2:]),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}  # a dataset of the tests
    agents = [subprocess.Popen(command, cwd=ROOT, env=environment) for _ in range(2)]
    assert [agent.wait(500) for agent in agents] == [0, 0]
    one, both = losses(runs_dir, "one"), losses(runs_dir, "two")
    assert [row["step"] for row in one] == [row["step"] for row in both]
    for a, b in zip(one, both, strict=True):
        assert b == pytest.approx(a, rel=2e-4, abs=2e-4)
    (run,) = (runs_dir / "two").glob("*-s0-*")
    assert (run / "timing.jsonl").read_text().count('"event": "start"') == 1
    alone, first = (
        checkpoint.last_good(next((runs_dir / study).glob("*/checkpoints")))
        for study in ("one", "two")
    )
    assert alone is not None
    assert first is not None
    queue = [name for name in alone["objective"] if name.startswith("queue.")]
    assert "queue.pointer" in queue
    for name in queue:
        torch.testing.assert_close(
            first["objective"][name], alone["objective"][name], atol=1e-4, rtol=1e-4
        )


def test_the_keys_of_two_processes_are_shuffled(tmp_path: Path) -> None:
    """BatchNorm takes its statistics of four images, drawn from those of both processes."""
    import itertools

    def work(rank: int, folder: Path) -> None:
        with parallel.process_group(wanted=True):
            torch.manual_seed(0)
            net = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 4))
            objective = MoCo(queue_size=4)
            objective.key, objective._shuffles = net, True
            images = torch.randn(8, 6)
            keys = parallel.all_gather(objective._keys(parallel.shard(images), step=0))
        found = []
        for rows in itertools.combinations(range(8), 4):
            group = nn.functional.normalize(net(images[list(rows)]), dim=1)
            if torch.allclose(keys[list(rows)], group, atol=1e-5):
                found.append(rows)
        assert len(found) == 2
        assert found != [(0, 1, 2, 3), (4, 5, 6, 7)]

    two(work, tmp_path)


def test_a_run_that_fails_in_one_process_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The others could wait for it for ever; a launcher ends them."""
    monkeypatch.setattr(parallel, "FAILURE_TIMEOUT", timedelta(seconds=0.5))

    def work(rank: int, folder: Path) -> None:
        error = ValueError("no room") if rank == 1 else SystemExit()
        with pytest.raises(SystemExit), parallel.process_group(wanted=True):
            raise error

    two(work, tmp_path)
    assert "process 1 of 2 fails alone (ValueError: no room)" in capfd.readouterr().err


def test_torchrun_without_ddp_is_told(monkeypatch: pytest.MonkeyPatch, train: Train) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    with pytest.raises(UserError, match="add trainer=ddp"):
        train()


# --- one step in pieces ---------------------------------------------------------------------------


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_batch_in_pieces_is_the_whole_batch(
    symmetric: bool, train: Train, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = [*MOCHI, f"objective.symmetric={str(symmetric).lower()}", "trainer.max_steps=12"]
    for pieces in (1, 4):
        train(*chosen, f"study=in{pieces}", f"trainer.accumulate={pieces}")
    records = [
        read_rows(next((runs_dir / study).glob("*/mined.jsonl"))) for study in ("in1", "in4")
    ]
    assert records[0]
    assert [row.keys() for row in records[0]] == [row.keys() for row in records[1]]
    for a, b in zip(losses(runs_dir, "in1"), losses(runs_dir, "in4"), strict=True):
        a.pop("mining/false_negative_share_hardest", None)  # of the last piece
        b.pop("mining/false_negative_share_hardest", None)
        assert b == pytest.approx(a, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trainer.accumulate=2"], "objective=cross_entropy looks at the whole batch at once"),
        ([*MOCHI, "trainer.accumulate=7"], "must be a multiple of 7"),
        (["trainer.accumulate=0"], "must be a whole number of at least 1"),
        ([*MOCHI, "miner.n_hard=151"], "miner.n_hard=151 must be at most objective.queue_size=150"),
    ],
)
def test_what_cannot_be_divided_is_told(words: list[str], message: str, train: Train) -> None:
    with pytest.raises(UserError, match=message):
        train(*words)


NET = [
    *("miner=mochi", *on_digits("mochi"), "model=encoder", "model.name=test_resnet"),
    *("trainer.batch_size=16", "trainer.max_steps=6", "objective.bank=50"),
]


@pytest.mark.parametrize("word", ["trainer.channels_last=true", "trainer.precision=bf16"])
def test_other_layouts_and_precisions_learn_alike(word: str, train: Train, runs_dir: Path) -> None:
    # On images of 8 x 8, torch's convolutions on the CPU now and then give a NaN in bf16.
    chosen = [*NET, "model.image_size=32", "trainer.max_steps=4", "logger.every=1"]
    train(*chosen, "study=plain")
    train(*chosen, "study=other", word)
    for a, b in zip(losses(runs_dir, "plain"), losses(runs_dir, "other"), strict=True):
        assert b["train/loss_batch"] == pytest.approx(a["train/loss_batch"], rel=0.02)
        if "bf16" in word and a["step"] > 1:
            assert b["train/loss_batch"] != a["train/loss_batch"]


def test_channels_last_is_the_layout_of_both_encoders(train: Train, runs_dir: Path) -> None:
    layouts = []
    setup = MoCo.setup

    def look(self: MoCo, model: nn.Module, *rest: Any) -> None:
        setup(self, model, *rest)
        for encoder in (model, self.key):
            weights = [p for p in encoder.parameters() if p.dim() == 4 and min(p.shape[1:]) > 1]
            layouts.append(all(w.is_contiguous(memory_format=torch.channels_last) for w in weights))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MoCo, "setup", look)
        train(*NET, "trainer.channels_last=true", "trainer.max_steps=1")
    assert layouts == [True, True]


def test_a_run_with_all_of_it_is_resumed_to_the_bit(
    train: Train, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BatchNorm in shuffled groups, both turns, pieces: encoders, queue and pointer as well."""
    chosen = [
        *NET,
        *("objective.symmetric=true", "objective.groups=2", "trainer.accumulate=2"),
        *("trainer.batch_size=24", "trainer.max_steps=9", "trainer.checkpoint_every=4"),
    ]
    train(*chosen, "study=whole")
    update = Trainer.update

    def dying(self: Trainer) -> Any:
        if self.step == 7:
            raise KeyboardInterrupt
        return update(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "update", dying)
        with pytest.raises(KeyboardInterrupt):
            train(*chosen, "study=killed")
    train(*chosen, "study=killed")
    whole, killed = (
        checkpoint.last_good(next((runs_dir / study).glob("*/checkpoints")))
        for study in ("whole", "killed")
    )
    assert whole is not None
    assert killed is not None
    for part in ("model", "objective"):
        assert whole[part].keys() == killed[part].keys()
        assert all(torch.equal(whole[part][name], killed[part][name]) for name in whole[part])
    assert whole["objective"]["queue.pointer"] == 9 * 48 % 150
    assert whole["objective"]["queue.filled"] == 150


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in torch's own compiler
def test_the_compiled_model_learns_alike(
    train: Train, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, calls = nn.Module.compile, []

    def traced(self: nn.Module) -> None:
        calls.append(self)
        plain(self, backend="eager")  # torch's own takes minutes

    monkeypatch.setattr(nn.Module, "compile", traced)
    chosen = [*NET, "logger.every=1", "trainer.max_steps=4"]
    train(*chosen, "study=plain")
    train(*chosen, "study=compiled", "trainer.compile=true")
    encoders = [module for module in calls if hasattr(module, "head")]
    assert len(encoders) == 2  # of the queries and of the keys
    for a, b in zip(losses(runs_dir, "plain"), losses(runs_dir, "compiled"), strict=True):
        assert b["train/loss_batch"] == pytest.approx(a["train/loss_batch"], rel=1e-3)
    states = [
        checkpoint.last_good(next((runs_dir / study).glob("*/checkpoints")))
        for study in ("plain", "compiled")
    ]
    assert states[0] is not None
    assert states[1] is not None
    assert states[0]["model"].keys() == states[1]["model"].keys()


# --- the command itself ---------------------------------------------------------------------------


def torchrun(*words: str) -> list[str]:
    entry = str(ROOT / "src" / "train.py")
    launch = ["--standalone", "--nproc_per_node=2", entry, "trainer=ddp", "trainer.device=cpu"]
    return [sys.executable, "-m", "torch.distributed.run", *launch, *SMALL, *words]


@pytest.mark.slow
def test_torchrun_is_interrupted_and_goes_on(runs_dir: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    words = [*MOCHI, "trainer.max_steps=500", "trainer.checkpoint_every=50", "logger.every=10"]
    with subprocess.Popen(torchrun(*words), env=environment) as process:
        journal = None
        while process.poll() is None and (journal is None or len(read_rows(journal)) < 5):
            journal = next((runs_dir / "single").glob("*/journal.jsonl"), None)
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) != 0
    assert journal is not None
    status = (journal.parent / "status.json").read_text()
    assert '"state": "interrupted"' in status
    assert '"processes": 2' in status
    done = subprocess.run(torchrun(*words), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (journal.parent / "summary.json").exists()
    assert len(list((runs_dir / "single").glob("*/status.json"))) == 1
