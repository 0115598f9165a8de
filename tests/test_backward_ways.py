"""Which way an update goes backward; select and forward again; whole runs by each way."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from backward_models import CLASSES, IMAGES, MODELS, assert_equal, batch_of, timm
from conftest import Killed, Train, choices, on_digits
from test_training import only_run, results
from torch import nn
from torch.nn import functional

from minesweep.backward.choice import choose
from minesweep.config.compose import compose
from minesweep.datasets.base import Batch
from minesweep.errors import UserError
from minesweep.miners import All, Ohem, RandomK
from minesweep.miners.base import Pool
from minesweep.models.mlp import MLP
from minesweep.models.timm import Timm
from minesweep.objectives import CrossEntropy
from minesweep.tracking.journal import frame

# --- which way -----------------------------------------------------------------------------------


def test_auto_chooses_by_counted_operations() -> None:
    images = batch_of(64).inputs
    mlp = MLP([1024], **IMAGES)
    # b = 1 but for the last layer: (n + b k) / ((1 + b) n).
    assert "0.625 of the operations" in choose(mlp, images, 64, 16).reason
    assert choose(mlp, images, 64, 16).way == "rows"
    assert choose(mlp, images, 64, None).way == "rows"
    assert choose(mlp, images, 64, 64).way == "full"
    resnet = timm("resnet18")
    ways = {k: choose(resnet, images, 64, k) for k in (16, 48)}
    assert (ways[16].way, ways[48].way) == ("again", "full")
    assert "no way saves" in ways[48].reason
    assert choose(resnet, images, 64, None).way == "full"
    assert choose(resnet.eval(), images, 64, 48).way == "rows"


@pytest.mark.parametrize("name", ["mlp", "vit", "resnet with GroupNorm", "convnext"])
def test_n_rows_go_forward_and_k_backward(name: str) -> None:
    """What is promised is counted: nothing is computed twice, and nothing for the others."""
    from torch.utils.flop_counter import FlopCounterMode

    model, batch = MODELS[name](), batch_of()
    expected = {}
    for rows in (16, 4):
        with FlopCounterMode(display=False) as counter:
            loss = functional.cross_entropy(model(batch.inputs[:rows]), batch.labels[:rows])
        forward = counter.get_total_flops()
        with FlopCounterMode(display=False) as counter:
            loss.backward()
        expected[rows] = (forward, counter.get_total_flops())
    objective = CrossEntropy(backward="rows")
    objective(model, batch, Ohem(k=4), 0)
    with FlopCounterMode(display=False) as counter:
        objective(model, batch, Ohem(k=4), 3).loss.backward()
    assert counter.get_total_flops() == expected[16][0] + expected[4][1]


def test_what_is_chosen_is_said_once_and_kept(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    model, batch = MLP([40], **IMAGES), batch_of()
    said = []
    for miner in (Ohem(k=4), All(), RandomK(k=4)):
        objective = CrossEntropy()
        for step in range(3):
            objective(model, batch, miner, step)
        said.append(objective.get_extra_state()["way"])
    assert said == ["rows", "full", "rows"]
    assert len(caplog.messages) == 3
    assert "takes rows" in caplog.messages[0]
    assert "all 16 are selected, so nothing can be saved" in caplog.messages[1]
    again = CrossEntropy()
    again.load_state_dict(objective.state_dict())
    assert again.get_extra_state() == {"way": "rows"}


def test_while_mining_is_off_all_are_learned_from_in_one_pass() -> None:
    model, batch = MLP([40], **IMAGES), batch_of()
    miner = Ohem(k=4, interrupt=2)
    miner.setup(Pool(16, batch.labels, 16, 0, 10, lambda rows: rows))
    outcome = CrossEntropy(backward="rows")(model, batch, miner, 1)
    assert outcome.weights.sum() == 16


# --- again ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cheaper", [False, True])
def test_running_statistics_move_once(cheaper: bool) -> None:
    torch.manual_seed(0)
    layer = nn.BatchNorm2d(3)
    model = nn.Sequential(layer, nn.Flatten(), nn.Linear(3072, CLASSES))
    batch = batch_of()
    settings = {"precision": "bf16"} if cheaper else {}
    objective = CrossEntropy(backward="again", selecting=settings)
    outcome = objective(model, batch, Ohem(k=5), 0)
    seen = batch.inputs[outcome.weights > 0] if cheaper else batch.inputs
    assert layer.num_batches_tracked == 1
    torch.testing.assert_close(layer.running_mean, 0.1 * seen.mean((0, 2, 3)))
    assert layer.track_running_stats


def test_again_is_a_step_on_the_selected() -> None:
    torch.manual_seed(0)
    model, batch = MODELS["mlp"](), batch_of()
    outcome = CrossEntropy(backward="again")(model, batch, Ohem(k=5), 0)
    outcome.loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    kept = outcome.weights > 0
    functional.cross_entropy(model(batch.inputs[kept]), batch.labels[kept]).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    assert_equal(found, expected, 2e-6)


def test_a_coarser_pass_scores_and_the_full_one_learns() -> None:
    torch.manual_seed(0)
    model = Timm("resnet18", norm_layer="groupnorm", **IMAGES)
    sizes: list[int] = []
    model.net.register_forward_pre_hook(lambda net, args: sizes.append(args[0].shape[-1]))
    objective = CrossEntropy(backward="again", selecting={"resolution": 0.5})
    objective(model, batch_of(), Ohem(k=5), 0).loss.backward()
    assert sizes == [16, 32]
    for other in (MLP([4], **IMAGES), Timm("vit_tiny_patch16_224", depth=1, **IMAGES)):
        with pytest.raises(UserError, match=r"objective\.selecting\.resolution"):
            objective(other, batch_of(), Ohem(k=5), 1)


def test_selecting_is_for_again_alone() -> None:
    for way in ("auto", "rows", "full"):
        with pytest.raises(UserError, match=r"is for objective\.backward=again, not for"):
            CrossEntropy(backward=way, selecting={"stale": 3})
    with pytest.raises(UserError, match="did you mean 'again'"):
        CrossEntropy(backward="agian")


AGAIN = "objective.backward=again"
STALE = [AGAIN, "objective.selecting.stale=20"]


def test_losses_are_used_again_while_they_are_young(train: Train) -> None:
    # 1,079 rows are 16 steps of 64: an age of 20 steps spares some of the second epoch.
    fresh = train(AGAIN, "trainer.max_steps=64", "logger.every=64")
    stale = train(*STALE, "trainer.max_steps=64", "logger.every=64")
    assert fresh["samples/forward"] == 64 * 64
    assert 0.4 < stale["samples/forward"] / fresh["samples/forward"] < 0.9
    assert stale["samples/backward"] == fresh["samples/backward"]
    assert stale["test/accuracy"] > fresh["test/accuracy"] - 0.1
    rare = train(AGAIN, "objective.selecting.every=4", "trainer.max_steps=64", "logger.every=64")
    # The first epoch is scored in full, and a quarter of the others.
    assert rare["samples/forward"] < 64 * (16 + 48 / 4 + 4)


def test_stale_losses_are_of_examples(train: Train) -> None:
    pairs = batch_of()
    pairs = Batch(pairs.inputs, pairs.labels.view(8, 2), pairs.rows.view(8, 2))
    objective = CrossEntropy(backward="again", selecting={"stale": 2})
    objective.selecting.setup(16, torch.device("cpu"))
    with pytest.raises(UserError, match="pairs hardly"):
        objective(MLP([4], **IMAGES), pairs, Ohem(k=5), 0)


# --- whole runs ----------------------------------------------------------------------------------


ROW_MINERS = [
    name for name in choices("miner") if compose([f"miner={name}"]).objective.get("selecting")
]


@pytest.mark.parametrize("miner", ROW_MINERS)
def test_runs_end_alike_whichever_way(miner: str, train: Train, runs_dir: Any) -> None:
    ways = {}
    for way in ("rows", "full", "auto"):
        chosen = [
            f"miner={miner}",
            *on_digits(miner),
            f"objective.backward={way}",
            "optimizer=sgd",
            f"study={way}",
        ]
        train(*chosen, "trainer.gradient_clip=1.0", "logger.every=1")
        ways[way] = frame(only_run(runs_dir, way))
    for column in ("train/loss_batch", "train/loss_selected", "train/accuracy"):
        for way in ("rows", "auto"):
            left, right = ways[way][column].tolist(), ways["full"][column].tolist()
            assert left == pytest.approx(right, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize(
    "settings",
    [
        ["objective.backward=rows"],
        ["objective.backward=rows", "miner=selective_backprop"],
        [AGAIN],
        STALE,
        [AGAIN, "objective.selecting.every=3"],
    ],
    ids=" ".join,
)
def test_a_killed_run_ends_as_an_undisturbed_one(
    settings: list[str],
    train: Train,
    kill_at: Any,
    runs_dir: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from conftest import ROOT

    monkeypatch.syspath_prepend(str(ROOT / "tests" / "own"))
    model = ["model._target_=own.Net", "~model.widths", "~model.activation", "~model.init"]
    chosen = [*model, *settings, "trainer.checkpoint_every=7", "trainer.max_steps=50"]
    train(*chosen, "study=whole")
    for step in (5, 30):
        kill_at(step)
        with pytest.raises(Killed):
            train(*chosen, "study=killed")
    kill_at(None)
    train(*chosen, "study=killed")
    whole, killed = (only_run(runs_dir, study) for study in ("whole", "killed"))
    assert results(whole) == results(killed)
