"""Wrong configurations: each ends in one line and status 1, before any data is loaded."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from minesweep.config.compose import compose
from minesweep.errors import UserError
from minesweep.training.run import run

pytest_plugins = ["sweep_fixtures"]

QUICK = ("dataset=digits", "trainer.max_steps=20", "trainer.threads=1", "trainer.batch_size=64")
Start = Callable[..., str]


@pytest.fixture(autouse=True)
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the data is an error of its own, so that what is told late fails the test."""

    def load(*_: Any) -> None:
        raise AssertionError("the data was asked for")

    monkeypatch.setattr("minesweep.training.run.load_data", load)
    monkeypatch.chdir(ROOT)
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)


def refused(*words: str) -> str:
    """What a run in this process answers."""
    with pytest.raises(UserError) as caught:
        run(compose([*QUICK, *words]))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], runs_dir: Path
) -> Start:
    """``start("miner.k=no")``: the entry ``src/train.py`` in this process, and what it answers."""

    def begin(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["train.py", *words])
        GlobalHydra.instance().clear()
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "src" / "train.py"), run_name="__main__")
        HydraConfig.instance().cfg = None
        capsys.readouterr()
        line = str(ended.value.code)
        assert line.startswith("minesweep: "), line
        assert "\n" not in line
        assert not list(runs_dir.rglob("status.json"))
        return line.removeprefix("minesweep: ")

    return begin


def dotted(letters: int) -> str:
    return "x" * letters


FAULTS = [
    # Switches.
    (["miner=queue", "miner.oracle=no"], "miner.oracle=no must be true or false"),
    (["trainer.profile=off"], "trainer.profile=off must be true or false"),
    (["logger.tensorboard=off"], "logger.tensorboard=off must be true or false"),
    (["model=timm", "model.pretrained=no"], "model.pretrained=no must be true or false"),
    (["optimizer=sgd", "optimizer.nesterov=no"], "optimizer.nesterov=no must be true or false"),
    (["+optimizer.amsgrad=no"], "optimizer.amsgrad=no must be true or false"),
    # Groups.
    (["experiment=null"], "experiment=null: no such choice; for no choice write experiment=none"),
    (["debug=true"], "debug=true: no such choice. Known: default, fdr"),
    (["logger=null"], "logger=null: no such choice; for no choice write logger=none"),
    (["dataset=1e3"], "dataset=1e3: no such choice. Known: blobs"),
    (["miner=7"], "miner=7: no such choice"),
    # Weights & Biases.
    (
        ["logger.wandb.tags=foo"],
        "tags=foo must be a list, each text: write logger.wandb.tags=[foo]",
    ),
    (["logger.wandb.tags=null"], "write logger.wandb.tags=[] for none"),
    ([f"logger.wandb.tags=[{dotted(65)}]"], "is 65 characters. Tags must be between 1 and 64"),
    (["logger.wandb.project=a/b"], "W&B refuses logger.wandb.project=a/b: Invalid project name"),
    (["logger.wandb.project='a:b'"], "W&B refuses logger.wandb.project=a:b"),
    (["logger.wandb.project=a#b"], "W&B refuses logger.wandb.project=a#b"),
    ([f"logger.wandb.project={dotted(129)}"], "exceeded 128 characters"),
    (["logger.wandb=true"], "logger.wandb=true must be a mapping or null"),
    ([f"study={dotted(140)}"], "characters, and W&B takes 128"),
    # Stop rules.
    (["trainer.early_stop=None"], "must be a mapping or null: write trainer.early_stop=null"),
    (["trainer.early_stop=true"], "trainer.early_stop=true must be a mapping or null"),
    (["trainer.early_terminate=None"], "must be a mapping or null: write"),
    (["trainer.early_stop={patience:-1}"], "patience=-1 must be a whole number of at least 1"),
    # What trains nothing, or cannot work.
    (["trainer.gradient_clip=0"], "trainer.gradient_clip=0 must be a number above 0 or null"),
    (["scheduler.warmup=20"], "must be below the run's 20 steps, such as scheduler.warmup=2"),
    (["optimizer=sgd", "optimizer.momentum=2"], "momentum=2 must be a number in [0, 1)"),
    (["optimizer=sgd", "optimizer.momentum=1"], "momentum=1 must be a number in [0, 1)"),
    (["optimizer.lr=inf"], "optimizer.lr=inf must be a number of at least 0"),
    (["optimizer.lr=nan"], "optimizer.lr=nan must be a number"),
    (["miner=knn", "miner.factory=foo"], "factory=foo describes no FAISS index"),
    (["miner=knn", "miner.factory=[IVF8,Flat]", "+miner.parameters.nprobe=0"], "nprobe=0 must"),
    # Names of files, and what the command line cannot read.
    ([f"study={dotted(260)}", "logger=none"], "has 260 bytes, and a folder's name 255 at most"),
    (["miner.start=("], "for text write \"miner.start='('\""),
    (["miner.k=#3"], "cannot read 'miner.k=#3': for text write \"miner.k='#3'\""),
    (["miner=selective_backprop", "miner.k=3"], "no key 'miner.k' in miner=selective_backprop"),
]
"""What is listed in the faults that were found by others."""

