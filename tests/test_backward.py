"""Backward over the selected rows only: the gradient of the whole graph, or a refusal."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import Train, choices
from hypothesis import given, settings
from hypothesis import strategies as st
from test_training import Killed, kill_at, only_run, results  # noqa: F401 (kill_at is a fixture)
from torch import Tensor, nn
from torch.nn import functional

from minesweep.backward.choice import choose
from minesweep.compat import import_timm
from minesweep.config.compose import compose
from minesweep.datasets.base import Batch
from minesweep.errors import UserError
from minesweep.miners import All, Ohem, RandomK, SelectiveBackprop
from minesweep.miners.base import Miner, Pool
from minesweep.models.mlp import MLP
from minesweep.models.siamese_lstm import SiameseLSTM
from minesweep.models.timm import Timm
from minesweep.objectives import L2, CrossEntropy
from minesweep.objectives.contrastive import Contrastive
from minesweep.tracking.journal import frame

CLASSES = 5
IMAGES = {"input_shape": (3, 32, 32), "num_classes": CLASSES}


def timm(name: str, **settings: Any) -> nn.Module:
    return import_timm().create_model(name, num_classes=CLASSES, **settings)


def frozen_batchnorm() -> nn.Module:
    model = timm("resnet18").train()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
            nn.init.normal_(layer.running_mean, std=0.1)
    return model


class Sequences(nn.Module):
    """Time comes first, so rows lie along the second dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(96, 4, 64, dropout=0.1)
        self.lstm = nn.LSTM(96, 16)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        steps = images.transpose(1, 2).flatten(2).transpose(0, 1)
        return self.head(self.lstm(self.layer(steps))[0][-1])


class TimesTwo(nn.Module):
    """Two rows for each example inside; in-place operations on what a convolution gave."""

    def __init__(self) -> None:
        super().__init__()
        self.convolve = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.SiLU(inplace=True))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        turned = torch.cat([images, images.flip(-1)])
        found = self.convolve(turned)
        found += 0.5
        first, second = self.pool(found).chunk(2)
        return first * second.sigmoid()


VIT = {
    "name": "vit_tiny_patch16_224",
    "img_size": 32,
    "patch_size": 8,
    "depth": 2,
    "embed_dim": 48,
    "num_heads": 3,
}
CHANCE = {"proj_drop_rate": 0.2, "drop_path_rate": 0.3, "pos_drop_rate": 0.1}
SWIN = {
    "name": "swin_tiny_patch4_window7_224",
    "img_size": 32,
    "embed_dim": 24,
    "depths": (2, 2),
    "num_heads": (2, 4),
    "window_size": 4,
}

MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: MLP([40, 30], "gelu", **IMAGES),
    "vit": lambda: timm(**VIT),
    "vit with chance": lambda: timm(**VIT, **CHANCE),
    "swin": lambda: timm(**SWIN),
    "resnet with GroupNorm": lambda: timm("resnet18", norm_layer="groupnorm"),
    "resnet with frozen BatchNorm": frozen_batchnorm,
    "convnext": lambda: timm("convnext_atto", depths=(1, 1, 1, 1)),
    "time first": Sequences,
    "two rows each": TimesTwo,
}


def batch_of(n: int = 16, dtype: torch.dtype = torch.float32) -> Batch:
    draws = torch.Generator().manual_seed(1)
    images = torch.randn(n, 3, 32, 32, generator=draws, dtype=torch.double).to(dtype)
    return Batch(images, torch.arange(n) % CLASSES, torch.arange(n))


def gradients(
    model: nn.Module,
    way: str,
    batch: Batch,
    miner: Miner | None = None,
    objective: Callable[..., Any] = CrossEntropy,
    step: int = 0,
) -> dict[str, Tensor]:
    """Of one step, from the same chance."""
    model.zero_grad()
    torch.manual_seed(3)
    objective(backward=way)(model, batch, miner or Ohem(k=5), step).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Relative to the norm of each parameter's gradient."""
    assert found.keys() == expected.keys()
    whole = torch.stack([gradient.norm() for gradient in expected.values()]).max()
    for name, gradient in expected.items():
        # A bias before a normalisation has a gradient of 0 and rounding errors.
        scale = max(gradient.norm(), 1e-3 * whole)
        assert (found[name] - gradient).norm() <= tolerance * scale, name


