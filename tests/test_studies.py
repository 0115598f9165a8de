"""``make studies``: the studies of the documentation, what they took, and the table of them."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from conftest import ROOT
from sweeping import write_sweep


@pytest.fixture
def studies(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``docs/hooks/studies.py``."""
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "hooks"))
    monkeypatch.delitem(sys.modules, "studies", raising=False)
    import studies

    return studies


def page(folder: Path, *commands: str) -> Path:
    folder.mkdir(exist_ok=True)
    text = "# Page\n\n```bash\n" + "\n".join(commands) + "\n```\n"
    (folder / "page.md").write_text(f'{text}\n--8<-- "results/tiny.md"\n')
    return folder


def test_each_sweep_file_is_a_study_of_a_page(studies: ModuleType) -> None:
    found = studies.find_studies()
    named = {Path(study.words[0]).name for study in found}
    assert named == {path.name for path in (ROOT / "sweeps").glob("*.yaml")}
    assert len({study.name for study in found}) == len(found)


def test_a_study_goes_by_what_its_command_says(studies: ModuleType, tmp_path: Path) -> None:
    commands = (
        "python src/train.py miner=ohem",
        "python src/sweep.py sweeps/nk.yaml",
        "python src/sweep.py sweeps/seeds.yaml dataset=digits \\\n  study=scatter",
        "python src/sweep.py sweeps/nk.yaml --check",
    )
    found = studies.find_studies(page(tmp_path / "pages", *commands))
    assert [(study.name, study.words, study.shown) for study in found] == [
        ("nk", ("sweeps/nk.yaml",), False),
        ("scatter", ("sweeps/seeds.yaml", "dataset=digits", "study=scatter"), False),
    ]


def test_a_study_runs_is_kept_and_goes_on(
    studies: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, results = tmp_path / "runs", tmp_path / "results"
    monkeypatch.setenv("MINESWEEP_RUNS", str(runs))
    sweep = write_sweep(tmp_path, {"miner": {"values": ["ohem", "all"]}, "seed": {"values": [0]}})
    tree = yaml.safe_load(sweep.read_text())
    words = (str(sweep), "study=tiny", "dataset=digits", "trainer.max_steps=4")
    tree["parameters"].pop("study", None)
    sweep.write_text(yaml.safe_dump(tree))
    (study,) = studies.find_studies(
        page(tmp_path / "pages", shlex.join(("python", "src/sweep.py", *words)))
    )
    assert studies.spent(runs / "tiny").trials == 0
    assert studies.run(study, runs, results, jobs=1)
    took = studies.spent(runs / "tiny")
    statuses = [json.loads(path.read_text()) for path in runs.glob("tiny/*/status.json")]
    assert took.trials == len(statuses) == 2
    assert took.seconds == pytest.approx(sum(status["seconds"] for status in statuses))
    results.mkdir(exist_ok=True)
    studies.keep(study, took, results)
    stored = studies.read_stored(results)
    assert stored["tiny"]["trials"] == 2
    headline = (results / "tiny.md").read_text().splitlines()[0]
    assert f"| tiny | {headline} | 2 | " in (results / "studies.md").read_text()
    # A second time there is nothing to do, and the folders are as they were.
    before = {path: path.stat().st_mtime_ns for path in runs.glob("tiny/*/journal.jsonl")}
    assert studies.run(study, runs, results, jobs=1)
    assert before == {path: path.stat().st_mtime_ns for path in runs.glob("tiny/*/journal.jsonl")}


def test_the_estimate_counts_what_is_finished(studies: ModuleType, tmp_path: Path) -> None:
    for name, state in (("a", "finished"), ("b", "failed")):
        folder = tmp_path / "known" / name
        folder.mkdir(parents=True)
        status = {"state": state, "seconds": 30.0, "commit": "c"}
        (folder / "status.json").write_text(json.dumps(status))
    (tmp_path / "known" / "c").mkdir()
    (tmp_path / "known" / "c" / "status.json").write_text("{")  # cut off
    stored = {"known": {"trials": 4, "seconds": 3600.0}}
    chosen = [studies.Study("new", ()), studies.Study("known", ())]
    assert [s.name for s in studies.in_order(chosen, stored)] == ["known", "new"]
    table = studies.estimate(chosen, stored, tmp_path, jobs=2)
    assert [list(column.cells) for column in table.columns] == [
        ["new", "known"],
        ["?", "4"],
        ["0", "1"],
        ["?", "22 min"],
    ]
    assert "about 22 min with 2 at a time" in str(table.caption)


def test_a_wrong_name_is_told(studies: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert studies.main(["nk_contrlled"]) == 1
    assert "did you mean 'nk_controlled'" in capsys.readouterr().err
    assert studies.main(["--check", "nk"]) == 0
    assert "nothing was run" in capsys.readouterr().out