FURTHER = [
    # Switches as numbers, words and lists, nested and added.
    (["trainer.progress=1"], "trainer.progress=1 must be true or false"),
    (["trainer.compile=yes"], "trainer.compile=yes must be true or false"),
    (["trainer.channels_last=0"], "trainer.channels_last=0 must be true or false"),
    (["trainer.sync_batchnorm=null"], "trainer.sync_batchnorm=null must be true or false"),
    (["miner=queue", "objective.symmetric=y"], "objective.symmetric=y must be true or false"),
    (["miner=random", "objective.normalize=[true]"], "must be true or false"),
    (["optimizer.fused=maybe"], "optimizer.fused=maybe must be true or false or null"),
    (["+optimizer.maximize=on"], "optimizer.maximize=on must be true or false"),
    # Numbers.
    (["trainer.batch_size=1e2"], "trainer.batch_size=100.0 must be a whole number"),
    (["trainer.batch_size='64'"], "trainer.batch_size=64 must be a whole number"),
    (["trainer.max_steps=0"], "trainer.max_steps=0 must be a whole number of at least 1"),
    (["trainer.max_steps=-inf"], "trainer.max_steps=-inf must be a whole number"),
    (["trainer.threads=0"], "trainer.threads=0 must be"),
    (["trainer.accumulate=0.5"], "trainer.accumulate=0.5 must be a whole number"),
    (["trainer.gradient_clip=-1"], "trainer.gradient_clip=-1 must be a number above 0"),
    (["trainer.gradient_clip=true"], "trainer.gradient_clip=true must be a number"),
    (["optimizer.lr=-0.1"], "optimizer.lr=-0.1 must be a number of at least 0"),
    (["optimizer.lr=fast"], "optimizer.lr=fast must be a number"),
    (["optimizer.lr=null"], "optimizer.lr=null must be a number"),
    (["optimizer.weight_decay=-1"], "optimizer.weight_decay=-1 must be a number of at least 0"),
    (["optimizer.weight_decay=nan"], "optimizer.weight_decay=nan must be a number"),
    (["optimizer.betas=[0.9]"], "optimizer.betas=[0.9] must be a list of 2"),
    (["optimizer.betas=[0.9,1.0]"], "must be a list of 2, each a number in [0, 1)"),
    (["optimizer.betas=0.9"], "optimizer.betas=0.9 must be a list of 2"),
    (["+optimizer.eps=0"], "optimizer.eps=0 must be a number above 0"),
    (["optimizer=sgd", "optimizer.nesterov=true", "optimizer.momentum=0"], "needs optimizer.mom"),
    (["scheduler=cosine", "scheduler.final=1.5"], "scheduler.final=1.5 must be a number in [0, 1]"),
    (["scheduler=linear", "scheduler.warmup=-1"], "scheduler.warmup=-1 must be a whole number"),
    (["scheduler=cosine", "scheduler.warmup=1000"], "below the run's 20 steps"),
    (["logger.every=0"], "logger.every=0 must be a whole number of at least 1"),
    (["logger.mined=-1"], "logger.mined=-1 must be a whole number of at least 0"),
    (["logger.embeddings.points=none"], "logger.embeddings.points=none must be a whole number"),
    (["trainer.eval_every={300: 100}"], "must map steps to intervals, from step 0 on"),
    (["trainer.eval_every={0: 2.5}"], "must map steps to intervals"),
    (["trainer.eval_every=often"], "trainer.eval_every=often must be a whole number"),
    (["trainer.equal_cost=automatic"], "did you mean 'auto'?"),
    (["miner.skip_hardest=1"], "miner.skip_hardest=1 must be a number in [0, 1)"),
    (["miner.ratio=inf"], "miner.ratio=inf must be a number in (0, 1] or null"),
    (["miner.k=[16,32]"], "miner.k=[16, 32] must be a whole number"),
    (["miner.interrupt=-3"], "miner.interrupt=-3 must be a whole number"),
    (["model.widths=100"], "model.widths=100 must be a list, each a whole number"),
    (["model.widths=[100,0]"], "must be a list, each a whole number of at least 1"),
    (["dataset.limit=0"], "dataset.limit=0 must be a whole number of at least 1 or null"),
    (["dataset.limit=10%"], "dataset.limit=10% must be a whole number"),
    (["miner=mochi", "miner.alpha_range=[1,0]"], "must be [low, high], each a number in [0, 1]"),
    (["miner=knn", "miner.curriculum.most=2"], "miner.curriculum.most=2 must be a number in"),
    # Words.
    (["model.activation=rleu"], "did you mean 'relu'?"),
    (["trainer.count=forwards"], "did you mean 'forward'?"),
    (["trainer.parallel=dpp"], "did you mean 'ddp'?"),
    (["objective.backward=row"], "did you mean 'rows'?"),
    (["logger.embeddings.split=test"], "logger.embeddings.split=test must be one of val, train"),
    (["trainer.device=cuda:x"], "trainer.device=cuda:x is not one of auto, cpu, cuda"),
    # Names and folders.
    (["study=a/b"], "study=a/b must be a plain folder name"),
    (["study="], "study= must be text, and is empty"),
    (["study=[a]"], "study=['a'] must be text"),
    (["paths.data_dir="], "paths.data_dir= must be a path, and is empty"),
    (["ckpt_path=nowhere.pt"], "ckpt_path=nowhere.pt: No such file or directory"),
    (["logger.wandb.entity=[a]"], "must be text or null"),
    (
        ["logger.wandb={projct: a}"],
        "no key 'logger.wandb.projct'; did you mean 'logger.wandb.project'?",
    ),
    (["logger.wandb.tags=['']"], "logger.wandb.tags=[''] must be a list, each text"),
    (["logger.wandb.tags=[[a]]"], "must be a list, each text"),
    (["logger.wandb.project=a%b"], "W&B refuses logger.wandb.project=a%b"),
    # Keys that nothing reads.
    (["+trainer.max_step=5"], "no key 'trainer.max_step'; did you mean 'trainer.max_steps'?"),
    (["+optimizer.momentm=0.5"], "no key 'optimizer.momentm': torch.optim.Adam does not take it"),
    (["+miner.kk=3"], "no key 'miner.kk': minesweep.miners.ohem.Ohem does not take it"),
    (["trainer.early_stop={patince: 3}"], "did you mean 'trainer.early_stop.patience'?"),
    (["trainer.early_terminate={min_iter: 3}"], "write early_terminate into a sweep file"),
    (["trainer.early_stop={goal: higher, patience: 2}"], "goal=higher must be one of maximize"),
    (["+miner._target_=my.Miner"], "the key is there already; write it without +"),
    (["model.hidden=3"], "no key 'model.hidden' in model=mlp"),
    # Choices.
    (["optimizer=null"], "optimizer=null: no such choice. Known: adam"),
    (["miner=[ohem,all]"], "miner"),
    (["scheduler=cos"], "did you mean 'cosine'?"),
    (["experiment=nk/n512-k38"], "experiment/nk=n512-k38: no such choice"),
]
"""Inputs of the same kinds that nobody has reported."""


