"""The pictures of the studies' pages, from the stored results: ``python docs/hooks/pictures.py``.

Each reads one table of a study in ``results/`` and is written to ``docs/<name>.png``.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minesweep.errors import UserError
from minesweep.files import write_atomically
from minesweep.pages import PALETTE

MARKS = ("o", "s", "D", "^", "v", "P")
METRIC = "test/accuracy"


def draw_all(results: Path, docs: Path) -> list[Path]:
    """Writes the pictures.

    Args:
        results: Where the tables of ``PICTURES`` lie.
        docs: Where to.

    Raises:
        UserError: One of them is missing.
    """
    docs.mkdir(parents=True, exist_ok=True)
    written = []
    for name, (table, picture) in PICTURES.items():
        path = results / f"{table}.csv"
        if not path.exists():
            study = table.removesuffix("_curves")
            raise UserError(f"{path} is missing: python src/report.py runs/{study} --keep results")
        out = io.BytesIO()
        picture(pd.read_csv(path)).savefig(out, format="png", dpi=110)
        write_atomically(docs / f"{name}.png", out.getvalue())
        written.append(docs / f"{name}.png")
    return written


def noise(table: pd.DataFrame) -> Figure:
    """Test accuracy against the share of wrong labels, one line a miner."""
    # Where the hardest fifth is passed over, another question is asked.
    table = table[table["miner.skip_hardest"].fillna(0) == 0]
    figure, axes = _axes()
    for style, (miner, rows) in enumerate(table.groupby("miner", sort=False)):
        rows = rows.sort_values("dataset.label_noise")
        k = rows["k"].iloc[0]
        axes.errorbar(
            100 * rows["dataset.label_noise"],
            100 * rows[f"{METRIC} mean"],
            yerr=100 * rows[f"{METRIC} half"],
            label=f"{miner}, k={k:.0f}" if k == k else str(miner),
            **_style(style),
        )
    axes.set(xlabel="labels replaced (%)", ylabel="test accuracy (%)", xticks=[0, 10, 20])
    axes.set_title("Learning from k of 512 when labels are wrong", fontsize=10)
    axes.legend(fontsize=8)
    return figure


def seconds(table: pd.DataFrame) -> Figure:
    """Test accuracy against training seconds by the measured cost of a step, one point an arm."""
    figure, axes = _axes()
    took = table["seconds per step"] * table["trainer.max_steps"]
    # An arm at equal cost has the steps that fit into the time of its n's baseline.
    ohem = table["miner"] == "ohem"
    baseline = table["n"].map(took[ohem].set_axis(table["n"][ohem]))
    table = table.assign(took=took.where(table["trainer.equal_cost"].isna(), baseline))
    groups = table.groupby(["n", "miner"], sort=False)
    for style, ((n, miner), rows) in enumerate(groups):
        axes.errorbar(
            rows["took"],
            100 * rows[f"{METRIC} mean"],
            yerr=100 * rows[f"{METRIC} half"],
            label=f"{miner}, n={n}",
            **(_style(style) | {"ls": ""}),
        )
    axes.set(
        xlabel="seconds of training, by the measured cost of a step", ylabel="test accuracy (%)"
    )
    axes.set_title("What it costs: OHEM against its controls", fontsize=10)
    axes.legend(fontsize=8, loc="lower right")
    return figure


def margin(table: pd.DataFrame) -> Figure:
    """The margin that was best on validation data against the dimension, one line a form."""
    table = table[table["model.projection"].isna()]
    figure, axes = _axes()
    forms = table.groupby(["objective.distance", "objective.normalize"], sort=False)
    for style, ((distance, normalize), rows) in enumerate(forms):
        rows = rows.sort_values("model.dim")
        axes.plot(
            rows["model.dim"],
            rows["objective.margin"],
            label=f"{distance}, normalised" if normalize else str(distance),
            **_style(style),
        )
    dims = sorted(table["model.dim"].unique())
    axes.plot(dims, [0.125 * dim**0.5 for dim in dims], ":", color=PALETTE[6], label="~ sqrt(dim)")
    axes.set_xscale("log", base=4)
    axes.set_yscale("log", base=2)
    axes.set_xticks(dims, [str(dim) for dim in dims])
    ticks = [0.25, 0.5, 1, 2, 4]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set(xlabel="dimension of the embedding", ylabel="best margin tried")
    axes.set_title("The best margin, chosen on validation data", fontsize=10)
    axes.legend(fontsize=8)
    return figure


def mochi(curves: pd.DataFrame) -> Figure:
    """kNN accuracy over the steps, one line an arm that was trained; the others are levels."""
    figure, axes = _axes()
    lines = {str(arm): rows for arm, rows in curves.groupby("arm", sort=False)}
    for style, (arm, rows) in enumerate(lines.items()):
        look, mean = _style(style), 100 * rows["mean"]
        if len(rows) == 1:
            axes.axhline(mean.iloc[0], color=look["color"], ls="--", lw=1.2)
            told = "raw pixels" if "pixels" in arm else "untrained, BatchNorm calibrated"
            axes.annotate(told, (30, mean.iloc[0] + 0.15), fontsize=8)
            continue
        label = " ".join(word for word in arm.split() if not word.startswith(("model=", "lr=")))
        axes.plot(rows["step"], mean, label=label, **look)
        axes.fill_between(
            rows["step"], 100 * rows["low"], 100 * rows["high"], color=look["color"], alpha=0.06
        )
    axes.set_xlim(left=0)
    axes.set(xlabel="steps of 64 images", ylabel="kNN accuracy, validation (%)")
    axes.set_title("MoCHi and MoCo on Caltech-101, 64 px", fontsize=10)
    axes.legend(fontsize=7, loc="lower right")
    return figure


PICTURES = {
    "noise": ("nk_noise", noise),
    "seconds": ("nk_controlled", seconds),
    "margin": ("margin", margin),
    "mochi": ("mochi_curves", mochi),
}
"""By name: the table, and what draws it."""


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.3)
    return figure, axes


def _style(number: int) -> dict[str, Any]:
    colour, mark = PALETTE[number % len(PALETTE)], MARKS[number % len(MARKS)]
    return {"color": colour, "marker": mark, "ms": 5, "lw": 1.5}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=Path("results"))
    parser.add_argument("docs", type=Path, nargs="?", default=Path("docs"))
    options = parser.parse_args()
    from minesweep.config.entry import clear_errors

    with clear_errors():
        print(*draw_all(options.results, options.docs), sep="\n")
