"""The report: numbers against scipy, and folders that are broken, hostile or poor."""

from __future__ import annotations

import csv
import json
import math
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reporting_fixtures import config, histogram, write_run
from scipy import stats

import report as entry
from minesweep.errors import UserError
from minesweep.reporting import report
from minesweep.reporting.build import analyse
from minesweep.reporting.files import markdown
from minesweep.reporting.page import render
from minesweep.reporting.series import loss_histograms, rebin, shown_arms
from minesweep.reporting.statistics import (
    at_equal_budget,
    band,
    choose,
    holm,
    interval,
    paired,
)
from minesweep.reporting.study import read_study
from minesweep.reporting.verdict import answer

SEEDS = range(5)
NOISE = np.random.default_rng(7).normal(0, 0.003, size=(8, 8))


def ohem_study(folder: Path, effects: dict[int, float], seeds=SEEDS, n: int = 1024) -> Path:
    """ohem better than random_k by ``effects[k]``, up to a little noise, on each seed."""
    for seed in seeds:
        base = 0.95 + NOISE[0, seed]
        write_run(folder, config("all", n, None, seed), base + 0.01)
        for row, (k, effect) in enumerate(effects.items(), start=1):
            write_run(folder, config("random_k", n, k, seed), base)
            noise = 0.1 * NOISE[row, seed]
            write_run(folder, config("ohem", n, k, seed), base + effect + noise)
    return folder


# --- the arithmetic -------------------------------------------------------------------------


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12))
def test_interval_is_scipys(values: list[float]) -> None:
    found = interval(values)
    spread = np.std(values, ddof=1)
    if spread < 1e-9:
        return
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert found.low == pytest.approx(low, abs=1e-9)
    assert found.high == pytest.approx(high, abs=1e-9)
    assert found.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=1e-9)


def test_interval_without_spread() -> None:
    assert math.isnan(interval([0.5]).low)
    assert interval([0.5]).mean == 0.5
    assert math.isnan(interval([0.25, 0.25]).low), "equal values do not show their spread"
    zero = interval([0.0, 0.0, 0.0])
    assert (zero.low, zero.high, zero.p) == (0, 0, 1)
    assert interval([math.nan, 0.5]).n == 1
    assert interval([]).n == 0


def test_paired_uses_the_seeds_in_common() -> None:
    arm = pd.Series([0.9, 0.8, 0.95, 0.1], index=[0, 1, 2, 9])
    baseline = pd.Series([0.7, 0.85, 0.7, 0.2], index=[2, 0, 1, 8])
    found = paired(arm, baseline)
    expected = stats.ttest_rel([0.9, 0.8, 0.95], [0.85, 0.7, 0.7])
    interval = expected.confidence_interval(0.95)
    assert found.n == 3
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_the_closed_test_of_bonferroni(p: list[float]) -> None:
    # Holm rejects a hypothesis exactly when Bonferroni rejects every set that contains it, so
    # its corrected p is the largest over those sets.
    sets = range(1, 2 ** len(p))
    for i, corrected in enumerate(holm(p)):
        held = [[p[j] for j in range(len(p)) if s >> j & 1] for s in sets if s >> i & 1]
        assert corrected == pytest.approx(max(min(1.0, len(h) * min(h)) for h in held))


def test_holm_leaves_out_what_was_not_tested() -> None:
    assert holm([0.01, math.nan, 0.04])[::2] == pytest.approx([0.02, 0.04])


