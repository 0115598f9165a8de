"""A run's embeddings in 3-D: one page with a slider over the steps, and a picture of the end."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from minesweep.errors import UserError
from minesweep.files import write_atomically
from minesweep.pages import PALETTE, clean, data, environment, thin
from minesweep.tracking.embeddings import FOLDER, Examples, Snapshots
from minesweep.tracking.journal import Row

PAGE, PICTURE = "embeddings.html", "embeddings.png"
MOST_STEPS, MOST_CLASSES = 60, 21
"""On a page: more steps are thinned out evenly, more classes get no colour of their own."""
SYMBOLS = ("circle", "square", "diamond")
MARKERS = ("o", "s", "D")


@dataclass(frozen=True)
class View:
    """Embeddings as points in three dimensions.

    Attributes:
        places: ``[steps, m, 3]``.
        steps: Their steps.
        groups: Rows of the points of each class, by its name.
        rows: ``[m]`` rows of the split.
        told: How they came into three dimensions, for a reader.
    """

    places: np.ndarray
    steps: list[int]
    groups: dict[str, np.ndarray]
    rows: np.ndarray
    told: str


class EmbeddingLogger:
    """The sink that keeps embeddings, and shows them at the end of a run.

    Writes ``embeddings/``, and for a finished run ``embeddings.html`` and ``embeddings.png``.
    """

    def __init__(self, run: Path, step: int = 0) -> None:
        self._run, self._snapshots = run, Snapshots(run)
        self._snapshots.cut(step)

    def log(self, row: Row) -> None:
        """Rows hold no embeddings."""

    def embed(self, step: int, vectors: np.ndarray, examples: Examples) -> None:
        self._snapshots.write(step, vectors, examples)

    def finish(self, summary: Row | None, exit_code: int) -> None:
        if summary is not None and self._snapshots.steps:
            write(self._run)


def write(run: Path) -> list[Path]:
    """Writes ``embeddings.html`` and ``embeddings.png`` into a run's folder.

    Raises:
        UserError: It holds no embeddings.
    """
    shown = view(*Snapshots(run).read())
    write_atomically(run / PAGE, page(run.name, shown))
    write_atomically(run / PICTURE, picture(run.name, shown))
    return [run / PAGE, run / PICTURE]


def write_outdated(study: Path) -> list[Path]:
    """The same for each run of a study whose page is missing, or older than its embeddings.

    A run whose embeddings are damaged is passed over.
    """
    written = []
    for folder in sorted(study.glob(f"*/{FOLDER}")):
        made = folder.parent / PAGE
        newest = max((path.stat().st_mtime for path in folder.glob("step-*.npy")), default=0.0)
        if newest and not (made.exists() and made.stat().st_mtime >= newest):
            try:
                written += write(folder.parent)
            except UserError:
                continue
    return written


def view(examples: Examples, steps: list[int], vectors: np.ndarray) -> View:
    """Points in three dimensions, a group a class."""
    if len(steps) > MOST_STEPS:
        kept = thin(len(steps), MOST_STEPS)
        steps, vectors = [steps[i] for i in kept], vectors[kept]
    places, told = in_three(vectors)
    names, groups = np.array(examples.names()), {}
    if len(classes := np.unique(examples.labels)) > MOST_CLASSES:
        groups[f"{len(classes)} classes"] = np.arange(len(names))
    else:
        for label in classes:
            members = np.flatnonzero(examples.labels == label)
            groups[clean(names[members[0]])] = members
    return View(places, steps, groups, examples.rows, f"{told}; {examples.split} split")


def in_three(vectors: np.ndarray) -> tuple[np.ndarray, str]:
    """``[steps, m, dim]`` to ``[steps, m, 3]``, and how.

    More than three dimensions are projected on the three principal components of the *last*
    step, for all steps alike: otherwise the view would turn from step to step.
    """
    dim = vectors.shape[2]
    vectors = vectors.astype(np.float64)
    if dim <= 3:
        padded = np.pad(vectors, ((0, 0), (0, 0), (0, 3 - dim)))
        return padded, f"{dim} dimension{'s' if dim > 1 else ''} as they are"
    last = np.nan_to_num(vectors[-1], posinf=0, neginf=0)
    centre = last.mean(0)
    _, singular, axes = np.linalg.svd(last - centre, full_matrices=False)
    axes = np.pad(axes, ((0, max(0, 3 - len(axes))), (0, 0)))[:3]
    # The sign of a component means nothing: its largest weight is positive.
    axes *= np.where(np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1) < 0, -1, 1)
    total = (singular**2).sum()
    share = (singular[:3] ** 2).sum() / total if total else 1.0
    told = (
        f"3 principal components of the last step (PCA of {dim} dimensions, {share:.0%} of its "
        "variance), the same for all steps"
    )
    return (vectors - centre) @ axes.T, told


def page(name: str, shown: View) -> str:
    """The page as HTML; it loads nothing, and every text in it is escaped."""
    from plotly.offline import get_plotlyjs

    traces = [
        {
            "name": group,
            "colour": PALETTE[i % len(PALETTE)],
            "symbol": SYMBOLS[i // len(PALETTE)],
            "rows": shown.rows[members].tolist(),
            "places": [_short(axis) for axis in shown.places[:, members].transpose(2, 0, 1)],
        }
        for i, (group, members) in enumerate(shown.groups.items())
    ]
    return (
        environment(Path(__file__).parent)
        .get_template("embeddings_page.html.j2")
        .render(
            name=clean(name),
            told=shown.told,
            count=shown.places.shape[1],
            steps=shown.steps,
            data=data({"steps": shown.steps, "traces": traces}),
            plotly=Markup(get_plotlyjs()),
        )
    )


def picture(name: str, shown: View) -> bytes:
    """A PNG of the last step."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6))
    axes = figure.add_subplot(projection="3d")
    for i, (group, members) in enumerate(shown.groups.items()):
        axes.scatter(
            *shown.places[-1, members].T,
            s=14,
            color=PALETTE[i % len(PALETTE)],
            marker=MARKERS[i // len(PALETTE)],
            label=clean(group).replace("$", r"\$"),
            depthshade=False,
        )
    # One scale on all three axes: distances are what is looked at.
    finite = np.nan_to_num(shown.places[-1], posinf=0, neginf=0)
    low, high = finite.min(0), finite.max(0)
    half = 0.54 * (high - low).max() or 1.0
    limits = ((low + high) / 2)[:, None] + [-half, half]
    axes.set(xlim=limits[0], ylim=limits[1], zlim=limits[2])
    axes.set_title(
        clean(f"{name}, step {shown.steps[-1]}").replace("$", r"\$") + f"\n{shown.told}", fontsize=7
    )
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.05, 0.5))
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=130, bbox_inches="tight")
    return out.getvalue()


def _short(values: np.ndarray) -> list[list[float | None]]:
    """Four digits are enough for a screen."""
    return [[float(f"{v:.4g}") if np.isfinite(v) else None for v in step] for step in values]
