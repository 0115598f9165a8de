"""Thousands of trials: what is done once a sweep stays that, and what is done once a trial too."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf
from reporting_fixtures import config, write_run
from sweeping import ROOT, plan_of, write_sweep

from minesweep.config.compose import compose
from minesweep.config.identity import run_folder
from minesweep.config.overrides import parse
from minesweep.config.places import CONF, VERSION_BASE, register_resolver
from minesweep.dashboard import index
from minesweep.errors import UserError
from minesweep.reporting.analyse.report import analyse
from minesweep.reporting.show import figures, tables
from minesweep.reporting.show.write import write
from minesweep.sweeps.plan import Planner, Trial
from minesweep.sweeps.spec import read
from minesweep.sweeps.trials import trials
from minesweep.tracking import reading
from minesweep.tracking.reading import UnreadableError, read_yaml

pytest_plugins = ["sweep_fixtures"]

OPENED: list[Counter[str] | None] = [None]


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and OPENED[0] is not None:
        OPENED[0][str(arguments[0])] += 1


sys.addaudithook(_note)


@pytest.fixture
def opened() -> Iterator[Counter[str]]:
    """Which files this process opens, and how often."""
    OPENED[0] = Counter()
    yield OPENED[0]
    OPENED[0] = None


@pytest.fixture
def containers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often a configuration of OmegaConf's is turned into plain values."""
    count, own = [0], OmegaConf.to_container

    def counted(*arguments: Any, **options: Any) -> Any:
        count[0] += 1
        return own(*arguments, **options)

    monkeypatch.setattr(OmegaConf, "to_container", counted)
    return count


@pytest.fixture
def plan(runs: Path) -> Iterator[Callable[[Path], list[Trial]]]:
    """The trials of a sweep file, of which none is run."""
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("train", [], RunMode.MULTIRUN)

        def planned(path: Path) -> list[Trial]:
            read_file = read(path)
            planner = Planner(
                read_file, lambda words: loader.load_sweep_config(master, list(words))
            )
            return planner.plan(trials(read_file))

        yield planned


@pytest.mark.parametrize(
    "word",
    [
        *("seed=0", "seed=-3", "miner.k=12", "optimizer.lr=1e-05", "optimizer.lr=2.5e+3"),
        *("a_b.c1=0.125", "a=-0", "a=-0.0", "a=1e400", "a=1e05", "a=00", "a=1_000", "a=.5", "a=5."),
        *("a=+1", "a=1.5.2", "a= 1", "a=1 ", "a=inf", "a.0=1", "a-b=1", "+a=1", "a/b=1", "a@b=1"),
        *("a=true", "a=null", "a=1,2", "a=[1]", "a='1'", "a=", "a=1e", "a=0x1", "a=\u0661"),
    ],
)
def test_a_number_is_read_as_hydra_reads_it(word: str) -> None:
    def told(read: Callable[[str], Any]) -> str:
        try:
            override = read(word)
        except Exception as error:
            return type(error).__name__
        return repr((override.type, override.key_or_group, override.value(), override.input_line))

    assert told(parse) == told(OverridesParser.create().parse_override)


def test_trials_that_differ_in_numbers_are_what_hydra_composes(plan: Any, tmp_path: Path) -> None:
    """Also where another value follows from a number, and where two overrides meet."""
    axes = {
        "miner": {"values": ["ohem", "random_k"]},
        "seed": {"values": [0, 1, 5]},
        "optimizer.lr": {"values": [0.1, 1, 1e-5]},
        "miner.k": {"values": [8, 16]},
        "trainer.batch_size": {"values": [32, 64]},
        "dataset.limit": {"value": "${trainer.batch_size}"},
    }
    path = write_sweep(tmp_path, axes)
    planned, written = plan(path), plan_of(path)
    assert len({trial.folder for trial in planned}) == len(written) == 72
    for trial, words in list(zip(planned, written, strict=True))[::7]:
        assert run_folder(compose(words)) == trial.folder