def test_equal_budget_reads_every_run_at_the_largest_common_budget() -> None:
    # a: 100 samples a step, 40 steps; b: 10 samples a step, 100 steps, so 1,000 is common.
    rows = [("a", s, "val/accuracy", s / 40) for s in (20, 40)]
    rows += [("a", s, "samples/backward", 100.0 * s) for s in (8, 40)]
    rows += [("b", s, "val/accuracy", s / 100) for s in (5, 50, 100)]
    rows += [("b", s, "samples/backward", 10.0 * s) for s in (50, 100)]
    rows += [("c", s, "val/accuracy", 0.5) for s in (2, 100)]
    rows += [("c", s, "samples/backward", 20.0 * s) for s in (50, 100)]
    curves = pd.DataFrame(rows, columns=["run", "step", "metric", "value"])
    spent = curves[curves["metric"] == "samples/backward"].rename(columns={"value": "budget"})
    values, budget, shares = at_equal_budget(curves, "val/accuracy", spent)
    assert budget == 1000
    assert math.isnan(values["a"]), "first evaluated at 2,000: not extrapolated"
    assert values["b"] == pytest.approx(1.0)
    assert values["c"] == pytest.approx(0.5)
    assert shares.to_dict() == pytest.approx({"a": 0.25, "b": 1.0, "c": 0.5})


def test_choose_compares_values_on_the_seeds_that_all_have() -> None:
    rows = [
        (0.1, 0, 0.90),
        (0.01, 0, 0.80),
        (0.01, 1, 0.99),
        (0.01, 2, 0.99),
        (0.1, 1, math.nan),
    ]
    runs = pd.DataFrame(rows, columns=["lr", "seed", "val"]).assign(arm="a")
    kept, (choice,) = choose(runs, "lr", "val")
    assert choice.value == 0.1, "0.01 has the better mean only on seeds that 0.1 was not run on"
    assert choice.seeds == (0,)
    assert choice.at_edge
    assert list(kept["lr"]) == [0.1]
    assert choose(runs, "lr", "val", lower_is_better=True)[1][0].value == 0.01


def test_band_is_an_interval_at_every_step_that_all_seeds_have() -> None:
    rows = [(f"r{s}", step, "m", step * (1 + s)) for s in range(3) for step in (10, 20)]
    rows.append(("r0", 30, "m", 99))
    curves = pd.DataFrame(rows, columns=["run", "step", "metric", "value"])
    found = band(curves, {f"r{s}": "a" for s in range(3)}, "m").set_index("step")
    assert list(found.index) == [10, 20], "at 30 one seed is left: survivors are no mean"
    low, high = stats.t.interval(0.95, 2, 40, stats.sem([20, 40, 60]))
    assert found.loc[20, ["low", "high"]].tolist() == pytest.approx([low, high])


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=20),
    st.floats(-1, 1),
    st.floats(0, 3),
)
def test_rebin_keeps_the_sum(counts: list[int], low: float, width: float) -> None:
    edges = np.linspace(-0.5, 2.0, 9)
    found = rebin(np.array(counts), low, low + width, edges)
    assert found.sum() == pytest.approx(sum(counts))
    assert (found >= -1e-9).all()


# --- arms, baselines, verdict ---------------------------------------------------------------


def test_does_it_help(tmp_path: Path) -> None:
    result = analyse(ohem_study(tmp_path / "help", {128: 0.014, 384: -0.006, 768: 0.0}))
    assert [arm.label for arm in result.arms][:2] == ["all k=1024", "random_k k=128"]
    assert result.baselines == {f"ohem k={k}": f"random_k k={k}" for k in (128, 384, 768)}
    row = result.table.loc["ohem k=128"]
    differences = 0.014 + 0.1 * NOISE[1, :5]
    assert row["test/accuracy difference"] == pytest.approx(differences.mean())
    low, high = stats.t.interval(0.95, 4, differences.mean(), stats.sem(differences))
    assert row["test/accuracy low"] == pytest.approx(low)
    assert row["test/accuracy high"] == pytest.approx(high)
    p = [
        stats.ttest_1samp(effect + 0.1 * NOISE[i, :5], 0).pvalue
        for i, effect in ((1, 0.014), (2, -0.006), (3, 0.0))
    ]
    assert row["test/accuracy p_holm"] == pytest.approx(3 * p[0])
    answers = [result.table.loc[f"ohem k={k}", "test/accuracy answer"] for k in (128, 384, 768)]
    assert answers == ["helps", "costs", "no difference seen"]
    text = result.verdict.overall
    assert text.startswith("Learning from the hard examples (ohem against random_k at equal samp")
    assert "it depends: it helps by 1.4" in text
    assert "it costs 0.6" in text
    assert "no difference seen (difference " in text
    assert text.endswith("5 seeds) with ohem k=768.")
    assert "at equal samples backpropagated (12,800)" in result.verdict.sentences[0]


