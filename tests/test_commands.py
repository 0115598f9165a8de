"""Each command that README and documentation show is checked; those that RUN names are run.

A new command falls under a rule of command_rules.py. One that no rule covers fails a test.
"""

from __future__ import annotations

import importlib.util
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_rules import RULES, load, split_config_dir, train_words
from conftest import ROOT, Train
from documented import blocks, commands

from minesweep.config.compose import compose

OWN = ROOT / "tests" / "own"
TINY = ("trainer.max_steps=3", "trainer.eval_every=null", "trainer.checkpoint_every=null")
COMMANDS = commands()
RUN = (
    "python src/train.py miner=ohem miner.k=384",
    "python src/train.py miner=random_k miner.k=384",
    "python src/train.py dataset=digits trainer.max_epochs=5",
    "python src/train.py --config-dir my_conf miner=mine",
    "python src/train.py --config-dir my_conf miner=mine model=mine dataset=mine",
    "python src/train.py --config-dir tests/own dataset=mine model=mine miner=mine",
    "python src/train.py dataset=image_folder dataset.path=my_images",
    "python src/train.py dataset=image_folder dataset.path=my_images trainer.max_steps=50",
    "python src/train.py dataset=image_folder dataset.path=my_images trainer.batch_size=64"
    " trainer.max_steps=50",
    "python src/train.py dataset=csv dataset.path=wine.csv dataset.label=target model=mlp"
    " trainer.batch_size=16",
    "python src/train.py dataset=npz dataset.path=digits.npz model=mlp",
)
"""Training commands that run here, on three steps of small data, in this process."""


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_right(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    rules = [rule for start, rule in RULES.items() if command.startswith(start)]
    assert len(rules) == 1, f"no rule of tests/command_rules.py covers: {command}"
    rules[0](command)


# --- what is run -------------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``my_images``: three classes of small pictures, where ``paths.data_dir`` points."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for kind in ("cats", "dogs", "owls"):
        folder = tmp_path / "data" / "my_images" / kind
        folder.mkdir(parents=True)
        for number in range(40):
            pixels = random.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    monkeypatch.setenv("MINESWEEP_DATA", str(tmp_path / "data"))
    return tmp_path / "data" / "my_images"


@pytest.fixture
def tables(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page on datasets writes, where ``paths.data_dir`` points."""
    (text,) = (text for _, text in blocks("python") if "load_wine" in text)
    monkeypatch.chdir(images.parents[1])
    exec(compile(text, "block", "exec"), {})
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("command", RUN)
@pytest.mark.usefixtures("images", "tables")
def test_training_commands_run(command: str, train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command in COMMANDS, "RUN names a command that is no longer shown"
    monkeypatch.syspath_prepend(str(OWN))
    overrides, folder = split_config_dir(train_words(command))
    small = [*TINY, "trainer.batch_size=32", *(["miner.k=16"] if "miner.k" in command else [])]
    # train() begins with dataset=digits, which an override after it replaces.
    assert train(*overrides, *small, config_dir=folder)["step"] == 3


@pytest.mark.slow
def test_a_product_of_choices_runs(cli: Callable[..., Any], runs_dir: Path) -> None:
    words = train_words("python src/train.py -m seed=0,1,2 dataset=digits")
    done = cli(*words, *TINY, "logger=none", "trainer.batch_size=32")
    assert done.returncode == 0, done.stderr
    assert len(list((runs_dir / "single").glob("ohem-*"))) == 3


@pytest.mark.slow
def test_a_sweep_runs_and_ends_with_its_report(cli: Callable[..., Any], runs_dir: Path) -> None:
    # Three seeds are too few for an answer, and enough for a report.
    few = ("--max-seeds", "3", "logger=none", *TINY)
    done = cli(*demo_words(), *few, entry="sweep")
    assert done.returncode == 0, done.stderr
    assert str(runs_dir / "demo" / "report" / "report.html") in done.stdout


def demo_words() -> list[str]:
    """What ``make demo`` gives to ``src/sweep.py``."""
    done = subprocess.run(
        ["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    line = next(line for line in done.stdout.splitlines() if "src/sweep.py" in line)
    words = shlex.split(line.split("src/sweep.py")[1])
    return [word for word in words if not word.startswith("logger=")]


@pytest.fixture(scope="module")
def nk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ``runs/nk``: three cells of ``sweeps/nk.yaml`` on digits, three steps each."""
    from minesweep.training.run import run

    runs = tmp_path_factory.mktemp("commands") / "runs"
    small = ["dataset=digits", "logger=none", "trainer.progress=false", "study=nk", *TINY]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINESWEEP_RUNS", str(runs))
        for cell in ("n512-k384", "n512-k512", "n1024-k512"):
            for seed in (0, 1):
                run(compose([f"experiment=nk/{cell}", f"seed={seed}", *small]))
    return runs / "nk"


REPORTS = {
    (c.count("/"), c.split("/")[-1].count("-")): c
    for c in COMMANDS
    if c.startswith("python src/report.py")
}
"""Of commands that differ in the name of the study alone, one."""


@pytest.mark.parametrize("command", REPORTS.values())
def test_reports_run(command: str, nk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, *options = shlex.split(command)[2:]
    run = next(nk.glob("ohem-n512-k384-s0-*"))
    # runs is a folder of studies, runs/nk/<run> is a run, and every other folder is a study.
    arguments = [str((nk.parent, nk, run)[folder.count("/")]), *options]
    assert load("report").main(arguments) == 0
    printed = capsys.readouterr().out
    assert ".html" in printed


def test_the_dashboard_runs(cli: Callable[..., Any], nk: Path) -> None:
    done = cli(str(nk.parent), "--no-tensorboard", entry="dashboard")
    assert done.returncode == 0, done.stderr
    assert (nk.parent / "index.html").stat().st_size > 1000


def test_the_python_blocks_run(nk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop and the miner of README and how-to, as they stand, on a small model."""
    import torch

    monkeypatch.chdir(tmp_path)
    extras = ["lightning", "transformers", "datasets\n"]
    if importlib.util.find_spec("pytorch_metric_learning") is None:
        extras.append("pytorch_metric_learning")
    shown = {t for _, t in blocks("python") if not any(extra in t for extra in extras)}
    assert shown
    run = next(nk.glob("ohem-n512-k384-s0-*"))
    torch.manual_seed(0)
    for text in shown:
        if "load_run" in text:
            text = text.replace("runs/single/ohem-n64-k48-s0-1a2b3c4d", str(run))
        model = torch.nn.Linear(4, 3)
        before = model.weight.detach().clone()
        batches = [(torch.randn(128, 4), torch.randint(3, (128,))) for _ in range(3)]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        names: dict[str, Any] = {"model": model, "batches": batches, "optimizer": optimizer}
        names["images"] = torch.rand(2, 1, 8, 8)
        exec(compile(text, "block", "exec"), names)
        if "backward()" in text:
            assert not torch.equal(before, model.weight)
        if "AboveMean" in text:
            weights = names["AboveMean"]().select(torch.tensor([0.0, 1.0, 5.0]))
            assert weights.tolist() == [0, 0, 1]


@pytest.mark.filterwarnings("ignore")
def test_the_lightning_block_runs(tmp_path: Path) -> None:
    import torch

    from minesweep.compat import import_torchvision

    import_torchvision()  # Lightning imports it; a wheel that does not fit this torch is mended
    lightning = pytest.importorskip("lightning")
    (text,) = (text for _, text in blocks("python") if "lightning" in text)
    names: dict[str, Any] = {}
    exec(compile(text, "block", "exec"), names)
    model = torch.nn.Linear(4, 3)
    before = model.weight.detach().clone()
    data = torch.utils.data.TensorDataset(torch.randn(256, 4), torch.randint(3, (256,)))
    trainer = lightning.Trainer(
        max_steps=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(names["Mined"](model), torch.utils.data.DataLoader(data, batch_size=128))
    assert trainer.global_step == 2
    assert not torch.equal(before, model.weight)


@pytest.mark.filterwarnings("ignore")
def test_the_block_of_transformers_runs(tmp_path: Path) -> None:
    import torch

    from minesweep.compat import import_torchvision

    import_torchvision()  # transformers imports it; a wheel that does not fit this torch is mended
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    (text,) = (text for _, text in blocks("python") if "transformers" in text)
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 20}
    config = transformers.BertConfig(**small, intermediate_size=8, num_labels=2)
    model = transformers.BertForSequenceClassification(config)
    before = model.classifier.weight.detach().clone()
    settings = transformers.TrainingArguments(
        str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=32,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    train = [{"input_ids": torch.arange(5) + n % 9, "labels": n % 2} for n in range(64)]
    names: dict[str, Any] = {"model": model, "settings": settings, "train": train}
    exec(compile(text, "block", "exec"), names)
    assert not torch.equal(before, model.classifier.weight)
    logged = [line for line in names["trainer"].state.log_history if "loss" in line]
    assert [line["hard/samples/k"] for line in logged] == [16, 16]


# datasets 3.0 leaves it to Python to close a CSV file.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_the_block_of_datasets_runs(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("datasets")
    (text,) = (text for _, text in blocks("python") if "datasets\n" in text)
    rows = "".join(f"a {word} film,{word}\n" for word in ("fine", "poor") * 50)
    (tmp_path / "reviews.csv").write_text(f"text,label\n{rows}")
    monkeypatch.chdir(tmp_path)
    exec(compile(text, "block", "exec"), {})
    monkeypatch.setenv("MINESWEEP_DATA", str(tmp_path / "data"))
    (command,) = (c for c in COMMANDS if "my_saved_dataset" in c)
    words = [*train_words(command), "trainer.batch_size=32", "optimizer.lr=0.1"]
    assert train(*words)["test/accuracy"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("python src/sweep.py")])
def test_each_sweep_passes_its_own_check(command: str, cli: Callable[..., Any]) -> None:
    words = ["tests/own" if word == "my_conf" else word for word in shlex.split(command)[2:]]
    done = cli(*words, *([] if "--check" in words else ["--check"]), entry="sweep")
    assert done.returncode == 0, done.stderr
    assert "trials" in done.stdout