def test_a_resolver_that_may_read_any_key_is_asked_for_every_trial(
    plan: Any, tmp_path: Path
) -> None:
    register_resolver("of_seed", lambda *, _root_: 32 + _root_.seed, replace=True)
    try:
        path = write_sweep(tmp_path, {"trainer.batch_size": {"value": "${of_seed:}"}})
        names = [trial.folder.name.split("-")[1] for trial in plan(path)]
    finally:
        OmegaConf.clear_resolver("of_seed")
    assert names == ["n32", "n33", "n34"]


def test_only_the_choices_of_groups_are_composed(
    plan: Any, tmp_path: Path, containers: list[int]
) -> None:
    taken = []
    for seeds in (5, 300):
        axes = {"miner": {"values": ["ohem", "random_k"]}, "seed": {"values": list(range(seeds))}}
        containers[0] = 0
        assert len(plan(write_sweep(tmp_path, axes))) == 2 * seeds
        taken.append(containers[0])
    assert taken[0] == taken[1]


def test_of_a_finished_trial_the_status_is_read_once(
    sweep: Any, runs: Path, tmp_path: Path, opened: Counter[str]
) -> None:
    path = write_sweep(tmp_path, {"seed": {"values": list(range(20, 26))}})
    folders = [trial.folder for trial in sweep(path)]
    for options in ({"check": True}, {}):
        opened.clear()
        sweep(path, **options)
        found = {name: count for name, count in opened.items() if name.startswith(str(runs))}
        wanted = ["status.json"] if options else ["status.json", "summary.json"]
        assert {str(folder / name): 1 for folder in folders for name in wanted} == found


@pytest.mark.parametrize(
    "text",
    [
        *(
            "a: 1\nb:\n  c: 2\n",
            "a: 1\na: 2\n",
            "a:\n- 1\n- 2\nb: {c: 1e-4}\n",
            "a:\n\nb: |\n  x: 1\n\n",
        ),
        *(
            "a: &x [1]\nb: *x\n",
            "a: 'x\n\nb: y'\nc: 1\n",
            "# of a\na: 1\n",
            "---\na: 1\n",
            "a: 1\n...\n",
        ),
        *(
            "{a: 1,\nb: 2}\n",
            "a: b: c\n",
            "- 1\n",
            "a: [1,\nb: 2]\n",
            "a: 1\n b: 2\n",
            "",
            'a: "x\nb: y"\n',
        ),
        *("a-b: 1\n", "a: !!python/none\n", "a: 1\nb", "? a\n: 1\n", "a: &x 1\nb: &x 2\nc: *x\n"),
    ],
)
def test_a_configuration_is_read_entry_by_entry_as_it_is_whole(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    try:
        whole = yaml.load(text, Loader=reading._Loader)
    except yaml.YAMLError:
        whole = None
    if not isinstance(whole, dict):
        with pytest.raises(UnreadableError):
            read_yaml(path)
        return
    assert repr(read_yaml(path)) == repr(whole)


def test_of_many_runs_the_page_shows_some_and_the_files_hold_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MOST_ROWS", 6)
    sizes = {}
    for seeds in (4, 16):
        study = tmp_path / f"s{seeds}"
        for seed in range(seeds):
            for miner in ("ohem", "random_k"):
                write_run(study, config(miner=miner, seed=seed), 0.9 + seed / 1000)
        page, *others = write(analyse(study))
        text = page.read_text()
        shown = re.search(r'id="trials".*?</table>', text, re.DOTALL)
        assert shown is not None
        assert shown[0].count("<tr data-row") == 6
        assert f"All runs (6 of {2 * seeds}, evenly among them" in text
        assert f"(6 of {2 * seeds} runs)" in text
        (runs_file,) = (path for path in others if path.name == "runs.csv")
        assert len(runs_file.read_text().splitlines()) == 1 + 2 * seeds
        sizes[seeds] = len(text)
    assert sizes[16] < sizes[4] + 2_000


def test_of_many_comparisons_the_figure_shows_some_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        for k in (128, 256, 384):
            write_run(tmp_path / "nk", config(k=k, seed=seed), 0.9 + k * seed / 1e6)
    report = analyse(tmp_path / "nk", baseline={"k": 128})
    told = []
    for most in (1, 2):
        monkeypatch.setattr(figures, "MOST_DIFFERENCES", most)
        drawn = figures.differences(report)
        assert drawn is not None
        told.append("the first 1 of 2 comparisons" in drawn.caption)
    assert told == [True, False]


def test_of_many_runs_the_index_lists_some_of_each_study_and_counts_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "MOST_RUNS", 6)
    monkeypatch.setattr(index, "LEAST_OF_STUDY", 2)
    for study, seeds in (("large", 8), ("small", 3)):
        for seed in range(seeds):
            state = "failed" if seed == 1 else "finished"
            write_run(tmp_path / study, config(seed=seed), name=f"{study}{seed}", state=state)
    page = index.write_index(tmp_path).read_text()
    listed = re.findall(r'<td class="run" data-v="(\w+)"', page)
    assert len(listed) == 6
    assert {"large1", "small1"} <= set(listed), "what failed comes first"
    assert "11 runs in 2 studies: 2 failed, 9 finished." in page
    assert "6 of 11 runs are listed" in page


