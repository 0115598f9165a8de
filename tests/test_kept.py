"""The stored tables, recomputed from the kept runs with pandas and SciPy alone."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from scipy import stats

RESULTS = ROOT / "results"
GUARDS = ["miner.exclude", "miner.refresh", "miner.range_max", "miner.relative_margin"]
PIXEL_ARM = ["miner", "k", "miner.thresh", "objective", "objective.class_weights"]


def read(name: str) -> pd.DataFrame:
    return pd.read_csv(RESULTS / f"{name}.csv")


def holm(p: pd.Series) -> pd.Series:
    """Holm's adjusted p values: the k-th smallest times m - k + 1, never falling, at most 1."""
    ordered = p.sort_values()
    steps = ordered * np.arange(len(p), 0, -1)
    return steps.cummax().clip(upper=1).reindex(p.index)


def answer(row: pd.Series) -> str:
    """What a difference in a metric of which more is better says at 5 %."""
    if row["p_holm"] < 0.05:
        return "helps" if row["difference"] > 0 else "costs"
    return "not sure" if row["p"] < 0.05 else "no difference seen"


def compared(runs: pd.DataFrame, stored: pd.DataFrame) -> pd.DataFrame:
    """The comparisons of ``stored``, from one column ``arm`` and the metrics of the runs."""
    rows = []
    for _, row in stored.iterrows():
        values = runs.pivot(index="seed", columns="arm", values=row["measure"])
        pairs = values[[row["arm"], row["baseline"]]].dropna()
        test = stats.ttest_rel(pairs[row["arm"]], pairs[row["baseline"]])
        low, high = test.confidence_interval()
        difference = (pairs[row["arm"]] - pairs[row["baseline"]]).mean()
        found = {"n": len(pairs), "difference": difference, "p": test.pvalue}
        rows.append(found | {"low": low, "high": high})
    table = pd.DataFrame(rows, index=stored.index)
    table["p_holm"] = table["p"].groupby(stored["measure"]).transform(holm)
    return table.assign(answer=table.apply(answer, axis=1))


@pytest.mark.parametrize("study", ["nk_noise", "rho", "lsh_vs_knn", "pair_demo"])
def test_differences_follow_from_the_kept_runs(study: str) -> None:
    """Paired t intervals on seeds, and p values that Holm corrects within a measure."""
    stored = read(f"{study}_differences")
    stored = stored[stored["measure"] == stored["measure"].iloc[0]]
    assert len(stored) > 1
    found = compared(read(f"{study}_runs"), stored)
    for column in ("n", "difference", "low", "high", "p", "p_holm"):
        np.testing.assert_allclose(found[column], stored[column], rtol=1e-9, err_msg=column)
    assert list(found["answer"]) == list(stored["answer"])


def best(tried: pd.DataFrame, arm: list[str], chosen: str, judge: str) -> pd.DataFrame:
    """The value of each arm whose mean over the seeds is best on validation data."""
    means = tried.groupby([*arm, chosen], dropna=False)[judge].mean().reset_index()
    rows = means.loc[means.groupby(arm, dropna=False)[judge].idxmax()]
    return rows[[*arm, chosen]]


@pytest.mark.parametrize(
    ("study", "chosen", "judge", "arm"),
    [
        (
            "nk_controlled_rates",
            "optimizer.lr",
            "val/accuracy",
            ["n", "k", "miner", "trainer.equal_cost"],
        ),
        (
            "pixels_rates",
            "optimizer.lr",
            "val/mean_iou",
            PIXEL_ARM,
        ),
        (
            "lsh_vs_knn",
            "optimizer.lr",
            "val/mean_average_precision_at_r",
            ["miner", "miner.mine", "miner.n_bits", "trainer.max_steps"],
        ),
    ],
)
def test_choices_follow_from_all_runs_that_were_tried(
    study: str, chosen: str, judge: str, arm: list[str]
) -> None:
    """The kept runs are those of the best value of each arm."""
    tried, kept = read(f"{study}_tried"), read(f"{study}_runs")
    assert len(tried) > 2 * len(kept)
    runs = tried.merge(best(tried, arm, chosen, judge), on=[*arm, chosen])
    assert set(runs["run"]) == set(kept["run"])


@pytest.mark.parametrize(
    ("study", "judge", "arm"),
    [
        ("pixels", "val/mean_iou", PIXEL_ARM),
        ("negatives", "val/ndcg_at_10", ["miner", "miner.num_negatives", *GUARDS]),
    ],
)
def test_a_study_runs_at_the_rates_that_were_chosen(study: str, judge: str, arm: list[str]) -> None:
    """Each arm of the study has one rate, the best of its trials on other seeds."""
    tried, runs = read(f"{study}_rates_tried"), read(f"{study}_runs")
    assert not set(tried["seed"]) & set(runs["seed"])
    chosen = best(tried, arm, "optimizer.lr", judge).set_index(arm)["optimizer.lr"]
    used = runs.groupby(arm, dropna=False)["optimizer.lr"].unique().explode()
    pd.testing.assert_series_equal(
        used.sort_index(), chosen.sort_index(), check_dtype=False, check_index_type=False
    )


@pytest.mark.parametrize(("projection", "title"), [(None, "Without a projection"), (16, "With a")])
def test_the_margin_grows_with_the_dimension_as_all_runs_say(
    projection: int | None, title: str
) -> None:
    """One fit of log(best margin) on log(dim) a seed, and the t interval of the slopes."""
    tried = read("margin_tried")
    held = tried["model.projection"]
    tried = tried[held.isna() if projection is None else held == projection]
    assert tried["seed"].nunique() == 5
    told = next(
        line
        for line in (RESULTS / "margin.md").read_text().splitlines()
        if line.startswith(f"- {title}")
    )
    found = re.findall(r"distance=(\w+), normalize=(\w+): b = (\S+) \\\[(\S+), (\S+)\\\]", told)
    assert len(found) == 3
    judge = "val/mean_average_precision_at_r"
    for distance, normalize, *numbers in found:
        form = tried["objective.distance"].eq(distance)
        form &= tried["objective.normalize"].eq(normalize == "True")
        own = tried[form].sort_values("objective.margin")
        best = own.loc[own.groupby(["seed", "model.dim"])[judge].idxmax()]
        slopes = [
            stats.linregress(np.log(one["model.dim"]), np.log(one["objective.margin"])).slope
            for _, one in best.groupby("seed")
        ]
        low, high = stats.ttest_1samp(slopes, 0).confidence_interval()
        expected = [np.mean(slopes), low, high]
        np.testing.assert_allclose([float(one) for one in numbers], expected, atol=0.005)
