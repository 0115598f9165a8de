"""Embeddings of a run in 3-D: what is kept, what is shown, and that it changes nothing."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL, Train, choices
from PIL import Image

from minesweep.config.compose import compose
from minesweep.config.identity import identity
from minesweep.errors import UserError
from minesweep.pages import PALETTE
from minesweep.tracking.embeddings import Examples, Snapshots
from minesweep.tracking.embeddings_page import in_three, page, picture, view, write_outdated
from minesweep.tracking.projector import sheet, smaller
from minesweep.training.run import run as train_it

KEPT = (
    *("model=embedding_mlp", "miner=semi_hard", "objective.positive=hardest", "miner.per_class=8"),
    *("trainer.batch_size=64", "optimizer=adam", "scheduler=constant", "trainer.max_steps=30"),
    *("trainer.eval_every=10", "trainer.checkpoint_every=10"),
)
SHOWN = (
    *("logger.embeddings.every=10", "logger.embeddings.points=50"),
    "logger.tensorboard=true",
)


def only_run(runs: Path, study: str) -> Path:
    (path,) = (runs / study).glob("*/config.yaml")
    return path.parent


@pytest.fixture(scope="module")
def shown_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with embeddings, on digits."""
    runs = tmp_path_factory.mktemp("runs")
    own = [f"paths.runs_dir={runs}", "study=shown", "trainer.progress=false"]
    train_it(compose([*SMALL, *own, *KEPT, *SHOWN]))
    return only_run(runs, "shown")


def test_a_run_keeps_and_shows_its_embeddings(shown_run: Path) -> None:
    examples, steps, vectors = Snapshots(shown_run).read()
    assert steps == [0, 10, 20, 30]
    assert vectors.shape == (4, 50, 3)
    assert (np.abs(np.diff(vectors, axis=0)).max((1, 2)) > 0).all()
    assert examples.images is not None
    assert examples.images.shape == (50, 8, 8, 1)

    from minesweep import load_run
    from minesweep.datasets.digits import Digits

    split = Digits().load(Path()).val
    assert examples.labels.tolist() == split.labels[examples.rows].tolist()
    final = load_run(shown_run).model(split.inputs[examples.rows]).detach().numpy()
    np.testing.assert_allclose(vectors[-1], final, atol=1e-6)
    assert coloured(shown_run / "embeddings.png") > 500
    points = drawn((shown_run / "embeddings.html").read_text())
    assert points["steps"] == steps
    assert sum(len(trace["rows"]) for trace in points["traces"]) == 50


def test_it_changes_neither_journal_nor_result(
    train: Train, runs_dir: Path, shown_run: Path
) -> None:
    train(*KEPT, "study=plain")
    plain = only_run(runs_dir, "plain")
    assert plain.name == shown_run.name
    for name in ("journal.jsonl", "summary.json"):
        assert (plain / name).read_bytes() == (shown_run / name).read_bytes()
    assert identity(compose([*KEPT, *SHOWN])) == identity(compose([*KEPT]))