@pytest.mark.parametrize(
    ("words", "answer"), [*FAULTS, *FURTHER], ids=lambda item: "".join(item)[:60]
)
def test_each_is_one_line_before_any_data(words: list[str], answer: str) -> None:
    assert answer in refused(*words)


ENTRY = [
    *FAULTS[::5],
    *FURTHER[::12],
    (["--config-dir=nowhere"], "nowhere"),
    (["study"], "study"),
    (["miner=knn", "miner.factory=IVF16,Flat"], "write miner.factory=[IVF16,Flat] for a list"),
]


@pytest.mark.parametrize(("words", "answer"), ENTRY, ids=lambda item: "".join(item)[:60])
def test_the_entry_ends_with_the_line_and_status_1(
    start: Start, words: list[str], answer: str
) -> None:
    assert answer in start(*QUICK, *words)


@pytest.mark.parametrize(
    ("variable", "text", "answer"),
    [
        ("WANDB_MODE", "ofline", "W&B refuses WANDB_MODE=ofline: Input should be 'online'"),
        ("WANDB_RUN_ID", "a/b", "W&B refuses WANDB_RUN_ID=a/b: Run ID cannot contain"),
        ("WANDB_RUN_ID", dotted(200), "has 200 characters, and W&B takes 128"),
        ("WANDB_RUN_GROUP", dotted(129), "has 129 characters, and W&B takes 128"),
        ("WANDB_NAME", dotted(129), "has 129 characters, and W&B takes 128"),
        ("WANDB_PROJECT", "a:b", "W&B refuses WANDB_PROJECT=a:b: Invalid project name"),
        ("WANDB_TAGS", dotted(65), "is 65 characters. Tags must be between 1 and 64"),
        (
            "WANDB_BASE_URL",
            "nowhere",
            "W&B refuses WANDB_BASE_URL=nowhere: Input should be a valid",
        ),
        ("MINESWEEP_RUNS", "/proc/nowhere", "paths.runs_dir=/proc/nowhere cannot be made"),
    ],
)
def test_each_wrong_variable_is_one_line(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, answer: str
) -> None:
    monkeypatch.setenv(variable, text)
    assert answer in refused()


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["model=timm", "model.name=resnet10t", "trainer.batch_size=1", "miner=all"], "BatchNorm"),
        (["ckpt_path={folder}/text.pt"], "text.pt cannot be read (torch.save did not write it)"),
        (["trainer.max_steps=null", "trainer.max_epochs=1", "scheduler.warmup=30"], "16 steps"),
    ],
)
def test_what_only_the_model_or_the_data_can_tell(
    cli: Callable[..., Any], tmp_path: Path, words: list[str], answer: str
) -> None:
    (tmp_path / "text.pt").write_text("hello\n")
    done = cli(*QUICK, "logger=none", *(word.format(folder=tmp_path) for word in words))
    assert done.returncode == 1
    assert answer in done.stderr
    assert done.stderr.count("\n") == 1


