"""TensorBoard and W&B get what the journal has, and never feed anything back."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import Train
from test_training import only_run, results

from minesweep.config.compose import compose
from minesweep.tracking.journal import read_rows
from minesweep.tracking.sections import SECTIONS
from minesweep.tracking.wandb_run import mode

EVERYTHING = ["logger=default", "logger.every=5", "logger.histogram_every=10"]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")


def test_tracking_does_not_change_the_run(train: Train, runs_dir: Path) -> None:
    train(*EVERYTHING, "study=tracked")
    train("logger=none", *EVERYTHING[1:], "study=bare")
    tracked, bare = only_run(runs_dir, "tracked"), only_run(runs_dir, "bare")
    assert tracked.name == bare.name
    assert results(tracked) == results(bare)


def test_tensorboard_has_the_scalars_and_the_histograms(train: Train, runs_dir: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(*EVERYTHING[1:], "logger.tensorboard=true")
    folder = only_run(runs_dir)
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    journal = {row["step"]: row["train/loss_batch"] for row in read_rows(folder / "journal.jsonl")}
    logged = {event.step: event.value for event in events.Scalars("train/loss_batch")}
    assert logged == pytest.approx(journal)
    (first, *_) = events.Histograms("train/loss_selected_histogram")
    assert sum(first.histogram_value.bucket) == 48
    assert events.Scalars("test/accuracy")


def test_tensorboard_has_the_run_in_its_table_and_charts_in_sections(
    train: Train, runs_dir: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.custom_scalar import layout_pb2
    from tensorboard.plugins.hparams import metadata

    summary = train(*EVERYTHING[1:], "logger.tensorboard=true", "miner.k=16", "optimizer.lr=0.002")
    events = EventAccumulator(str(only_run(runs_dir) / "tensorboard"))
    events.Reload()
    table = events.summary_metadata
    parsed = metadata.parse_session_start_info_plugin_data(
        table["_hparams_/session_start_info"].plugin_data.content
    )
    values = dict(parsed.hparams.items())
    assert values["k"].number_value == 16
    assert values["optimizer.lr"].number_value == 0.002
    assert values["miner"].string_value == "ohem"
    experiment = metadata.parse_experiment_plugin_data(
        table["_hparams_/experiment"].plugin_data.content
    )
    named = {info.name.tag for info in experiment.metric_infos}
    assert {"test/accuracy", "val/accuracy_best"} <= named
    (logged,) = events.Scalars("test/accuracy")
    assert logged.value == pytest.approx(summary["test/accuracy"])

    layout = layout_pb2.Layout.FromString(
        events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    )
    assert [category.title for category in layout.category] == list(SECTIONS)
    tags = events.Tags()["scalars"]
    drawn = {
        tag
        for category in layout.category
        for chart in category.chart
        for pattern in chart.multiline.tag
        for tag in tags
        if re.match(pattern, tag)
    }
    left = {tag for tag in tags if tag not in drawn and not tag.startswith("test/")}
    left -= {"val/accuracy_best"}
    assert left == set(), "every curve of this run has a chart"


def test_wandb_keeps_one_run_id_over_a_resume(train: Train, runs_dir: Path) -> None:
    train(*EVERYTHING, "logger.tensorboard=false")
    folder = only_run(runs_dir)
    kept = json.loads((folder / "wandb.json").read_text())["id"]
    (offline,) = (folder / "wandb").glob("offline-run-*")
    assert offline.name.endswith(kept)
    starts = [row for row in read_rows(folder / "timing.jsonl") if row.get("event") == "start"]
    assert [row["wandb_id"] for row in starts] == [kept]
    (folder / "status.json").unlink()  # as if it had not finished
    train(*EVERYTHING, "logger.tensorboard=false")
    assert json.loads((folder / "wandb.json").read_text())["id"] == kept


def test_wandb_gets_the_tree_under_one_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import wandb

    from minesweep.tracking.weights_and_biases import WeightsAndBiases

    monkeypatch.setenv("WANDB_MODE", "disabled")
    seen = {}
    init = wandb.init
    monkeypatch.setattr(
        wandb, "init", lambda **arguments: seen.update(arguments) or init(**arguments)
    )
    cfg = compose(["miner.k=128", "seed=3", "study=table"])
    WeightsAndBiases(cfg, tmp_path).finish(None, 0)
    assert seen["config"].keys() == {"cfg", "study", "miner_name", "n", "k", "seed"}
    assert seen["config"]["cfg"]["miner"]["k"] == 128
    assert {key: seen["config"][key] for key in ("miner_name", "n", "k", "seed")} == {
        "miner_name": "ohem",
        "n": 512,
        "k": 128,
        "seed": 3,
    }
    assert seen["name"] == "ohem-n512-k128-s3"
    assert seen["group"] == "table/ohem-n512-k128"
    assert seen["tags"] == ["mnist", "mlp"]
    assert seen["job_type"] == "train"


class TestMode:
    @pytest.fixture(autouse=True)
    def nothing_set(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    def test_the_environment_wins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WANDB_MODE", "disabled")
        assert mode() == "disabled"

    def test_without_a_key_it_is_offline(self) -> None:
        assert mode() == "offline"

    def test_with_a_key_and_no_answer_it_is_offline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
        assert mode() == "offline"

    @pytest.mark.parametrize("place", ["environment", "netrc"])
    def test_with_a_key_and_an_answer_it_is_online(
        self, place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        import socket

        with socket.create_server(("127.0.0.1", 0)) as server:
            monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
            if place == "environment":
                monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
            else:
                line = "machine 127.0.0.1 login user password " + "a" * 40
                (tmp_path / "netrc").write_text(line)
            assert mode() == "online"