def test_a_resume_cuts_back_and_ends_alike(
    train: Train, runs_dir: Path, shown_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minesweep.training.loop import Trainer

    update = Trainer.update

    def dies(self: Trainer):
        if self.step == 25:
            raise KeyboardInterrupt
        return update(self)

    monkeypatch.setattr(Trainer, "update", dies)
    again = (*KEPT, *SHOWN, "study=broken")
    with pytest.raises(KeyboardInterrupt):
        train(*again)
    broken = only_run(runs_dir, "broken")
    assert not (broken / "embeddings.html").exists()
    # As if it had gone on for a while behind its last checkpoint.
    examples, _, vectors = Snapshots(broken).read()
    Snapshots(broken).write(28, vectors[0], examples)
    (broken / "tensorboard" / "projector" / "step-00000028.tsv").touch()
    monkeypatch.setattr(Trainer, "update", update)
    train(*again)
    for folder in ("embeddings", "tensorboard/projector"):
        files = {path.name: path.read_bytes() for path in (shown_run / folder).iterdir()}
        assert files == {path.name: path.read_bytes() for path in (broken / folder).iterdir()}
    assert (broken / "embeddings.html").exists()


def test_tensorboard_serves_the_projector(shown_run: Path) -> None:
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin
    from werkzeug.test import Client

    runs = str(shown_run.parent)
    multiplexer = EventMultiplexer().AddRunsFromDirectory(runs)
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, runs)
    plugin = ProjectorPlugin(TBContext(data_provider=provider, logdir=runs))
    apps = plugin.get_plugin_apps()

    def get(route: str, **query: str) -> bytes:
        response = Client(apps[route]).get(route, query_string=query)
        assert response.status_code == 200
        return response.data

    (name,) = json.loads(get("/runs"))
    tensors = json.loads(get("/info", run=name))["embeddings"]
    assert [t["tensorName"] for t in tensors] == ["step 30", "step 20", "step 10", "step 0"]
    assert [t["tensorShape"] for t in tensors] == [[50, 3]] * 4
    tensor = np.frombuffer(get("/tensor", run=name, name="step 30"), dtype=np.float32)
    examples, _, vectors = Snapshots(shown_run).read()
    np.testing.assert_allclose(tensor.reshape(50, 3), vectors[-1], rtol=1e-4)
    labels = get("/metadata", run=name, name="step 30").decode().splitlines()
    assert labels[0] == "class\trow"
    assert labels[1:] == [f"{c}\t{r}" for c, r in zip(examples.labels, examples.rows, strict=True)]
    picture = Image.open(io.BytesIO(get("/sprite_image", run=name, name="step 30")))
    assert picture.size == (64, 64)  # 8 x 8 places for 50 images of 8 x 8
    assert tensors[0]["sprite"]["singleImageDim"] == [8, 8]


# --- three dimensions ---


def random_view(steps: int = 3, points: int = 40, dim: int = 3, classes: int = 4, **options):
    draws = np.random.default_rng(0)
    vectors = draws.normal(size=(steps, points, dim)).astype(np.float32)
    labels = np.arange(points) % classes
    examples = Examples("val", np.arange(points), labels, **options)
    return view(examples, list(range(0, 10 * steps, 10)), vectors), vectors


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_up_to_three_dimensions_stay_as_they_are(dim: int) -> None:
    shown, vectors = random_view(dim=dim)
    np.testing.assert_array_equal(shown.places[..., :dim], vectors)
    assert (shown.places[..., dim:] == 0).all()
    assert "as they are" in shown.told


def test_more_dimensions_are_projected_on_the_last_steps_components() -> None:
    from sklearn.decomposition import PCA

    draws = np.random.default_rng(1)
    vectors = draws.normal(size=(3, 60, 8)) * np.arange(1, 9) + 5
    places, told = in_three(vectors)
    pca = PCA(3).fit(vectors[-1])
    for step in range(3):
        expected = pca.transform(vectors[step])
        np.testing.assert_allclose(np.abs(places[step]), np.abs(expected), atol=1e-9)
    assert f"PCA of 8 dimensions, {pca.explained_variance_ratio_.sum():.0%}" in told
    assert "the same for all steps" in told


def test_a_collapsed_a_tiny_and_a_broken_embedding_are_drawn() -> None:
    examples = Examples("val", np.arange(2), np.array([0, 1]))
    for dim in (3, 16):
        for vectors in (np.ones((2, 2, dim)), np.full((2, 2, dim), np.nan)):
            shown = view(examples, [0, 1], vectors)
            assert "NaN" not in json.dumps(drawn(page("run", shown)))
            assert picture("run", shown)[:4] == b"\x89PNG"


def test_many_steps_are_thinned_and_many_classes_share_a_colour() -> None:
    shown, _ = random_view(steps=500, points=30, classes=30)
    assert len(shown.steps) == 60
    assert (shown.steps[0], shown.steps[-1]) == (0, 4990)
    assert list(shown.groups) == ["30 classes"]


# --- the page and the picture ---