def test_not_sure_where_holm_takes_back_what_an_interval_says() -> None:
    row = {"difference": 0.01, "low": 0.001, "high": 0.02, "p_holm": 0.08}
    assert answer(row) == "not sure"
    assert answer(row | {"p_holm": 0.04}) == "helps"
    assert answer(row | {"p_holm": 0.04}, smaller_wins=True) == "costs"
    assert answer(row | {"low": -0.001}) == "no difference seen"
    assert answer(row | {"low": math.nan}) == "cannot be said"


def test_nk_compares_with_all_of_the_smallest_batch(tmp_path: Path) -> None:
    study = tmp_path / "study"
    for seed in SEEDS:
        for n, k, accuracy in ((512, 512, 0.80), (512, 384, 0.85), (1024, 1024, 0.88)):
            write_run(study, config("ohem", n, k, seed), accuracy + NOISE[k % 7, seed])
    result = analyse(study)
    assert set(result.baselines.values()) == {"n=512 k=512"}
    assert "at unequal samples backpropagated (38,400 against 51,200)" in str(result.verdict)
    # Then the comparison at an equal number is said as well.
    assert any("at 38,400 samples backpropagated" in s for s in result.verdict.sentences)
    assert any("read before their end" in note for note in result.notes)


def test_baseline_agrees_in_what_baselines_differ_in(tmp_path: Path) -> None:
    for seed in range(2):
        for noise in (0.0, 0.2):
            for miner in ("random_k", "ohem"):
                accuracy = 0.9 - noise + 0.01 * (miner == "ohem") + NOISE[seed, 0]
                tree = config(miner, 512, 128, seed, dataset__label_noise=noise)
                write_run(tmp_path, tree, accuracy)
    result = analyse(tmp_path)
    assert result.baselines == {
        "ohem label_noise=0": "random_k label_noise=0",
        "ohem label_noise=0.2": "random_k label_noise=0.2",
    }
    named = analyse(tmp_path, baseline="miner=random_k,label_noise=0")
    assert set(named.baselines.values()) == {"random_k label_noise=0"}
    grouped = analyse(tmp_path, "miner=random_k,label_noise=0", group_by="label_noise")
    assert grouped.baselines == {"label_noise=0 ohem": "label_noise=0 random_k"}
    with pytest.raises(UserError, match="no such arm"):
        analyse(tmp_path, baseline="closest_negative")
    with pytest.raises(UserError, match=r"did you mean 'dataset\.label_noise'"):
        analyse(tmp_path, baseline="dataset.label_nois=0")


def test_rate_is_chosen_on_validation_and_reported_on_test(tmp_path: Path) -> None:
    for seed in SEEDS:
        for miner, best in (("random_k", 0.01), ("ohem", 0.1)):
            for lr in (0.001, 0.01, 0.1):
                tree = config(miner, 1024, 128, seed, optimizer__lr=lr)
                # On the test data another rate would look better still.
                test = 0.95 if lr == best else 0.97
                validation = 0.9 if lr == best else 0.8
                write_run(tmp_path, tree, test, metrics={"val/accuracy": validation})
    (tmp_path / "report.yaml").write_text(
        "baseline: {miner: random_k}\nmetric: test/accuracy\nbest_by: optimizer.lr\n"
        "budget: samples/backward\n"
    )
    result = analyse(tmp_path)
    assert {c.arm: c.value for c in result.choices} == {"random_k": 0.01, "ohem": 0.1}
    assert len(result.runs) == 10
    assert result.table["test/accuracy mean"].tolist() == pytest.approx([0.95, 0.95])
    assert result.table["optimizer.lr"].tolist() == [0.01, 0.1]
    assert result.baselines == {"ohem": "random_k"}
    assert any("the edge of what was tried: " in n and "ohem (0.1)" in n for n in result.notes)
    assert "no difference seen" in result.verdict.overall
    assert any("the same on every seed: random_k; ohem" in note for note in result.notes)


