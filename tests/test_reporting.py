"""The report: arms, baselines, answers, and runs that count twice or not at all."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reporting_fixtures import NOISE, SEEDS, config, ohem_study, write_run
from scipy import stats

from minesweep.errors import UserError
from minesweep.reporting.analyse.answer import fixed, headline
from minesweep.reporting.analyse.report import analyse
from minesweep.reporting.read.study import read_study
from minesweep.reporting.show.write import keep, markdown
from minesweep.statistics.samples import resolvable
from minesweep.units import lower_is_better

# --- arms, baselines, answers ----------------------------------------------------------------


def test_does_it_help(tmp_path: Path) -> None:
    result = analyse(ohem_study(tmp_path / "help", {128: 0.014, 384: -0.006, 768: 0.0}))
    assert list(result.arms.index)[:2] == ["all k=1024", "random_k k=128"]
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
    gain = f"{100 * differences.mean():+.2f} points"
    assert result.headline.startswith(
        f"Mining helps in 1 of 3 comparisons, costs in 1: ohem k=128 {gain} of test accuracy ["
    )
    assert result.headline.endswith("] over random_k, 5 seeds.")


def test_a_report_says_what_it_could_have_shown(tmp_path: Path) -> None:
    result = analyse(ohem_study(tmp_path / "help", {128: 0.014}))
    half = stats.sem(0.014 + 0.1 * NOISE[1, :5]) * stats.t.ppf(0.975, 4)
    (note,) = [note for note in result.notes if "would be seen 80% of the time" in note]
    assert f"is {100 * resolvable(half, 5):.2f} points" in note


def test_not_sure_where_holm_takes_back_what_an_interval_says() -> None:
    row = {"arm": "a", "baseline": "b", "n": 5}
    row |= {"difference": 0.01, "low": 0.001, "high": 0.02, "p_holm": 0.08}
    assert fixed(row) == "not sure"
    assert fixed(row | {"p_holm": 0.04}) == "helps"
    assert fixed(row | {"p_holm": 0.04}, smaller_wins=True) == "costs"
    assert fixed(row | {"low": -0.001}) == "no difference seen"
    assert fixed(row | {"low": math.nan}) == "cannot be said"


def test_nk_compares_with_all_of_the_smallest_batch(tmp_path: Path) -> None:
    study = tmp_path / "study"
    for seed in SEEDS:
        for n, k, accuracy in ((512, 512, 0.80), (512, 384, 0.85), (1024, 1024, 0.88)):
            write_run(study, config("ohem", n, k, seed), accuracy + NOISE[k % 7, seed])
    result = analyse(study)
    assert set(result.baselines.values()) == {"n=512 k=512"}
    assert "for 2 x the examples backpropagated" in result.headline
    # The comparison at an equal number stands in the table of differences.
    assert any("at 38,400 samples backpropagated" in title for title in result.measures.values())
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
    assert result.arms["optimizer.lr"].to_dict() == {
        "random_k": 0.01,
        "ohem": 0.1,
    }
    assert len(result.runs) == 10
    assert result.table["test/accuracy mean"].tolist() == pytest.approx([0.95, 0.95])
    assert result.table["optimizer.lr"].tolist() == [0.01, 0.1]
    assert result.baselines == {"ohem": "random_k"}
    assert any("the edge of what was tried: " in n and "ohem (0.1)" in n for n in result.notes)
    assert result.headline.startswith("No difference seen: ohem")
    assert any("the same on every seed: random_k; ohem" in note for note in result.notes)
    # All 30 runs are kept, so that anybody can compute the choice again.
    keep(result, tmp_path / "results")
    tried = pd.read_csv(tmp_path / "results" / f"{tmp_path.name}_tried.csv")
    assert len(tried) == 30
    means = tried.groupby(["miner", "optimizer.lr"])["val/accuracy"].mean().reset_index()
    best = means.loc[means.groupby("miner")["val/accuracy"].idxmax()].set_index("miner")
    assert best["optimizer.lr"].to_dict() == result.choices.set_index("arm")["value"].to_dict()


def test_further_metrics_are_compared_and_a_reference_that_spends_nothing_is_no_budget(
    tmp_path: Path,
) -> None:
    for seed in SEEDS:
        for miner, accuracy in (("all", 0.9), ("ohem", 0.92)):
            found = {"test/linear_accuracy": accuracy - 0.2}
            write_run(tmp_path, config(miner, 1024, 128, seed), accuracy, metrics=found)
    settings = "further: [test/linear_accuracy]\nbaseline: {miner: all}\n"
    (tmp_path / "report.yaml").write_text(settings)
    result = analyse(tmp_path)
    assert any(" at equal " in measure for measure in result.measures)
    rows = result.comparisons.set_index("measure").loc["test/linear_accuracy"]
    assert rows["difference"] == pytest.approx(0.02)
    (tmp_path / "report.yaml").write_text(settings + "at_budget: false\n")
    result = analyse(tmp_path)
    assert next(iter(result.measures)) == "test/accuracy"
    assert "test/linear_accuracy" in result.measures
    assert not any(" at equal " in measure for measure in result.measures)
    (tmp_path / "report.yaml").write_text("further: [test/linear]")
    with pytest.raises(UserError, match=r"test/linear: no finished run has this metric; did you"):
        analyse(tmp_path)


def test_equal_seconds_need_a_quiet_benchmark(tmp_path: Path) -> None:
    ohem_study(tmp_path, {128: 0.01}, seeds=range(2))
    without = analyse(tmp_path)
    assert "seconds per step" not in without.table
    assert not any("seconds" in note for note in without.notes)
    times = {"all": 0.08, "random_k": 0.02}
    (tmp_path / "step_seconds.json").write_text(json.dumps(times))
    assert any("step_seconds.json lacks ohem." in note for note in analyse(tmp_path).notes)
    (tmp_path / "step_seconds.json").write_text(json.dumps(times | {"ohem": 0.04}))
    result = analyse(tmp_path)
    # random_k ends after 100 steps of 0.02 s; ohem is read at step 50, all of n at step 25.
    means = result.table["val/accuracy at equal seconds mean"]
    final = result.table["test/accuracy mean"]
    assert (means / final).tolist() == pytest.approx([0.25, 1.0, 0.5])
    assert result.table["seconds per step"].tolist() == [0.08, 0.02, 0.04]
    assert [*result.measures.values()][-1] == "val accuracy at 2.0 benchmark seconds"


def test_only_the_seed_is_averaged_over(tmp_path: Path) -> None:
    # Paths, threads and loggers differ as well; they cannot change a result.
    for seed in range(3):
        tree = config(seed=seed, logger__every=10 + seed, dataset__split_seed=seed)
        write_run(tmp_path, tree, 0.9 + 0.01 * seed)
    result = analyse(tmp_path)
    assert list(result.arms.index) == ["all runs"]
    assert result.table["seeds"].tolist() == [3]
    assert result.headline.startswith("Nothing is compared: there is one arm")
    write_run(tmp_path, config(seed=5, dataset__split_seed=5, model__hidden=[512]), 0.5)
    assert list(analyse(tmp_path).arms.index) == [
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
    assert result.headline.startswith("Nothing can be said: ohem +")
    assert any(note.startswith("One seed") for note in result.notes)
    assert "±" not in markdown(result, []).split("\n## ")[1].split("\n\n")[1]


def test_missing_seeds_are_said(tmp_path: Path) -> None:
    ohem_study(tmp_path, {128: 0.014})
    write_run(tmp_path, config("ohem", 1024, 128, seed=9), 0.99)
    result = analyse(tmp_path)
    assert result.table.loc["ohem", "seeds"] == 6
    assert any("random_k lacks 9" in note for note in result.notes)
    assert result.comparisons.query("arm == 'ohem'")["n"].iloc[0] == 5


@pytest.mark.parametrize(
    ("metric", "lower"),
    [
        *[("test/loss", True), ("val/loss_best", True), ("steps to val/roc_auc 0.72", True)],
        *[("test/intra/mean", True), ("test/intra/max_best", True), ("test/violated_share", True)],
        *[("test/inter/min", False), ("test/accuracy", False), ("loss/accuracy", False)],
    ],
)
def test_names_of_which_less_is_better(metric: str, lower: bool) -> None:
    assert lower_is_better(metric) is lower


def test_lower_is_better_for_a_loss(tmp_path: Path) -> None:
    result = analyse(ohem_study(tmp_path, {128: 0.014}), metric="test/loss")
    assert result.headline.startswith("Mining helps: ohem \N{MINUS SIGN}0.01")
    assert "points" not in result.headline


# --- runs that count twice, or not at all ----------------------------------------------------


def test_k_and_the_ratio_that_gives_it_are_one_computation(tmp_path: Path) -> None:
    """Two seeds, each as ``miner.k=64``, as ``miner.ratio=0.5`` of 128, and as both."""
    for seed in range(2):
        write_run(tmp_path, config("random_k", 128, 64, seed), 0.90 + 0.01 * seed)
        for number, (k, ratio) in enumerate(((64, None), (None, 0.5), (64, 0.5))):
            tree = config("ohem", 128, k, seed, miner__ratio=ratio)
            updated = f"2026-01-0{number + 1}T00:00:00"
            name = f"ohem-{number}-{seed}"
            write_run(tmp_path, tree, 0.92 + 0.03 * seed, name=name, updated=updated)
    result = analyse(tmp_path)
    assert result.table.loc["ohem", "seeds"] == 2
    (row,) = result.comparisons.query("measure == 'test/accuracy'").to_dict("records")
    assert row["n"] == 2
    assert row["p"] == pytest.approx(stats.ttest_1samp([0.02, 0.04], 0).pvalue)
    assert set(result.runs.query("arm == 'ohem'")["run"]) == {"ohem-2-0", "ohem-2-1"}
    assert (result.study.problems["kind"] == "duplicate").sum() == 4
    assert "4 duplicate" in result.overview


def test_one_seed_that_was_run_twice_leaves_a_report_of_each_seed_once(tmp_path: Path) -> None:
    """Of an arm and of its baseline."""
    for seed in range(3):
        write_run(tmp_path, config("random_k", 128, 64, seed), 0.90 + 0.01 * seed)
        write_run(tmp_path, config("ohem", 128, 64, seed), 0.92 + 0.03 * seed)
    for miner, seed in (("ohem", 1), ("random_k", 2)):
        write_run(tmp_path, config(miner, 128, None, seed, miner__ratio=0.5), 0.91 + 0.01 * seed)
    result = analyse(tmp_path)
    assert result.table["seeds"].tolist() == [3, 3]
    assert result.overview == "2 arms, 6 runs, 3 seeds; amiss: 2 duplicate"
    assert set(result.comparisons["n"]) == {3}


def test_a_value_all_of_whose_seeds_failed_was_tried(tmp_path: Path) -> None:
    for seed in range(3):
        for lr in (0.01, 0.1):
            state = "failed" if lr == 0.1 else "finished"
            tree = config("ohem", 512, 128, seed, optimizer__lr=lr)
            write_run(tmp_path, tree, 0.9, state=state, reason="the loss is NaN")
            write_run(tmp_path, config("random_k", 512, 128, seed, optimizer__lr=lr), 0.9)
    (tmp_path / "report.yaml").write_text("best_by: optimizer.lr\nbaseline: {miner: random_k}\n")
    result = analyse(tmp_path)
    notes = "\n".join(result.notes)
    assert "ohem: no seed of optimizer.lr finished with a result at 0.1 (3 seeds failed)." in notes
    assert "Unequal numbers" not in notes


def test_arms_that_differ_in_the_seventh_digit_are_two(tmp_path: Path) -> None:
    for seed in range(2):
        for lr in (0.1234567, 0.1234568):
            write_run(tmp_path, config(seed=seed, optimizer__lr=lr), 0.9)
    result = analyse(tmp_path)
    assert list(result.arms.index) == ["lr=0.1234567", "lr=0.1234568"]
    assert result.table["seeds"].tolist() == [2, 2]


def test_failed_seeds_and_unequal_grids_of_a_chosen_rate_are_told(tmp_path: Path) -> None:
    for seed in SEEDS:
        for lr, accuracy in ((0.001, 0.8), (0.01, 0.9), (0.1, 0.99), (0.02, 0.85)):
            failed = lr == 0.1 and seed >= 3
            tree = config("ohem", 512, 128, seed, optimizer__lr=lr)
            state = "failed" if failed else "finished"
            write_run(tmp_path, tree, accuracy, state=state, reason="the loss is NaN")
        write_run(tmp_path, config("random_k", 512, 128, seed, optimizer__lr=0.01), 0.9)
    (tmp_path / "report.yaml").write_text("best_by: optimizer.lr\nbaseline: {miner: random_k}\n")
    result = analyse(tmp_path)
    assert result.arms["optimizer.lr"].to_dict() == {
        "random_k": 0.01,
        "ohem": 0.01,
    }
    notes = "\n".join(result.notes)
    assert "ohem: optimizer.lr 0.1 (2 seeds failed) has the best mean of the seeds" in notes
    assert "Unequal numbers of values of optimizer.lr were tried" in notes
    assert "ohem 4" in notes
    assert "random_k 1" in notes
    assert "2 failed" in result.overview


def test_one_collapsed_seed_is_told(tmp_path: Path) -> None:
    ohem_study(tmp_path, {128: 0.014})
    (run,) = tmp_path.glob("ohem-n1024-k128-s3-*")
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {"test/accuracy": 0.1}))
    result = analyse(tmp_path)
    notes = "\n".join(result.notes)
    assert "the seeds of ohem fall into two groups" in notes
    assert "seed 3 has 10.00 %, the others" in notes
    assert "The answer changes if one seed is left out: ohem (seed 3)." in notes
    assert result.headline.startswith("No difference seen")
    assert "\N{DAGGER}" in markdown(result, [])


def test_seeds_without_a_result_are_not_counted(tmp_path: Path) -> None:
    ohem_study(tmp_path, {128: 0.014})
    (run,) = tmp_path.glob("ohem-n1024-k128-s3-*")
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {"test/accuracy": math.nan}))
    result = analyse(tmp_path)
    assert result.table.loc["ohem", "seeds"] == 4
    assert any("ohem lacks 3" in note for note in result.notes)
    assert any(note.startswith("1 finished runs have no test/accuracy") for note in result.notes)


@given(
    kinds=st.lists(st.sampled_from(["helps", "costs", "not sure", "none"]), min_size=1, max_size=9),
    words=st.integers(1, 12),
    scored=st.sampled_from([1.0, 4.0, math.nan]),
)
def test_a_headline_has_at_most_25_words(kinds: list[str], words: int, scored: float) -> None:
    label = " ".join(f"key{i}=value" for i in range(words))
    names = [*(f"ohem {label} {i}" for i in range(len(kinds))), f"random_k {label}"]
    arms = pd.DataFrame({"miner": [name.split()[0] for name in names]}, index=names)
    ends = {"helps": (1, 3), "costs": (-3, -1), "not sure": (1, 3), "none": (-1, 3)}
    rows = []
    for arm, kind in zip(names, kinds, strict=False):
        low, high = ends[kind]
        row = {"arm": arm, "baseline": names[-1], "n": 5, "low": low, "high": high}
        row |= {"difference": (low + high) / 2, "p_holm": 0.2 if kind == "not sure" else 0.01}
        rows.append({**row, "answer": fixed(row), "least": math.nan})
    answers = pd.DataFrame(rows)
    prices = pd.DataFrame({"scored": scored, "backpropagated": 1.0}, index=names)
    text = headline(answers, arms, "test/accuracy", prices)
    assert len(text.split()) <= 25
    if "helps" in kinds and words < 5:
        assert text.startswith("Mining helps")
        assert re.search(r"\+200\.00 points( of test accuracy)? \[\+100\.00, \+300\.00\]", text)
        assert ("4 x the examples scored" in text) == (scored == 4)