@pytest.mark.parametrize("name", MODELS)
def test_the_gradient_is_that_of_the_whole_graph(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]()
    for dtype, tolerance in [(torch.float32, 2e-6), (torch.float64, 1e-12)]:
        model, batch = model.to(dtype), batch_of(dtype=dtype)
        assert_equal(gradients(model, "rows", batch), gradients(model, "full", batch), tolerance)


@given(
    n=st.integers(2, 40),
    share=st.floats(0.01, 1),
    widths=st.lists(st.integers(1, 40), max_size=4),
    seed=st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_any_n_k_and_depth(n: int, share: float, widths: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    # Widths may equal n or k: then shapes alone do not say which dimension the rows are.
    model = MLP([*widths, n], **IMAGES).double()
    batch, miner = batch_of(n, torch.float64), Ohem(k=max(1, round(share * n)))
    assert_equal(*(gradients(model, way, batch, miner) for way in ("rows", "full")), 1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum", "sum_over_n"])
def test_loss_scores_and_weights_are_those_of_full_to_the_bit(reduction: str) -> None:
    torch.manual_seed(0)
    model, batch = MLP([40], **IMAGES), batch_of()
    rows, full = (
        L2(reduction, backward=way)(model, batch, Ohem(k=5), 0) for way in ("rows", "full")
    )
    assert rows.loss.item() == full.loss.item()
    assert torch.equal(rows.scores, full.scores)
    assert torch.equal(rows.weights, full.weights)
    assert rows.metrics == full.metrics


class Nothing(Miner):
    def select(self, scores: Tensor, **context: Any) -> Tensor:
        return torch.zeros_like(scores)


def test_a_number_that_is_not_known_before_and_none() -> None:
    torch.manual_seed(0)
    model, batch = MLP([40], **IMAGES).double(), batch_of(32, torch.float64)
    rows, full = (
        gradients(model, way, batch, SelectiveBackprop(beta=2)) for way in ("rows", "full")
    )
    assert_equal(rows, full, 1e-12)
    nothing = gradients(model, "rows", batch, Nothing())
    assert all(gradient.eq(0).all() for gradient in nothing.values())


def test_weights_that_are_not_one() -> None:
    class Soft(Miner):
        def select(self, scores: Tensor, **context: Any) -> Tensor:
            return scores.softmax(0) * (scores > scores.mean())

    model, batch = MLP([40], **IMAGES).double(), batch_of(32, torch.float64)
    assert_equal(*(gradients(model, way, batch, Soft()) for way in ("rows", "full")), 1e-12)


@pytest.mark.parametrize("policy", ["fixed", "relative"])
def test_pairs_and_a_loss_that_looks_at_the_batch(policy: str) -> None:
    class HalfOfThePairs(Ohem):
        candidate = "pair"

    def contrastive(backward: str) -> Contrastive:
        objective = Contrastive(margin=2.0, margin_policy=policy)
        objective.backward = backward
        return objective

    torch.manual_seed(0)
    model = MODELS["vit"]().double()
    pairs = torch.stack([torch.arange(8), torch.arange(8).flip(0)], 1)
    batch = Batch(batch_of(16, torch.float64).inputs, pairs % 3, pairs)
    found = [
        gradients(model, way, batch, HalfOfThePairs(k=3), contrastive) for way in ("rows", "full")
    ]
    assert_equal(*found, 1e-12)


def test_sentences() -> None:
    from minesweep.datasets.text import Tokens

    draws = torch.Generator().manual_seed(0)
    ids = torch.randint(2, 30, (16, 9), generator=draws, dtype=torch.int32)
    lengths = torch.randint(1, 10, (16,), generator=draws)
    batch = Batch(Tokens(ids, lengths), torch.arange(16) % CLASSES, torch.arange(16))
    model = nn.Sequential(SiameseLSTM(8, input_shape=(30,), num_classes=2), nn.Linear(8, CLASSES))
    assert_equal(*(gradients(model, way, batch) for way in ("rows", "full")), 2e-6)


# --- where rows depend on each other -------------------------------------------------------------


class Centred(nn.Linear):
    def forward(self, rows: Tensor) -> Tensor:
        return super().forward(rows - rows.mean(0))


class Gated(nn.Module):
    """Looks at the other rows only once its gate has opened."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.head = nn.Parameter(torch.zeros(())), nn.Linear(3072, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        rows = images.flatten(1)
        return self.head(rows + self.gate * rows.mean(0))


class Counting(nn.Linear):
    def __init__(self) -> None:
        super().__init__(3072, CLASSES)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, rows: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(rows)


class Careless(nn.Linear):
    def __init__(self, draw: Callable[[Tensor], Any]) -> None:
        super().__init__(3072, CLASSES)
        self.draw = draw

    def forward(self, rows: Tensor) -> Tensor:
        return super().forward(rows + 0.1 * self.draw(rows))


ENTANGLED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "BatchNorm": (lambda: timm("resnet18"), "BatchNorm in train mode"),
    "BatchNorm1d": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 8), nn.BatchNorm1d(8), nn.Linear(8, 5)),
        "BatchNorm in train mode",
    ),
    "batch statistics in evaluation mode": (
        lambda: nn.Sequential(
            nn.BatchNorm2d(3, track_running_stats=False).eval(), nn.Flatten(), nn.Linear(3072, 5)
        ),
        "BatchNorm in train mode",
    ),
    "a layer of one's own": (
        lambda: nn.Sequential(nn.Flatten(), Centred(3072, CLASSES)),
        "changes with the other rows",
    ),
    "a buffer": (lambda: nn.Sequential(nn.Flatten(), Counting()), "its buffer 1.calls changes"),
    "a permutation": (
        lambda: nn.Sequential(nn.Flatten(), Careless(lambda rows: rows[torch.randperm(len(rows))])),
        "random numbers that cannot be had again",
    ),
    "Python's generator": (
        lambda: nn.Sequential(nn.Flatten(), Careless(lambda rows: random.random())),
        "the generator of Python or NumPy",
    ),
}


@pytest.mark.parametrize("name", ENTANGLED)
def test_it_refuses_what_is_not_row_wise_and_auto_goes_another_way(name: str) -> None:
    make, reason = ENTANGLED[name]
    torch.manual_seed(0)
    model, batch = make(), batch_of()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    chance = (torch.get_rng_state(), random.getstate())
    choice = choose(model, batch.inputs, 16, 12)
    assert choice.way == "full"
    assert reason in choice.reason
    assert choose(model, batch.inputs, 16, 2).way == "again"
    # Trying it out leaves no trace.
    assert torch.equal(torch.get_rng_state(), chance[0])
    assert random.getstate() == chance[1]
    assert all(torch.equal(model.state_dict()[key], value) for key, value in state.items())
    with pytest.raises(UserError, match=f"backward=rows: .*{reason}.*backward=full is right"):
        gradients(model, "rows", batch)


def test_rows_that_come_to_depend_on_each_other_later_are_found() -> None:
    torch.manual_seed(0)
    model, batch, objective = Gated(), batch_of(), CrossEntropy(backward="auto")
    objective(model, batch, Ohem(k=5), 0)
    nn.init.ones_(model.gate)
    with pytest.raises(UserError, match="changes with the other rows"):
        objective(model, batch, Ohem(k=5), 4)


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


# --- beside other things -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp", "vit with chance", "resnet with GroupNorm"])
def test_autocast(name: str) -> None:
    torch.manual_seed(0)
    model, batch = MODELS[name](), batch_of()
    found = {}
    for way in ("rows", "full", "again"):
        with torch.autocast("cpu", torch.bfloat16):
            torch.manual_seed(3)
            model.zero_grad()
            loss = CrossEntropy(backward=way)(model, batch, Ohem(k=5), 0).loss
        loss.backward()
        found[way] = {key: p.grad.clone() for key, p in model.named_parameters()}
    assert_equal(found["rows"], found["full"], 0.05)
    assert all(gradient.dtype == torch.float32 for gradient in found["again"].values())


def test_gradients_add_up_over_batches() -> None:
    torch.manual_seed(0)
    model, objective = MLP([40], **IMAGES), CrossEntropy(backward="rows")
    batches = [batch_of(16), batch_of(12)]
    apart = [gradients(model, "rows", batch) for batch in batches]
    model.zero_grad()
    for step, batch in enumerate(batches):
        objective(model, batch, Ohem(k=5), step).loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, apart[0][name] + apart[1][name])


def in_processes(rank: int, processes: int, store: str) -> None:
    """Each process mines in its own batch; the gradient is the mean of both."""
    from torch.nn.parallel import DistributedDataParallel

    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=processes
    )
    torch.manual_seed(0)
    model, draws = MLP([40], **IMAGES), torch.Generator().manual_seed(5)
    images = torch.randn(processes, 16, 3, 32, 32, generator=draws)
    batches = [Batch(part, torch.arange(16) % CLASSES, torch.arange(16)) for part in images]
    each = [gradients(model, "full", batch) for batch in batches]
    mean = {name: sum(part[name] for part in each) / processes for name in each[0]}
    model.zero_grad()
    wrapped, objective = DistributedDataParallel(model), CrossEntropy()
    for step in range(2):
        wrapped.zero_grad()
        objective(wrapped, batches[rank], Ohem(k=5), step).loss.backward()
        found = {name: p.grad.clone() for name, p in model.named_parameters()}
        assert_equal(found, mean, 2e-6)
    assert objective.get_extra_state() == {"way": "rows"}
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_distributed_data_parallel(processes: int, tmp_path: Any) -> None:
    store = str(tmp_path / "store")
    if processes == 1:
        in_processes(0, 1, store)
    else:
        torch.multiprocessing.spawn(in_processes, (processes, store), processes)


def test_a_compiled_model_is_refused_and_auto_goes_another_way() -> None:
    torch.manual_seed(0)
    model, batch = MLP([40], **IMAGES), batch_of()
    expected = gradients(model, "full", batch)
    model.compile(backend="eager")
    with pytest.raises(UserError, match=r"compiled model: take again, full or auto"):
        gradients(model, "rows", batch)
    assert choose(model, batch.inputs, 16, 2).way == "again"
    assert "torch.compile" in choose(model, batch.inputs, 16, 12).reason
    for way in ("auto", "again"):
        assert_equal(gradients(model, way, batch), expected, 2e-6)


def test_a_part_that_is_compiled_is_looked_through() -> None:
    """A user's own compiled layer inside: found, or right."""
    torch.manual_seed(0)
    model, batch = MLP([40], **IMAGES), batch_of()
    expected = gradients(model, "full", batch)
    model[1].compile(backend="eager")
    with pytest.raises(UserError, match="compiled model"):
        gradients(model, "rows", batch)
    assert_equal(gradients(model, "auto", batch), expected, 2e-6)


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
    fresh = train(AGAIN, "trainer.max_steps=64")
    stale = train(*STALE, "trainer.max_steps=64")
    assert fresh["samples/forward"] == 64 * 64
    assert 0.4 < stale["samples/forward"] / fresh["samples/forward"] < 0.9
    assert stale["samples/backward"] == fresh["samples/backward"]
    assert stale["test/accuracy"] > fresh["test/accuracy"] - 0.1
    rare = train(AGAIN, "objective.selecting.every=4", "trainer.max_steps=64")
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
        chosen = [f"miner={miner}", f"objective.backward={way}", "optimizer=sgd", f"study={way}"]
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
    kill_at: Any,  # noqa: F811
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