def drawn(html: str) -> dict:
    """What the page's script draws."""
    (text,) = re.findall(r"^const DATA = (.*);$", html, re.MULTILINE)
    return json.loads(text)


def coloured(path: Path) -> int:
    """Pixels in a colour of the palette."""
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3).astype(int)
    palette = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in PALETTE[:6]])
    return int((np.abs(pixels[:, None] - palette).sum(2) < 12).any(1).sum())


def test_the_page_holds_every_point_and_loads_nothing() -> None:
    shown, vectors = random_view()
    html = page("a run", shown)
    points = drawn(html)
    assert points["steps"] == [0, 10, 20]
    found = {}
    for trace in points["traces"]:
        for place, row in enumerate(trace["rows"]):
            found[row] = [[axis[step][place] for axis in trace["places"]] for step in range(3)]
    np.testing.assert_allclose([found[row] for row in range(40)], vectors.swapaxes(0, 1), rtol=1e-3)
    assert "showSendToCloud: false" in html
    assert "default-src 'none'" in html
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", html)


def test_names_are_escaped() -> None:
    hostile = "</script><script>alert(1)</script>"
    shown, _ = random_view(classes=2, class_names=[hostile, "b$\\frac"])
    html = page(hostile, shown)
    assert "alert(1)</script>" not in html
    assert drawn(html)["traces"][0]["name"] == hostile
    assert picture("$\\frac", shown)


def test_the_picture_is_not_blank(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture("run", random_view(points=100)[0]))
    assert coloured(tmp_path / "a.png") > 1000


def test_the_report_writes_pages_that_are_missing(tmp_path: Path) -> None:
    shown = Examples("val", np.arange(5), np.arange(5))
    for name in ("killed", "damaged"):
        (tmp_path / name).mkdir()
        Snapshots(tmp_path / name).write(0, np.zeros((5, 3)), shown)
    (tmp_path / "damaged" / "embeddings" / "step-00000000.npy").write_bytes(b"half")
    names = [str(path.relative_to(tmp_path)) for path in write_outdated(tmp_path)]
    assert names == ["killed/embeddings.html", "killed/embeddings.png"]
    assert write_outdated(tmp_path) == []
    with pytest.raises(UserError, match="damaged"):
        Snapshots(tmp_path / "damaged").read()
    with pytest.raises(UserError, match=r"logger\.embeddings\.every=100"):
        Snapshots(tmp_path).read()


def test_other_examples_begin_anew(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path)
    for step, count in ((0, 5), (10, 5), (20, 4)):
        examples = Examples("val", np.arange(count), np.arange(count))
        snapshots.write(step, np.zeros((count, 3)), examples)
    assert snapshots.steps == [20]


def test_the_sheet_of_images() -> None:
    images = np.random.default_rng(0).integers(0, 255, (7, 4, 6, 3), dtype=np.uint8)
    whole = np.asarray(Image.open(io.BytesIO(sheet(images))))
    assert whole.shape == (12, 18, 3)
    for i in range(7):
        top, left = 4 * (i // 3), 6 * (i % 3)
        assert (whole[top : top + 4, left : left + 6] == images[i]).all()
    large = smaller(np.zeros((5, 300, 200, 1), dtype=np.uint8))
    assert large.shape == (5, 60, 40, 1)


SEEDS = [name for name in choices("experiment") if name.startswith("pairs/seed_")]


@pytest.mark.parametrize("experiment", SEEDS)
def test_the_first_pair_mining_demo_gives_pictures_that_are_not_blank(
    experiment: str, runs_dir: Path
) -> None:
    small = ["logger=none", "trainer.progress=false", "trainer.max_steps=3"]
    train_it(compose([f"experiment={experiment}", *small]))
    (run,) = (path.parent for path in runs_dir.glob("*/*/config.yaml"))
    assert coloured(run / "embeddings.png") > 1000
    points = drawn((run / "embeddings.html").read_text())
    assert points["steps"] == [0, 3]
    assert [trace["name"] for trace in points["traces"]] == ["0", "1"]
    assert sum(len(trace["rows"]) for trace in points["traces"]) == 100
