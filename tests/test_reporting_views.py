"""The views that a study's report.yaml asks for: what they hold, and how a wrong one is told."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from reporting_fixtures import config, write_run

from minesweep.errors import UserError
from minesweep.reporting.analyse.report import Report, analyse
from minesweep.reporting.analyse.settings import read_settings
from minesweep.reporting.analyse.views import BEST, CLOSE, Surface, Tradeoff
from minesweep.reporting.show.figures import all_figures
from minesweep.reporting.show.write import render, write

MARGINS, DIMS = (0.5, 1.0, 2.0), (3, 16)


def margin_study(folder: Path, views: list[dict[str, Any]], seeds: int = 3) -> Path:
    """The best margin is 1.0 at dim 3 and 2.0 at dim 16, for both normalisations."""
    for normalize in ("none", "unit"):
        for dim in DIMS:
            for margin in MARGINS:
                wanted = 1.0 if dim == 3 else 2.0
                for seed in range(seeds):
                    tree = config("all", 512, None, seed)
                    tree["objective"] |= {"margin": margin, "normalize": normalize}
                    tree["model"] |= {"dim": dim}
                    value = 0.9 - 0.1 * abs(math.log2(margin / wanted)) + 0.001 * seed
                    run = write_run(folder, tree, value, metrics={"recall": 0.5 + 0.1 * margin})
                    rows = [
                        {"step": s, "elapsed": s * dim, "query_ms": 2.0 * margin} for s in (1, 9)
                    ]
                    text = "".join(json.dumps(row) + "\n" for row in rows)
                    (run / "timing.jsonl").write_text(text)
    (folder / "report.yaml").write_text(yaml.safe_dump({"views": views}))
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return margin_study(tmp_path_factory.mktemp("runs") / "margin", [])


def made(study: Path, *views: dict[str, Any]) -> Report:
    (study / "report.yaml").write_text(yaml.safe_dump({"views": list(views)}))
    return analyse(study)


def test_a_surface_holds_the_mean_of_each_cell(study: Path) -> None:
    found = made(study, {"kind": "surface", "x": "dim", "y": "margin", "by": "normalize"})
    (surface,) = found.views
    assert isinstance(surface, Surface)
    assert surface.metric == "test/accuracy"
    assert (surface.x, surface.y) == ("dim", "margin")
    tiles = dict(list(surface.cells.groupby("label", sort=False)))
    assert list(tiles) == ["normalize=none", "normalize=unit"]
    for tile in tiles.values():
        assert best(tile) == [1, 2]
        assert (tile["n"] == 3).all()
        # 0.9 - 0.1 * |log2(margin / best)|, and 0.001 for the mean seed
        means = tile.pivot(index="y", columns="x", values="mean").loc[list(MARGINS), list(DIMS)]
        assert means.to_numpy() == pytest.approx(
            np.array([[0.801, 0.701], [0.901, 0.801], [0.801, 0.901]])
        )
        assert (tile["rank"] != CLOSE).all(), "the intervals are 0.0025 wide"


def best(tile: pd.DataFrame) -> list[float]:
    """The best y of each x."""
    return tile[tile["rank"] == BEST].set_index("x").loc[list(DIMS), "y"].tolist()


def test_a_surface_is_whole_where_the_table_keeps_the_best_alone(tmp_path: Path) -> None:
    view = {"kind": "surface", "x": "dim", "y": "margin", "by": "normalize"}
    folder = margin_study(tmp_path / "margin", [view])
    (whole,) = analyse(folder).views
    settings = {"views": [view], "best_by": "margin", "validation": "val/accuracy"}
    (folder / "report.yaml").write_text(yaml.safe_dump(settings))
    found = analyse(folder)
    assert len(found.table) == 4
    (surface,) = found.views
    assert isinstance(surface, Surface)
    assert isinstance(whole, Surface)
    pd.testing.assert_frame_equal(surface.cells, whole.cells)


def test_a_surface_with_one_seed_has_no_intervals(tmp_path: Path) -> None:
    view = {"kind": "surface", "x": "dim", "y": "margin", "where": {"normalize": "unit"}}
    (surface,) = analyse(margin_study(tmp_path / "margin", [view], seeds=1)).views
    assert isinstance(surface, Surface)
    assert set(surface.cells["label"]) == {""}
    assert surface.cells["half"].isna().all()
    assert best(surface.cells) == [1, 2]


def test_a_surface_averages_over_the_seed_alone(study: Path) -> None:
    found = made(study, {"kind": "surface", "x": "dim", "y": "margin"})
    assert found.views == []
    (note,) = (note for note in found.notes if "surface" in note)
    assert "differ in normalize: name it in by or where" in note


def test_a_tradeoff_takes_metrics_and_clocks(study: Path) -> None:
    views = [
        {"kind": "tradeoff", "x": "query_ms", "y": "recall", "by": "margin"},
        {"kind": "tradeoff", "x": "elapsed", "y": "test/accuracy"},
        {"kind": "tradeoff", "x": "samples/backward", "y": "test/accuracy"},
    ]
    first, second, third = made(study, *views).views
    assert isinstance(first, Tradeoff)
    assert isinstance(second, Tradeoff)
    assert isinstance(third, Tradeoff)
    assert (first.clock, second.clock, third.clock) == (True, True, False)
    assert len(first.points) == 12
    assert first.points["y"].to_numpy() == pytest.approx(0.5 + 0.05 * first.points["x"].to_numpy())
    assert set(first.points["group"]) == {"margin=0.5", "margin=1", "margin=2"}
    assert set(second.points["x"]) == {27, 144}, "the last value of elapsed"


def test_a_tradeoff_tells_its_slope_where_it_is_asked_to(study: Path) -> None:
    view = {"kind": "tradeoff", "x": "query_ms", "y": "recall", "by": "normalize"}
    assert not any("Slope" in note for note in made(study, view).notes)
    (note,) = (n for n in made(study, {**view, "slope": True}).notes if n.startswith("Slope of"))
    assert "recall for 1 more of query ms (one fit a seed" in note
    # Seeds that agree to the last digit say nothing about their spread.
    assert note.endswith("normalize=none: +5.00 points; normalize=unit: +5.00 points.")


def test_a_view_that_cannot_be_made_is_a_note(study: Path) -> None:
    views = [
        {"kind": "tradeoff", "x": "seconds", "y": "test/accuracy"},
        {"kind": "tradeoff", "x": "recal", "y": "test/accuracy"},
        {"kind": "surface", "x": "dims", "y": "margin"},
        {"kind": "curve", "value": "val/acuracy"},
        {"kind": "curve", "value": "train/loss_batch"},
    ]
    found = made(study, *views)
    assert found.views == []
    ids = [figure.id for figure in all_figures(found)]
    assert "curve_train_loss_batch" in ids
    told = [note for note in found.notes if "left out" in note and "kind" not in note]
    for part in ("no step_seconds.json", "did you mean 'recall'", "no key dims differs"):
        assert any(part in note for note in told), part
    assert any("no journal has val/acuracy; did you mean 'val/accuracy'?" in note for note in told)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "must be a list, each a mapping"),
        ([3], "must be a list, each a mapping"),
        ([{"kind": "surfase"}], "did you mean 'surface'"),
        ([{"kind": "surface", "x": "dim"}], "surface needs y"),
        ([{"kind": "curve", "value": "a", "x": "b"}], "curve: no key x"),
        ([{"kind": "surface", "x": "a", "y": "b", "wher": {}}], "did you mean 'where'"),
        ([{"kind": "tradeoff", "x": "a", "y": "b", "where": 3}], "where=3 must be a mapping"),
    ],
)
def test_wrong_views_are_one_clear_line(tmp_path: Path, given: Any, message: str) -> None:
    (tmp_path / "report.yaml").write_text(yaml.safe_dump({"views": given}))
    with pytest.raises(UserError, match=message):
        read_settings(tmp_path)


def test_the_page_and_the_pictures(study: Path) -> None:
    views = [
        {"kind": "surface", "x": "dim", "y": "margin", "by": "normalize", "title": "<b>Where"},
        {"kind": "tradeoff", "x": "query_ms", "y": "recall", "by": "normalize"},
    ]
    (study / "report.yaml").write_text(yaml.safe_dump({"views": views}))
    found = analyse(study)
    names = {path.name for path in write(found)}
    assert {"surface-1.png", "tradeoff-2.png"} <= names
    page = render(found, all_figures(found))
    assert page.index('data-kind="tile"') < page.index('data-kind="curve"')
    assert page.count('id="surface-1-') == 2
    assert "&lt;b&gt;Where" in page
    assert "framed: the best margin of each dim" in page
    assert "which other work on the machine may have slowed" in page