def test_of_an_unchanged_run_the_index_opens_no_file(tmp_path: Path, opened: Counter[str]) -> None:
    for seed in range(5):
        write_run(tmp_path / "nk", config(seed=seed))
    opened.clear()
    index.write_index(tmp_path)
    first = sum(name.startswith(str(tmp_path / "nk")) for name in opened)
    opened.clear()
    index.write_index(tmp_path)
    assert first == 3 * 5, "status, journal, summary"
    assert not [name for name in opened if name.startswith(f"{tmp_path / 'nk'}/")]


@pytest.mark.parametrize(
    ("key", "values", "told"),
    [
        ("optimizer.lr", [0.1, 0.2, -1], "optimizer.lr=-1 must be"),
        ("trainer.batch_size", [64, 32, 2.5], "trainer.batch_size=2.5 must be"),
        ("trainer.batch_size", [64, 1, 1.0], "trainer.batch_size=1.0 must be"),
        ("miner.k", [8, 16, 4_000], "miner.k=4000 is more than n"),
    ],
)
def test_a_number_that_no_trial_before_had_is_checked(
    plan: Any, tmp_path: Path, key: str, values: list[float], told: str
) -> None:
    """Also where it equals one that was right, and one that is wrong with another alone."""
    axes = {"seed": {"values": [0, 1]}, key: {"values": values}}
    axes |= {} if key == "miner.k" else {"miner.k": {"value": 1}}
    with pytest.raises(UserError, match=re.escape(told)):
        plan(write_sweep(tmp_path, axes))


def test_the_first_step_waits_for_no_library_of_the_report_and_garbage_is_collected(
    runs: Path, tmp_path: Path
) -> None:
    code = (
        "import gc, os, runpy, sys\n"
        "from minesweep.training.loop import Trainer\n"
        "def update(self):\n"
        "    heavy = {'pandas', 'scipy', 'sklearn'} & set(sys.modules)\n"
        "    print('HEAVY', heavy, gc.isenabled(), flush=True)\n"
        "    os._exit(0)\n"
        "Trainer.update = update\n"
        "runpy.run_path('src/train.py', run_name='__main__')\n"
    )
    file = f"hydra.sweeper.file='{write_sweep(tmp_path)}'"
    words = ["--multirun", "hydra/sweeper=minesweep", file, f"paths.runs_dir={runs}"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert "HEAVY set() True" in done.stdout, done.stdout + done.stderr