# --- sweep files ---------------------------------------------------------------------------------


def sweep_file(folder: Path, parameters: dict[str, Any]) -> Path:
    tree = {
        "program": "src/train.py",
        "method": "grid",
        "command": ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"],
        "parameters": {"dataset": {"value": "digits"}, "trainer.max_steps": {"value": 5}}
        | parameters,
    }
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.mark.parametrize(
    ("parameters", "answer"),
    [
        ({"miner": {"value": "queue"}, "miner.oracle": {"values": ["on", "no"]}}, "oracle=on must"),
        ({"trainer.profile": {"values": ["off"]}}, "trainer.profile=off must be true or false"),
        ({"experiment": {"values": [None]}}, "for no choice write experiment=none"),
        ({"debug": {"values": [True]}}, "debug=true: no such choice"),
        ({"dataset": {"values": [2024]}}, "dataset=2024: no such choice"),
        ({"optimizer.lr": {"values": [0.1, float("inf")]}}, "optimizer.lr=inf must be a number"),
        ({"optimizer.lr": {"values": ["1e-3x"]}}, "optimizer.lr=1e-3x must be a number"),
        ({"scheduler.warmup": {"values": [0, 5]}}, "must be below the run's 5 steps"),
        ({"trainer.gradient_clip": {"values": [0, 1]}}, "gradient_clip=0 must be a number above"),
        ({"trainer.early_stop": {"value": "None"}}, 'write "null" in quotes'),
        (
            {"logger.wandb.project": {"values": ["a", "b/c"]}},
            "W&B refuses logger.wandb.project=b/c",
        ),
        ({"logger.wandb.tags": {"value": ["x" * 65]}}, "is 65 characters"),
        ({"study": {"value": "x" * 260}}, "has 260 bytes"),
        (
            {"miner": {"values": ["ohem", "all"]}, "miner.k": {"value": 8}},
            "no key 'miner.k' in min",
        ),
        (
            {"miner": {"value": "knn"}, "miner.factory": {"value": "foo"}},
            "factory=foo describes no",
        ),
    ],
    ids=lambda item: str(item)[:50],
)
def test_a_sweep_is_refused_by_its_check(
    sweep: Any, tmp_path: Path, parameters: dict[str, Any], answer: str
) -> None:
    with pytest.raises(UserError) as caught:
        sweep(sweep_file(tmp_path, parameters), check=True)
    assert answer in str(caught.value)
    assert "\n" not in str(caught.value)