def test_equal_seconds_need_a_quiet_benchmark(tmp_path: Path) -> None:
    ohem_study(tmp_path, {128: 0.01}, seeds=range(2))
    without = analyse(tmp_path)
    assert "seconds per step" not in without.table
    assert any("no step_seconds.json" in note for note in without.notes)
    times = {"all-n1024-k1024": 0.08, "random_k-n1024-k128": 0.02}
    (tmp_path / "step_seconds.json").write_text(json.dumps(times))
    assert any("lacks ohem (ohem-n1024-k128)" in note for note in analyse(tmp_path).notes)
    (tmp_path / "step_seconds.json").write_text(json.dumps(times | {"ohem": 0.04}))
    result = analyse(tmp_path)
    # random_k ends after 100 steps of 0.02 s; ohem is read at step 50, all of n at step 25.
    means = result.table["val/accuracy at equal seconds mean"]
    final = result.table["test/accuracy mean"]
    assert (means / final).tolist() == pytest.approx([0.25, 1.0, 0.5])
    assert result.table["seconds per step"].tolist() == [0.08, 0.02, 0.04]
    assert result.measures[-1].title == "val accuracy at 2.0 benchmark seconds"


def test_only_the_seed_is_averaged_over(tmp_path: Path) -> None:
    # Paths, threads and loggers differ as well; they cannot change a result.
    for seed in range(3):
        tree = config(seed=seed, logger__every=10 + seed, dataset__split_seed=seed)
        write_run(tmp_path, tree, 0.9 + 0.01 * seed)
    result = analyse(tmp_path)
    assert [arm.label for arm in result.arms] == ["all runs"]
    assert result.table["seeds"].tolist() == [3]
    assert result.verdict.overall.startswith("Nothing is compared: there is one arm")
    write_run(tmp_path, config(seed=5, dataset__split_seed=5, model__hidden=[512]), 0.5)
    assert [a.label for a in analyse(tmp_path).arms] == [
        "hidden=[1024]",
        "hidden=[512]",
    ]
    # A key that only some runs have separates them too.
    write_run(tmp_path, config(seed=6, dataset__split_seed=6, optimizer__momentum=0.9), 0.5)
    assert analyse(tmp_path).study.keys == ["model.hidden", "optimizer.momentum"]


def test_what_a_choice_brings_is_no_column(tmp_path: Path) -> None:
    write_run(tmp_path, config("all", 512, None), 0.9)
    write_run(tmp_path, config("ohem", 512, 128), 0.9)
    write_run(tmp_path, config("ohem", 512, None, miner__ratio=0.5), 0.9)
    study = read_study(tmp_path)
    assert study.keys == ["miner", "k"], "skip_hardest, start, ... come with the miner"
    assert sorted(study.runs["k"]) == [128, 256, 512]


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    result = analyse(ohem_study(tmp_path, {128: 0.014}, seeds=[0]))
    assert math.isnan(result.table.loc["ohem", "test/accuracy half"])
    assert "cannot be said" in result.verdict.overall
    assert any(note.startswith("One seed") for note in result.notes)
    assert "±" not in markdown(result, []).split("\n## ")[1].split("\n", 1)[1]


def test_missing_seeds_are_said(tmp_path: Path) -> None:
    ohem_study(tmp_path, {128: 0.014})
    write_run(tmp_path, config("ohem", 1024, 128, seed=9), 0.99)
    result = analyse(tmp_path)
    assert result.table.loc["ohem", "seeds"] == 6
    assert any("random_k lacks 9" in note for note in result.notes)
    assert result.comparisons.query("arm == 'ohem'")["n"].iloc[0] == 5


