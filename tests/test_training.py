"""Whole runs on real digits: they learn, and a kill at any moment changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Killed, Train, choices, on_digits

from minesweep.config.compose import compose
from minesweep.errors import UserError
from minesweep.tracking.journal import frame, read_rows
from minesweep.training import checkpoint
from minesweep.training.folder import RunBusy, RunFolder
from minesweep.training.loop import NotFinite


def only_run(runs_dir: Path, study: str = "single") -> Path:
    (status,) = (runs_dir / study).glob("*/status.json")
    return status.parent


def results(folder: Path) -> tuple[Any, ...]:
    """Everything that two equal runs have equal to the bit."""
    state = checkpoint.last_good(folder / "checkpoints")
    assert state is not None
    summary = json.loads((folder / "summary.json").read_text())
    weights = {name: w.numpy().tobytes() for name, w in state["model"].items()}
    weights["examples"] = state["diagnostics"]["examples"].numpy().tobytes()
    # What an objective learns or remembers: a queue and its pointer, a key encoder.
    held = {name: x for name, x in state["objective"].items() if isinstance(x, torch.Tensor)}
    weights |= {f"objective.{name}": x.numpy().tobytes() for name, x in held.items()}
    weights["random"] = repr(state["random"]).encode()  # torch, NumPy, Python
    records = [(folder / f"{name}.jsonl").read_bytes() for name in ("journal", "mined")]
    return weights, records, summary


SETTINGS = [
    "trainer.eval_every=9",
    "trainer.checkpoint_every=7",
    "logger.every=4",
    "logger.histogram_every=5",
]


@pytest.mark.parametrize("miner", choices("miner"))
def test_every_miner_trains_and_a_killed_run_ends_as_an_undisturbed_one(
    miner: str, train: Train, kill_at: Any, runs_dir: Path
) -> None:
    chosen = [f"miner={miner}", *on_digits(miner), *SETTINGS]
    if not any("digit_scenes" in word for word in chosen):
        chosen.append("dataset.label_noise=0.1")
    train(*chosen, "study=whole")
    for step in (3, 16, 29):
        kill_at(step)
        with pytest.raises(Killed):
            train(*chosen, "study=killed")
    kill_at(None)
    train(*chosen, "study=killed")
    whole, killed = (only_run(runs_dir, study) for study in ("whole", "killed"))
    assert results(whole) == results(killed)
    rows = read_rows(killed / "journal.jsonl")
    assert [row["step"] for row in rows] == sorted({row["step"] for row in rows})


def test_dropout_and_early_stop_are_resumed_too(
    train: Train, kill_at: Any, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "own"))
    chosen = [
        *SETTINGS,
        "model._target_=own.Net",
        "~model.widths",
        "~model.activation",
        "~model.init",
        "trainer.early_stop={metric: val/loss, goal: minimize, patience: 50}",
    ]
    train(*chosen, "study=whole")
    kill_at(20)
    with pytest.raises(Killed):
        train(*chosen, "study=killed")
    kill_at(None)
    train(*chosen, "study=killed")
    whole, killed = (only_run(runs_dir, study) for study in ("whole", "killed"))
    assert results(whole) == results(killed)


def test_it_learns(train: Train) -> None:
    summary = train("trainer.max_steps=200", "miner.ratio=0.5")
    assert summary["test/accuracy"] > 0.93
    assert summary["samples/forward"] == 200 * 64
    assert summary["samples/backward"] == 200 * 32
    assert summary["val/accuracy_best"] >= summary["val/accuracy"]


def test_the_same_seed_gives_the_same_run_and_another_seed_another(
    train: Train, runs_dir: Path
) -> None:
    for study, seed in [("a", 0), ("b", 0), ("c", 1)]:
        train(f"study={study}", f"seed={seed}")
    a, b, c = (results(only_run(runs_dir, study)) for study in "abc")
    assert a == b
    assert a[1] != c[1]


def test_arms_share_initialisation_and_batches(train: Train, runs_dir: Path) -> None:
    """The first scored batch has the same loss whatever is selected from it."""
    first = []
    for miner in ("all", "ohem", "selective_backprop"):
        train(f"miner={miner}", f"study={miner}", "logger.every=1")
        first.append(frame(only_run(runs_dir, miner))["train/loss_batch"][0])
    assert first[0] == first[1] == first[2]


def test_what_is_logged(train: Train, runs_dir: Path) -> None:
    train("dataset.label_noise=0.2", "logger.every=5", "logger.histogram_every=10")
    rows = {row["step"]: row for row in read_rows(only_run(runs_dir) / "journal.jsonl")}
    assert sorted(rows) == [1, 5, 10, 15, 20, 25, 30]
    row = rows[30]
    assert row["train/loss_selected"] >= row["train/loss_batch"]
    assert 0.75 <= row["mining/loss_share"] <= 1
    assert 0 <= row["mining/flipped_share"] <= 1
    assert sum(row[f"mining/class_share/{label}"] for label in range(10)) == pytest.approx(1)
    batch, selected = (row[f"train/loss_{part}_histogram"] for part in ("batch", "selected"))
    assert len(batch["counts"]) == 64
    assert (sum(batch["counts"]), sum(selected["counts"])) == (64, 48)
    assert (batch["low"], batch["high"]) == (selected["low"], selected["high"])
    assert {"val/accuracy", "val/loss"} <= set(row)


def test_running_accuracy_is_the_mean_over_all_batches(train: Train, runs_dir: Path) -> None:
    train("logger.every=1")
    table = frame(only_run(runs_dir))
    mean = table["train/accuracy"].expanding().mean()
    assert table["train/accuracy_running"].tolist() == pytest.approx(mean.tolist())


def test_reselection_is_counted_over_each_rows_last_appearance(
    train: Train, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minesweep.training.diagnostics import Diagnostics

    seen: list[tuple[list[int], list[bool]]] = []
    update = Diagnostics.update

    def record(self: Diagnostics, outcome: Any, batch: Any) -> None:
        seen.append((batch.rows.tolist(), (outcome.weights > 0).tolist()))
        update(self, outcome, batch)

    monkeypatch.setattr(Diagnostics, "update", record)
    train("logger.every=1", "trainer.max_steps=40")
    last: dict[int, bool] = {}
    for (rows, selected), value in zip(
        seen, frame(only_run(runs_dir))["mining/reselected"], strict=True
    ):
        again = [now for row, now in zip(rows, selected, strict=True) if last.get(row)]
        if again:
            assert value == pytest.approx(sum(again) / len(again))
        last |= dict(zip(rows, selected, strict=True))


def test_count_backward_makes_arms_learn_from_equally_many(train: Train) -> None:
    counts = [
        train("trainer.max_steps=null", "trainer.max_epochs=2", "trainer.count=backward", miner)
        for miner in ("miner=all", "miner.ratio=0.5", "miner.ratio=0.25")
    ]
    learned = [summary["samples/backward"] for summary in counts]
    assert max(learned) - min(learned) < 64
    assert [summary["step"] for summary in counts] == [33, 67, 134]


def test_a_batch_larger_than_the_data_is_told(train: Train) -> None:
    with pytest.raises(UserError, match=r"trainer\.batch_size=64 is more than the 10 training"):
        train("dataset.limit=10")


# --- the folder of a run --------------------------------------------------------------------------


def test_a_finished_run_is_reported_and_not_redone(train: Train, kill_at: Any) -> None:
    first = train()
    kill_at(0)  # any step would fail
    assert train() == first


def test_never_moves_the_old_run_aside(train: Train, runs_dir: Path) -> None:
    first = train()
    folder = only_run(runs_dir)
    assert train("resume=never") == first
    assert (folder.with_name(folder.name + ".old1") / "summary.json").exists()


def test_must_needs_a_checkpoint(train: Train) -> None:
    with pytest.raises(UserError, match="holds no checkpoint"):
        train("resume=must")


def test_two_processes_do_not_write_into_each_other(train: Train, runs_dir: Path) -> None:
    train()
    with RunFolder(only_run(runs_dir)).lock(), pytest.raises(RunBusy, match="another process"):
        train()


def test_old_checkpoints_go_and_best_and_last_stay(train: Train, runs_dir: Path) -> None:
    train(*SETTINGS)
    names = sorted(p.name for p in (only_run(runs_dir) / "checkpoints").iterdir())
    assert names == ["best.pt", "step-00000030.pt"]


@pytest.mark.parametrize("damage", ["truncated", "empty", "junk", "nan"])
def test_from_a_damaged_checkpoint_it_falls_back_to_the_one_before(
    damage: str, train: Train, kill_at: Any, runs_dir: Path
) -> None:
    train(*SETTINGS, "study=whole")
    kill_at(25)
    with pytest.raises(Killed):
        train(*SETTINGS, "study=damaged")
    folder = only_run(runs_dir, "damaged")
    last = checkpoint.steps(folder / "checkpoints")[-1]
    assert last.name == "step-00000021.pt"
    if damage == "nan":
        state = torch.load(last, weights_only=True)
        next(iter(state["model"].values())).fill_(float("nan"))
        checkpoint.save(state, last)
    else:
        content = last.read_bytes()
        last.write_bytes({"truncated": content[:-100], "empty": b"", "junk": b"junk" * 99}[damage])
    kill_at(None)
    with pytest.warns(UserWarning, match="the one before it is used"):
        train(*SETTINGS, "study=damaged")
    assert results(only_run(runs_dir, "whole")) == results(folder)


def test_a_nan_stops_the_run_with_its_step_and_a_checkpoint(train: Train, runs_dir: Path) -> None:
    with pytest.raises(NotFinite, match="at step 1: 64 of 64 losses are not finite") as caught:
        train("optimizer=sgd", "optimizer.lr=1e30")
    folder = only_run(runs_dir)
    status = json.loads((folder / "status.json").read_text())
    assert status["state"] == "failed"
    assert str(caught.value) in status["reason"]
    assert (folder / "checkpoints" / "not-finite-00000001.pt").exists()


def test_early_stop(train: Train) -> None:
    rule = "trainer.early_stop={metric: val/loss, goal: maximize, patience: 2}"
    summary = train(rule, "trainer.eval_every=5", "trainer.max_steps=500")
    assert summary["step"] < 500
    with pytest.raises(UserError, match=r"is not logged; did you mean 'val/loss'"):
        train("trainer.early_stop={metric: val/los, patience: 2}")


@pytest.mark.parametrize("steps", [7, 42, 250])
def test_a_share_of_the_run_gives_curves_of_any_length_as_many_points(
    steps: int, train: Train, runs_dir: Path
) -> None:
    train("trainer.eval_every=0.1", f"trainer.max_steps={steps}")
    rows = read_rows(only_run(runs_dir) / "journal.jsonl")
    at = [row["step"] for row in rows if "val/accuracy" in row]
    assert min(steps, 10) <= len(at) <= 11
    assert at[-1] == steps


@pytest.mark.parametrize("cell", [c for c in choices("experiment") if c.startswith("help/")])
def test_each_curve_of_does_it_help_has_eight_points(cell: str) -> None:
    assert compose([f"experiment={cell}"]).trainer.eval_every <= 1 / 8


def test_weights_to_start_from(train: Train, runs_dir: Path) -> None:
    before = train("trainer.max_steps=150")
    weights = checkpoint.steps(only_run(runs_dir) / "checkpoints")[-1]
    after = train(f"ckpt_path={weights}", "study=fine", "optimizer.lr=1e-9")
    assert after["test/accuracy"] == before["test/accuracy"]
    with pytest.raises(UserError, match="does not fit the model"):
        train(f"ckpt_path={weights}", "model.widths=[8]")


def test_a_trained_model_comes_back(train: Train, runs_dir: Path) -> None:
    import minesweep
    from minesweep.datasets.digits import Digits

    summary = train("trainer.max_steps=100", "trainer.eval_every=10")
    test = Digits().load(Path()).test
    for weights, name in [("last", "test/accuracy"), ("best", "test/accuracy_best")]:
        model, config = minesweep.load_run(only_run(runs_dir), weights)
        with torch.no_grad():
            accuracy = (model(test.inputs).argmax(1) == test.labels).double().mean().item()
        assert accuracy == pytest.approx(summary[name])
        assert config.miner._target_.endswith("Ohem")
    with pytest.raises(UserError, match="is not a run's folder"):
        minesweep.load_run(runs_dir)


@pytest.mark.gpu
@pytest.mark.parametrize("miner", choices("miner"))
def test_every_miner_trains_on_a_gpu(miner: str, train: Train) -> None:
    assert train(f"miner={miner}", *on_digits(miner), "trainer.device=cuda")["step"] == 30


def test_a_finished_run_says_how_much_memory_it_took(train: Train, runs_dir: Path) -> None:
    train()
    status = json.loads((only_run(runs_dir) / "status.json").read_text())
    assert status["state"] == "finished"
    # The interpreter with torch alone takes more than the one, a test never the other.
    assert 100 < status["peak_memory_mib"] < 20_000
