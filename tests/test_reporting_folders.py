"""The report of folders that are broken, hostile or poor, and what it writes."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from reporting_fixtures import config, histogram, ohem_study, write_run

import report as entry
from minesweep.errors import UserError
from minesweep.reporting.analyse.report import analyse
from minesweep.reporting.read.study import read_study
from minesweep.reporting.show.figures import all_figures, shown_arms
from minesweep.reporting.show.losses import loss_histograms
from minesweep.reporting.show.write import markdown, render, write

# --- folders that are amiss -----------------------------------------------------------------


def test_every_run_that_is_amiss_is_told(tmp_path: Path) -> None:
    ohem_study(tmp_path, {128: 0.01}, seeds=range(2))
    before = analyse(tmp_path).table
    lost = config("ohem", 1024, 128, 7)
    write_run(tmp_path, lost, name="a", state="failed", reason="the loss is NaN at step 40")
    write_run(tmp_path, lost, name="b", state="running", steps=40)
    write_run(tmp_path, lost, name="c", state="interrupted", steps=40)
    (write_run(tmp_path, lost, name="d") / "summary.json").unlink()
    (write_run(tmp_path, lost, name="e") / "summary.json").write_text('{"test/accuracy": 0.')
    (write_run(tmp_path, lost, name="f") / "status.json").unlink()
    (write_run(tmp_path, lost, name="g") / "config.yaml").write_text("a: [1")
    (write_run(tmp_path, lost, name="h") / "config.yaml").write_text("seed: 1")
    (write_run(tmp_path, lost, name="i") / "config.yaml").write_text(
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "\n".join(
            f"{b}: &{b} [{','.join(['*' + a] * 9)}]"
            for a, b in zip("abcdefg", "bcdefgh", strict=True)
        )
    )
    (tmp_path / "stray").mkdir()
    after = analyse(tmp_path)
    pd.testing.assert_frame_equal(after.table, before)
    kinds = {problem.run: problem.kind for problem in after.study.problems.itertuples()}
    assert kinds == dict(
        zip(
            "abcdefghi",
            [
                "failed",
                "unfinished",
                "unfinished",
                *["half-written"] * 3,
                *["unreadable"] * 3,
            ],
            strict=True,
        )
    ) | {"e": "half-written"}
    told = {problem.run: problem.detail for problem in after.study.problems.itertuples()}
    assert told["a"] == "the loss is NaN at step 40"
    assert "step 40 of 100" in told["b"]


def test_a_run_that_was_done_twice_counts_once(tmp_path: Path) -> None:
    write_run(tmp_path, config(), 0.5, name="old", updated="2026-01-01T00:00:00")
    write_run(tmp_path, config(), 0.9, name="new", updated="2026-02-01T00:00:00")
    study = read_study(tmp_path)
    assert study.runs["run"].tolist() == ["new"]
    assert [(p.run, p.kind) for p in study.problems.itertuples()] == [("old", "duplicate")]


def test_journal_lines_that_are_broken_are_counted(tmp_path: Path) -> None:
    run = write_run(tmp_path, config(), 0.9)
    bad = [
        '{"step": 1000, "val/accuracy": NaN, "val/loss": 1e999, "x": true, "y": null}',
        '{"step": 1000, "h": {"counts": [1, -2], "low": 0, "high": 1}}',
        '{"step": 1010, "h": {"counts": ["a"], "low": 0, "high": 1}, "z": "text"}',
        "[" * 100_000,
        '{"step": true}',
        '{"step": -1}',
        '{"val/accuracy": 0.5}',
        "[1, 2]",
        '{"step": 7, "x": "' + "y" * 3_000_000 + '"}',
        '{"step": 2000, "val/accuracy": ' + "9" * 400 + "}",
        '{"step": 2000, "val/accuracy": ' + "9" * 5000 + "}",
        '{"step": 3000, "val/acc',
    ]
    with (run / "journal.jsonl").open("ab") as file:
        file.write("\n".join(bad).encode() + b"\n\xff\xfe\n")
    study = read_study(tmp_path)
    (problem,) = study.problems.itertuples()
    assert problem.detail.startswith("9 lines skipped")
    assert study.curves["step"].max() == 100
    assert np.isfinite(study.curves["value"]).all()
    assert set(study.histograms[run.name]) == {
        "train/loss_batch_histogram",
        "train/loss_selected_histogram",
    }
    assert len(study.runs) == 1


def test_links_are_not_followed(tmp_path: Path) -> None:
    outside = write_run(tmp_path / "elsewhere", config(seed=3), 0.1)
    write_run(tmp_path / "study", config(), 0.9)
    (tmp_path / "study" / "link").symlink_to(outside)
    inside = write_run(tmp_path / "study", config(seed=1), 0.9, name="linked-file")
    (inside / "summary.json").unlink()
    (inside / "summary.json").symlink_to(outside / "summary.json")
    study = read_study(tmp_path / "study")
    assert len(study.runs) == 1
    assert [p.run for p in study.problems.itertuples()] == ["linked-file"]


def test_what_differs_within_the_table_is_said(tmp_path: Path) -> None:
    ohem_study(tmp_path, {128: 0.01}, seeds=range(2))
    assert not analyse(tmp_path).study.warnings
    odd = {
        "versions": {"torch": "2.12.0"},
        "sources": "dead",
        "device": "cuda",
        "data": "cafe",
    }
    write_run(tmp_path, config("ohem", 1024, 256, 0), 0.9, **odd)
    warnings = " ".join(analyse(tmp_path).study.warnings)
    for word in ("versions.torch", "sources", "device", "fingerprint"):
        assert word in warnings
    assert "2.13.0 (6 runs), 2.12.0 (1 runs)" in warnings


def test_errors_are_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = ohem_study(tmp_path / "runs" / "study", {128: 0.01}, seeds=[0])
    (tmp_path / "empty").mkdir()
    failed = tmp_path / "failed"
    write_run(failed, config(), state="failed", reason="no such file")
    cases = [
        ([str(tmp_path / "empty")], "no runs in this folder"),
        ([str(tmp_path), "--metric", "test/loss"], "--metric is for one study"),
        ([str(tmp_path / "runs" / "studi")], "no such folder; did you mean 'study'?"),
        (
            [str(next(p for p in study.iterdir()))],
            "mined.jsonl is missing",
        ),
        ([str(failed)], "no finished run to report (1 failed)"),
        ([str(study), "--metric", "test/acuracy"], "did you mean 'test/accuracy'?"),
        ([str(study), "--baseline", "n=7"], "no such arm"),
        ([str(study), "--group-by", "minr"], "did you mean 'miner'?"),
    ]
    for arguments, message in cases:
        assert entry.main(arguments) == 1
        out, err = capsys.readouterr()
        assert message in err
        assert (out, err.count("\n")) == ("", 1)
    with pytest.raises(SystemExit) as wrong:
        entry.main(["--nonsense"])
    assert wrong.value.code == 2
    with pytest.raises(SystemExit) as helped:
        entry.main(["--help"])
    assert helped.value.code == 0
    (study / "report.yaml").write_text("baselin: {miner: all}")
    with pytest.raises(UserError, match="did you mean 'baseline'"):
        analyse(study)
    for text, message in (
        ("metric: [test/accuracy]", "must be text"),
        ("further: test/loss", "further=test/loss must be a list"),
        ("at_step: {val/accuracy: late}", "must map metrics to numbers"),
        ("at_budget: 7", "must be true or false"),
        ("views: [surface]", "must be a list, each a mapping"),
    ):
        (study / "report.yaml").write_text(text)
        with pytest.raises(UserError, match=message):
            analyse(study)
    # A baseline of which no run has finished yet does not keep a sweep from its table.
    (study / "report.yaml").write_text("baseline: {miner: knn}")
    assert any("Nothing is compared" in note for note in analyse(study).notes)


def test_a_folder_of_studies_reports_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        ohem_study(tmp_path / name, {128: 0.01}, seeds=[0, 1])
    write_run(tmp_path / "broken", config(), state="failed", reason="no such file")
    (tmp_path / "data").mkdir()
    assert entry.main([str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert "broken: no finished run to report" in err
    for name in ("one", "two"):
        assert str(tmp_path / name / "report" / "report.html") in out
        assert (tmp_path / name / "report" / "report.html").exists()
    with pytest.raises(UserError, match="it holds the studies broken, one, two: give one"):
        analyse(tmp_path)


# --- what is written ------------------------------------------------------------------------


class Elements(HTMLParser):
    """Every start tag with its attributes, and the text outside scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = ohem_study(tmp_path / "study", {128: 0.014, 384: 0.0}, seeds=range(2))
    times = {f"{m} k={k}": k / 1e4 for m in ("ohem", "random_k") for k in (128, 384)}
    (study / "step_seconds.json").write_text(json.dumps(times | {"all k=1024": 0.1}))
    assert entry.main([str(study)]) == 0
    printed = capsys.readouterr().out
    assert "Nothing is compared" not in printed
    assert str(study / "report" / "report.html") in printed
    written = {path.name for path in (study / "report").iterdir()}
    pictures = {"differences", "curves", "losses", "histograms", "parallel"}
    assert written == {
        "report.html",
        "report.md",
        "table.csv",
        "differences.csv",
        "runs.csv",
    } | {f"{name}.png" for name in pictures}
    with (study / "report" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    result = analyse(study)
    assert [row["arm"] for row in rows] == list(result.arms.index)
    assert float(rows[0]["test/accuracy mean"]) == result.table["test/accuracy mean"].iloc[0]
    with (study / "report" / "runs.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 10
    # Reported twice, the report itself is not taken for a run, and the numbers stay.
    text = (study / "report" / "report.md").read_text()
    assert entry.main([str(study), "--output", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "report.md").read_text() == text


def test_the_page_stands_alone(tmp_path: Path) -> None:
    result = analyse(ohem_study(tmp_path / "study", {128: 0.014}, seeds=range(2)))
    page = render(result, all_figures(result))
    assert len(page.encode()) < 1_500_000
    elements = Elements()
    elements.feed(page)
    for tag, attributes in elements.tags:
        assert not {"src", "srcset", "data", "action", "poster"} & set(attributes), tag
        assert attributes.get("href", "#").startswith("#")
        assert tag not in ("link", "iframe", "object", "embed", "base")
    policy = next(a["content"] for t, a in elements.tags if "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style
    assert "actions: false" in page, "a menu would offer to send the chart to an editor on the web"
    assert page.index('id="answer"') < page.index("<table") < page.index("<section")


def test_hostile_names_are_shown_and_not_obeyed(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    for seed in range(2):
        for word in (
            evil,
            '"><img src=x onerror=alert(1)>',
            "a|b\n# head [l](http://x) $x_$",
            "=1+1",
        ):
            tree = config("ohem", 512, 128, seed, dataset__split=word)
            write_run(tmp_path, tree, 0.9, name=f"{abs(hash((word, seed)))}")
    write_run(
        tmp_path,
        config(seed=9),
        name="\x1b[31m<b>",
        state="failed",
        reason=f"{evil} [red] \x1b[2J",
    )
    for name, run in enumerate(sorted(tmp_path.iterdir())):
        if not (run / "summary.json").exists():
            continue
        summary = json.loads((run / "summary.json").read_text())
        summary |= {"run": 7, "arm": 8, "seed": 9}
        (run / "summary.json").write_text(json.dumps(summary))
        if name == 0:
            with (run / "journal.jsonl").open("a") as file:
                file.write(json.dumps({"step": 110, evil: 1.0}) + "\n")
    result = analyse(tmp_path, baseline={"dataset.split": evil})
    write(result)
    page = (tmp_path / "report" / "report.html").read_text()
    elements = Elements()
    elements.feed(page)
    assert [tag for tag, _ in elements.tags].count("script") == 2
    assert not any(a.startswith("on") for _, attributes in elements.tags for a in attributes)
    assert "img" not in [tag for tag, _ in elements.tags]
    assert "&lt;script&gt;alert(1)" in page
    assert "\x1b" not in page
    assert evil not in page
    text = (tmp_path / "report" / "report.md").read_text()
    assert "<script" not in text
    assert "\n# head" not in text
    assert not re.search(r"(?<!\\)\[l(?<!\\)\]\(", text)
    assert len(result.arms) == 4


def test_hostile_markup_reaches_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, config(), 0.9)
    write_run(tmp_path, config(seed=1), state="failed", reason="[red]x[/nonsense] \x1b[2J\x07")
    assert entry.main([str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "[red]x[/nonsense] \N{REPLACEMENT CHARACTER}[2J" in printed
    assert "\x07" not in printed


def test_histograms_are_averaged_on_common_axes(tmp_path: Path) -> None:
    for seed in range(2):
        write_run(tmp_path, config("ohem", 512, 384, seed), 0.9)
    ((seeds, rows),) = loss_histograms(found := analyse(tmp_path), shown_arms(found)).values()
    assert seeds == 2
    assert [row["told"] for row in rows] == [f"step {step}" for step in (20, 40, 60, 80, 100)]
    for row in rows:
        assert sum(row["scored"]) == pytest.approx(512)
        assert sum(row["selected"]) == pytest.approx(384)
    assert sum(histogram(512)["counts"]) == 512


def test_one_run_and_nothing_else(tmp_path: Path) -> None:
    run = write_run(tmp_path, config(), 0.9)
    (run / "journal.jsonl").unlink()
    result = analyse(tmp_path)
    write(result)
    assert result.study.problems["kind"].iloc[0] == "damaged journal"
    assert result.table["test/accuracy mean"].tolist() == [0.9]
    assert (tmp_path / "report" / "report.html").exists()


def test_many_arms_show_the_best(tmp_path: Path) -> None:
    for i in range(20):
        write_run(tmp_path, config("ohem", 512, 100 + i), 0.5 + i / 100)
    write_run(tmp_path, config("random_k", 512, 64), 0.4)
    result = analyse(tmp_path)
    assert "ohem k=100" in markdown(result, [])
    shown = shown_arms(result)
    assert len(shown) == 12
    assert "random_k k=64" in shown
    assert "ohem k=119" in shown
    assert "ohem k=100" not in shown
