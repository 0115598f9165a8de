"""Every choice composes; what is wrong is told by one line; a run is named by what it computes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, choices, reference

from minesweep.config.arms import read_arms
from minesweep.config.checks import check
from minesweep.config.compose import compose
from minesweep.config.identity import identity, run_folder, run_name
from minesweep.errors import UserError
from minesweep.sweeps.parameters import write
from minesweep.sweeps.spec import read

PARTS = ("schedule", "curriculum", "views")  # parts of other choices
GROUPS = sorted(p.name for p in (ROOT / "conf").iterdir() if p.is_dir() and p.name not in PARTS)


@pytest.mark.parametrize(
    ("group", "choice"), [(group, choice) for group in GROUPS for choice in choices(group)]
)
def test_every_choice_composes_and_passes_the_checks(group: str, choice: str) -> None:
    named = [f"miner.reference={reference()}"] if choice.endswith("/rho") else []
    cfg = compose([f"{group}={choice}", *named])
    check(cfg)
    assert re.fullmatch(r"[0-9a-f]{64}", identity(cfg))


@pytest.mark.parametrize("path", sorted((ROOT / "conf").rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_key_is_commented(path: Path) -> None:
    """Each key of a choice, or the block it is in, has a comment above it."""
    if path.parent.name in ("debug", "experiment") or "experiment" in path.parts:
        assert path.read_text().startswith(("# @package", "#"))
        return
    lines, commented = path.read_text().splitlines(), False
    for line in lines:
        if line.lstrip().startswith("#"):
            commented = True
        elif re.match(r"[a-z_]+:", line) and not line.startswith(("_target_", "defaults", "hydra")):
            assert commented or "#" in line or line.startswith(("max_steps", "nesterov")), line
        if not line.strip():
            commented = False


# --- identity ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "override",
    [
        "paths.data_dir=elsewhere",
        "paths.runs_dir=elsewhere",
        "study=other",
        "resume=never",
        "logger=none",
        "logger.wandb=null",
        "logger.tensorboard=false",
        "logger.wandb.tags=[a]",
        "logger.embeddings.every=5",
        "trainer.device=cpu",
        "trainer.threads=1",
        "trainer.progress=false",
        "trainer.profile=true",
        "trainer.checkpoint_every=7",
    ],
)
def test_what_cannot_change_the_result_does_not_change_the_identity(override: str) -> None:
    assert identity(compose([override])) == identity(compose())


def leaves() -> list[str]:
    from omegaconf import OmegaConf

    def walk(node: object, prefix: str) -> list[str]:
        if not isinstance(node, dict) or not node:
            return [prefix]
        return [leaf for key, value in node.items() for leaf in walk(value, f"{prefix}.{key}")]

    tree = OmegaConf.to_container(compose(), resolve=True)
    return [leaf.strip(".") for leaf in walk(tree, "")]


def test_every_other_key_changes_the_identity() -> None:
    from omegaconf import OmegaConf

    from minesweep.config.identity import NEUTRAL

    base, seen = compose(), set()
    before = identity(base)
    for leaf in leaves():
        if leaf == "ckpt_path" or any(f"{leaf}.".startswith(f"{key}.") for key in NEUTRAL):
            continue
        changed = base.copy()
        OmegaConf.update(changed, leaf, "something else")
        seen.add(identity(changed))
        assert identity(changed) != before, leaf
    assert len(seen) > 25


def test_a_checkpoint_is_named_by_its_content(tmp_path: Path) -> None:
    weights = []
    for name, content in [("a.pt", b"1"), ("b.pt", b"1"), ("c.pt", b"2")]:
        (tmp_path / name).write_bytes(content)
        weights.append(identity(compose([f"ckpt_path={tmp_path / name}"])))
    assert weights[0] == weights[1] != weights[2]
    with pytest.raises(UserError, match=r"nowhere\.pt"):
        identity(compose(["ckpt_path=nowhere.pt"]))


def test_names_are_readable(runs_dir: Path) -> None:
    cfg = compose(["miner=ohem", "miner.k=128", "trainer.batch_size=1024", "seed=3"])
    assert run_name(cfg) == "ohem-n1024-k128-s3"
    assert run_folder(cfg) == runs_dir / "single" / f"ohem-n1024-k128-s3-{identity(cfg)[:8]}"
    assert run_name(compose(["miner=all"])) == "all-n512-s0"
    assert run_name(compose(["miner=selective_backprop"])) == "selective_backprop-n512-s0"
    assert run_name(compose(["miner.ratio=0.25"])) == "ohem-n512-k128-s0"


# --- what users get wrong ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("miner.kk=3", "no key 'miner.kk'; did you mean 'miner.k'?"),
        ("miner=ohm", "did you mean 'ohem'? Known: all, "),
        ("optimizer=adm", "did you mean 'adam'?"),
        ("data=mnist", "did you mean 'dataset'?"),
        ("datamodule=mnist", "did you mean 'dataset'?"),
        ("model.optimizer.lr=1", "did you mean 'optimizer.lr'?"),
        ("trainer.max_step=3", "did you mean 'trainer.max_steps'?"),
        ("max_steps=3", "did you mean 'trainer.max_steps'?"),
        ("lr=3", "did you mean 'optimizer.lr'?"),
        ("dataset=mnits", "did you mean 'mnist'?"),
        ("miner.k=[1", "cannot read 'miner.k=[1'"),
    ],
)
def test_a_wrong_name_is_told_with_the_nearest_right_one(override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        compose([override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["miner.k=9999"], "choose k in [1, trainer.batch_size=512]"),
        (["miner.k=0"], "miner.k=0 must be a whole number of at least 1 or null"),
        (["miner.k=abc"], "miner.k=abc must be a whole number"),
        (["miner.k=384.0"], "miner.k=384.0 must be a whole number"),
        (["miner.ratio=1.5"], "miner.ratio=1.5 must be a number in (0, 1] or null"),
        (["miner.ratio=0"], "miner.ratio=0 must be a number in (0, 1]"),
        (["miner.k=500", "miner.skip_hardest=0.1"], "fewer than k=500"),
        (["miner.start=0.9", "miner.end=0.5"], "miner.start=0.9 must be below miner.end=0.5"),
        (["dataset.label_noise=1.5"], "dataset.label_noise=1.5 must be a number in [0, 1]"),
        (["dataset.normalize=unitt"], "did you mean 'unit'?"),
        (["objective.reduction=men"], "did you mean 'mean'?"),
        (["resume=alway"], "must be one of auto, never, must"),
        (["trainer.precision=16"], "trainer.precision=16 must be one of 32, bf16"),
        (["trainer.device=gpu"], "is not one of auto, cpu, cuda"),
        (["trainer.batch_size=0"], "trainer.batch_size=0 must be a whole number of at least 1"),
        (["trainer.max_epochs=null"], "give trainer.max_epochs or trainer.max_steps"),
        (["seed=-1"], "seed=-1 must be a whole number of at least 0"),
        (["seed=true"], "seed=true must be a whole number"),
        (["study=../escape"], "must be a plain folder name"),
        (["miner=selective_backprop", "trainer.count=backward"], "needs a fixed k"),
        (["miner=closest_negative", "miner.anneal=0"], "miner.anneal=0 must be a number in (0, 1]"),
        (["miner=smooth", "miner.temperature=0"], "must be a number above 0"),
        (["miner=smooth", "miner.per_class=2.5"], "miner.per_class=2.5 must be a whole number"),
        (["miner=smooth", "miner.start=1.0"], "miner.start=1.0 must be below miner.end=1.0"),
        (["miner=band", "miner.range_max=0"], "miner.range_max=0 must be a whole number"),
        (["miner=band", "miner.range_min=10"], "range_min=10 must be below miner.range_max=10"),
        (
            ["miner=band", "miner.range_min=300", "miner.range_max=null"],
            "miner.range_min=300 must be below trainer.batch_size=256",
        ),
        (["miner=band", "miner.relative_margin=2"], "must be a number in [0, 1] or null"),
        (["miner=distance_weighted", "miner.cutoff=1.5"], "below miner.nonzero_loss_cutoff=1.4"),
        (["miner=hardest", "dataset.max_tokens=0"], "dataset.max_tokens=0 must be a whole number"),
        (["miner=hardest", "objective.threshold=70"], "must be a number in [-1, 1]"),
        (["miner=knn", "miner.positives=2"], "miner.positives=2 must be a number in [0, 1]"),
        (["miner=knn", "miner.refresh=0"], "miner.refresh=0 must be a whole number"),
        (["miner=random", "objective.margin=0"], "objective.margin=0 must be a number above 0"),
        (
            ["miner=random", "objective.power=0.5"],
            "objective.power=0.5 must be a number of at least",
        ),
        (["dataset.held_out_classes=[1]"], "objective=cross_entropy cannot know classes that it"),
        (["dataset=blobs", "dataset.classes=1"], "dataset.classes=1 must be a whole number of at"),
        (
            ["model=embedding_mlp", "model.dim=0"],
            "model.dim=0 must be a whole number of at least 1",
        ),
    ],
)
def test_a_wrong_value_is_told_with_what_is_allowed(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        check(compose(overrides))
    assert message in str(caught.value)


def test_an_unwritable_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be made"):
        check(compose([f"paths.runs_dir={tmp_path / 'file' / 'runs'}"]))


def test_a_misfit_is_told() -> None:
    from minesweep.config.checks import check_fit

    with pytest.raises(UserError, match="miner=ohem mines a example, but objective=cross_entropy"):
        check_fit(compose(), ("example",), "pair")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["miner.kk=3"], "no key 'miner.kk'; did you mean 'miner.k'?"),
        (["miner=ohm"], "miner=ohm: no such choice; did you mean 'ohem'?"),
        (
            ["miner=knn", "miner.factory=IVF16,Flat"],
            "miner.factory=IVF16,Flat: write miner.factory=[IVF16,Flat] for a list",
        ),
        (["miner.k=9999"], "miner.k=9999 is more than n"),
    ],
)
def test_the_command_prints_one_line_and_exits_with_1(
    cli: Callable, words: list[str], message: str
) -> None:
    done = cli(*words)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"minesweep: {message}")
    assert done.stderr.count("\n") == 1


def test_the_traceback_can_be_had(cli: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert "Traceback" in cli("miner.k=9999").stderr


def test_showing_the_configuration_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['train.py', '--cfg', 'job']; import runpy\n"
        "try: runpy.run_path('src/train.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'wandb', 'timm', 'pandas', 'sklearn', 'scipy', 'matplotlib', 'plotly'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert "HEAVY []" in done.stdout
    assert "_target_: minesweep.miners.ohem.Ohem" in done.stdout


def test_an_experiment_wins_over_the_miner_and_the_command_line_over_both(tmp_path: Path) -> None:
    (tmp_path / "miner").mkdir()
    (tmp_path / "experiment").mkdir()
    (tmp_path / "miner" / "mine.yaml").write_text(
        "defaults:\n  - override /objective@_global_.objective: l2\n  - _self_\n"
        "_target_: minesweep.miners.all.All\n"
    )
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /miner: mine\n"
        "  - override /objective: cross_entropy\n"
    )
    target = "minesweep.objectives.classification."
    assert compose(["miner=mine"], tmp_path).objective._target_ == target + "L2"
    assert compose(["experiment=mine"], tmp_path).objective._target_ == target + "CrossEntropy"
    chosen = compose(["miner=mine", "objective=cross_entropy"], tmp_path)
    assert chosen.objective._target_ == target + "CrossEntropy"


# --- the arms of a study -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arm", "words"),
    [
        ("nk/n512-k384", "experiment=nk trainer.batch_size=512 miner.k=384"),
        ("help/ohem-25-cost", "experiment=help/ohem-25 trainer.equal_cost=auto"),
        (
            "which/random_k-50",
            "experiment=help miner=random_k miner.ratio=0.5 trainer.equal_cost=auto",
        ),
        ("which/annealed", "miner=closest_negative miner.mask=annealed trainer.equal_cost=auto"),
        (
            "lsh_vs_knn/lsh64-positives",
            "experiment=lsh_vs_knn miner=lsh miner.n_bits=64 miner.shortlist=1 "
            "miner.mine=positives miner.positives=1.0 miner.curriculum.most=1.0",
        ),
        (
            "lsh_vs_knn/knn-negatives",
            "experiment=lsh_vs_knn miner=knn miner.mine=negatives",
        ),
        (
            "pairs/seed_knn",
            "experiment=pairs miner=knn curriculum@miner.curriculum=switch miner.mine=positives "
            "miner.positives=1.0 miner.random_positives=null miner.k=1 miner.refresh=1 "
            "miner.sample=0",
        ),
        ("pixels/focal", "experiment=pixels objective=pixel_focal optimizer.lr=0.01"),
    ],
)
def test_an_arm_is_what_its_words_are_on_the_command_line(arm: str, words: str) -> None:
    named, by_hand = compose([f"experiment={arm}"]), compose(words.split())
    assert named == by_hand
    assert identity(named) == identity(by_hand)


@pytest.mark.parametrize("path", sorted((ROOT / "conf" / "experiment").glob("*/*.yaml")), ids=str)
def test_what_adds_to_a_study_is_an_arm_in_its_file(path: Path) -> None:
    study = path.parent.name
    told = f"write it as an arm into conf/experiment/{study}.yaml"
    assert f"/experiment/{study}@_global_" not in path.read_text(), told


def test_the_command_line_wins_over_an_arm() -> None:
    cfg = compose(["experiment=help/ohem-25", "miner=random_k", "miner.ratio=0.75", "seed=3"])
    assert (run_name(cfg), cfg.trainer.count) == ("random_k-n256-k192-s3", "backward")


def test_a_wrong_arm_is_told_with_the_nearest_one() -> None:
    with pytest.raises(UserError, match=r"ohem-5: no such choice; did you mean 'ohem-[57][05]'\?"):
        compose(["experiment=help/ohem-5"])


def test_a_file_of_ones_own_may_name_arms(tmp_path: Path, cli: Callable) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nseed: 7\narms: {half: {miner: random_k, miner.ratio: 0.5}}\n"
    )
    by_hand = compose(["seed=7", "miner=random_k", "miner.ratio=0.5"])
    assert compose(["experiment=mine/half"], tmp_path) == by_hand
    assert compose(["experiment=mine"], tmp_path) == compose(["seed=7"])
    own = ("--config-dir", str(tmp_path))
    shown = cli(*own, "experiment=mine/half", "--cfg", "job", "--package", "miner")
    assert "ratio: 0.5" in shown.stdout
    assert "did you mean 'half'?" in cli(*own, "experiment=mine/hal").stderr


def test_help_lists_the_arms_of_each_study() -> None:
    command = [sys.executable, str(ROOT / "src" / "train.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    arms = "all, ohem, ohem_skip, random_k, rho, selective_backprop"
    assert f"\nexperiment/noise: {arms}\n" in done.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("arms: [all]", "arms must be a mapping"),
        ("arms: {all: ohem}", "arms.all: write what it adds"),
    ],
)
def test_arms_that_are_no_mappings_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_arms(tmp_path, "experiment/mine")


def test_a_grid_may_set_several_keys_of_a_node() -> None:
    sweep = read(ROOT / "sweeps" / "margin.yaml")
    (forms,) = [p.values for p in sweep.parameters if p.name == "objective"]
    objectives = [compose(["experiment=margin", write("objective", f)]).objective for f in forms]
    found = [(objective.distance, objective.normalize) for objective in objectives]
    assert found == [("euclidean", False), ("euclidean", True), ("cosine", False)]
