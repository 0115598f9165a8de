"""The notebooks run from top to bottom, and are stored without their outputs."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def cells(path: Path) -> list[str]:
    """The sources of the code cells."""
    notebook = json.loads(path.read_text())
    return ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]


def execute(sources: list[str]) -> list[Any]:
    """Runs cells as Jupyter does, in one namespace; the value that each would show.

    Jupyter itself is some 25 packages that nothing else here needs.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    shown = []
    for number, source in enumerate(sources):
        tree = ast.parse(source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"cell {number}", "exec"), names)
        value = last and ast.Expression(last.value)
        shown.append(value and eval(compile(value, f"cell {number}", "eval"), names))
    return shown


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_not_stored(path: Path) -> None:
    for cell in json.loads(path.read_text())["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.skipif(not (ROOT / "conf" / "miner" / "lsh.yaml").exists(), reason="no miner=lsh yet")
def test_the_pairs_notebook_runs(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import matplotlib as mpl
    import numpy as np

    mpl.use("agg")
    from matplotlib import pyplot as plt

    monkeypatch.chdir(runs_dir.parent)
    plt.close("all")
    shown = execute(cells(ROOT / "notebooks" / "pairs.ipynb"))
    (results,) = (value for value in shown if "precision_at_1" in getattr(value, "columns", ()))
    assert list(results.index) == ["random", "knn", "lsh"]
    assert (results["precision_at_1"] > 0.5).all()  # by chance 0.1
    curves, points = (plt.figure(number) for number in plt.get_fignums())
    assert len(curves.axes[0].lines) == 3
    for axes in points.axes:
        (cloud,) = axes.collections
        assert len(cloud.get_array()) == 300
    points.canvas.draw()
    pixels = np.asarray(points.canvas.buffer_rgba())[..., :3]
    assert (pixels.std(2) > 20).mean() > 0.005  # coloured, not white and grey
    plt.close("all")
    for line in capsys.readouterr().out.splitlines()[-3:]:
        assert Path(line.split(maxsplit=1)[1]).is_file()