def test_lower_is_better_for_a_loss(tmp_path: Path) -> None:
    result = analyse(ohem_study(tmp_path, {128: 0.014}), metric="test/loss")
    assert "it helps by 0.01" in result.verdict.overall
    assert "points" not in result.verdict.overall


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
    kinds = {problem.run: problem.kind for problem in after.study.problems}
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
    told = {problem.run: problem.detail for problem in after.study.problems}
    assert told["a"] == "the loss is NaN at step 40"
    assert "step 40 of 100" in told["b"]


def test_a_run_that_was_done_twice_counts_once(tmp_path: Path) -> None:
    write_run(tmp_path, config(), 0.5, name="old", updated="2026-01-01T00:00:00")
    write_run(tmp_path, config(), 0.9, name="new", updated="2026-02-01T00:00:00")
    study = read_study(tmp_path)
    assert study.runs["run"].tolist() == ["new"]
    assert [(p.run, p.kind) for p in study.problems] == [("old", "duplicate")]


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
    (problem,) = study.problems
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
    assert [p.run for p in study.problems] == ["linked-file"]


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
        ([str(tmp_path / "runs")], "it holds the studies study"),
        ([str(tmp_path / "runs" / "studi")], "no such folder; did you mean 'study'?"),
        (
            [str(next(p for p in study.iterdir()))],
            "is one run; give the study's folder",
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
    # A baseline of which no run has finished yet does not keep a sweep from its table.
    (study / "report.yaml").write_text("baseline: {miner: knn}")
    assert any("Nothing is compared" in note for note in analyse(study).notes)


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
    (study / "step_seconds.json").write_text(
        json.dumps(
            {f"{m}-n1024-k{k}": k / 1e4 for m in ("ohem", "random_k") for k in (128, 384)}
            | {"all-n1024-k1024": 0.1}
        )
    )
    assert entry.main([str(study)]) == 0
    printed = capsys.readouterr().out
    assert "Learning from the hard examples" in printed
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
    assert [row["arm"] for row in rows] == [arm.label for arm in result.arms]
    assert float(rows[0]["test/accuracy mean"]) == result.table["test/accuracy mean"].iloc[0]
    with (study / "report" / "runs.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 10
    # Reported twice, the report itself is not taken for a run, and the numbers stay.
    text = (study / "report" / "report.md").read_text()
    assert entry.main([str(study), "--output", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "report.md").read_text() == text


def test_the_page_stands_alone(tmp_path: Path) -> None:
    page = render(analyse(ohem_study(tmp_path / "study", {128: 0.014}, seeds=range(2))))
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
    assert "showSendToCloud: false" in page, "Plotly's own button sends data to its makers"
    assert page.index('id="answer"') < page.index("<table>") < page.index("<section")


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
    result = report(tmp_path, baseline={"dataset.split": evil})
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
    (found,) = loss_histograms(analyse(tmp_path))
    assert found.seeds == 2
    assert found.steps.tolist() == [20, 40, 60, 80, 100]
    assert found.scored.sum(axis=1) == pytest.approx(np.full(5, 512))
    assert found.selected.sum(axis=1) == pytest.approx(np.full(5, 384))
    assert sum(histogram(512)["counts"]) == 512


def test_one_run_and_nothing_else(tmp_path: Path) -> None:
    run = write_run(tmp_path, config(), 0.9)
    (run / "journal.jsonl").unlink()
    result = report(tmp_path)
    assert result.study.problems[0].kind == "damaged journal"
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


def test_reading_is_linear_and_quick(tmp_path: Path) -> None:
    for seed in range(100):
        write_run(tmp_path, config(seed=seed), 0.9, steps=1000)
    start = time.process_time()
    study = read_study(tmp_path)
    assert len(study.runs) == 100
    assert time.process_time() - start < 5, "1,000 runs have to be read in seconds"
