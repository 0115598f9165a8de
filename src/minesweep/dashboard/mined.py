"""The page of what one run mined: ``<run>/mined.html``."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

from minesweep import __version__
from minesweep.config.build import build
from minesweep.dashboard.index import shown as printable
from minesweep.dashboard.masks import layers, legend, stack
from minesweep.datasets.base import Data, Split
from minesweep.datasets.documents import Documents
from minesweep.datasets.show import Shown, pictures, shown
from minesweep.errors import UserError
from minesweep.files import write_atomically
from minesweep.objectives.base import RowObjective
from minesweep.pages import environment, thin
from minesweep.tracking.reading import UnreadableError, read_journal
from minesweep.training import checkpoint
from minesweep.training.load import as_trained, load_run
from minesweep.units import DASH, words

PAGE = "mined.html"
MOST_STEPS = 24
MOST_HARD = 48
SIDE = 64
"""Pixels: larger pictures are made smaller."""
ROLES = ("first", "second", "anchor", "positive", "negative", "query")
"""Parts of a card with several examples, each of which has a label of its own."""
TOLD = ("score", "rank", "selected", "label", "prediction", "answers_the_query")
"""Values that have a place of their own on a card; the others are listed."""


@dataclass(frozen=True)
class Seen:
    """What happened to each training example over a run; None of these where that is not known.

    Attributes:
        scored: ``[N]`` how often it was scored.
        selected: ``[N]`` how often it was selected.
        loss: ``[N]`` its mean loss; NaN for one that was never scored.
        flipped: ``[N]`` whether its label was replaced on purpose; None without label noise.
    """

    scored: np.ndarray
    selected: np.ndarray
    loss: np.ndarray
    flipped: np.ndarray | None

    def hardest(self) -> np.ndarray:
        """The rows that were scored, by falling mean loss."""
        order = np.argsort(-np.nan_to_num(self.loss, nan=-np.inf), kind="stable")
        return order[: int((self.scored > 0).sum())]

    def suspicion(self) -> tuple[int, int]:
        """Of as many of the hardest as there are flipped labels: how many, and how many of them
        are flipped. Their ratio is both precision and recall."""
        if self.flipped is None:
            return 0, 0
        count = int(self.flipped.sum())
        return count, int(self.flipped[self.hardest()[:count]].sum())


@dataclass(frozen=True)
class Card:
    """One candidate as it is shown.

    Attributes:
        title: Its rank, or its place among the hardest.
        examples: Role, picture as a data address (or empty), text (or empty) of each example.
        lines: What is said of it.
        marks: Short words, and whether each is a warning.
    """

    title: str
    examples: list[tuple[str, str, str]]
    lines: list[str]
    marks: list[tuple[str, bool]] = field(default_factory=list)


class Gallery:
    """Makes cards of rows of a training split."""

    def __init__(self, data: Data) -> None:
        self.split, self.names = data.train, [printable(name) for name in data.class_names]
        self._known: dict[int, tuple[Shown, ...]] = {}

    def fetch(self, rows: list[int]) -> None:
        """Reads examples at once; a row that the split does not have is not shown."""
        wanted = sorted({row for row in rows if 0 <= row < len(self.split)} - self._known.keys())
        if wanted:
            found = shown(self.split, torch.tensor(wanted, device=self.split.device))
            self._known.update(zip(wanted, found, strict=True))

    def example(self, role: str, row: int, part: int | None) -> tuple[str, str, str]:
        parts = self._known.get(row)
        if parts is None:
            return role, "", "no such example" if row >= 0 else "not an example: a mix"
        if part is None and role in ROLES and not isinstance(self.split, Documents):
            role = f"{role}: {self.name(int(self.split.labels[row]))}"
        kept = parts if part is None or not 0 <= part < len(parts) else (parts[part],)
        texts = [printable(thing) for thing in kept if isinstance(thing, str)]
        pictures = [thing for thing in kept if not isinstance(thing, str)]
        return role, data_address(pictures[0]) if pictures else "", "\n".join(texts)

    def name(self, label: Any) -> str:
        if isinstance(label, int) and 0 <= label < len(self.names):
            return self.names[label]
        return str(label)


def data_address(picture: np.ndarray) -> str:
    """``[height, width, 1 or 3]`` uint8 as a PNG that stands in the page itself."""
    image = Image.fromarray(picture.squeeze(2) if picture.shape[2] == 1 else picture)
    image.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    image.save(out, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def write_mined(folder: Path) -> Path:
    """Writes the page of one run into its folder.

    Raises:
        UserError: It is no run's folder, or holds nothing that was mined, or its data is missing.
    """
    records, skipped = _records(folder)
    loaded = load_run(folder)
    place = Path(loaded.config.paths.data_dir).expanduser()
    data = as_trained(loaded.config, build(loaded.config, "dataset").load(place))
    gallery = Gallery(data)
    gallery.fetch([row for r in records for rows in r["rows"].values() for row in rows])
    steps = [(r["step"], r["scored"], _cards(r, gallery, loaded.config)) for r in records]
    seen = read_seen(folder, data.train)
    page = (
        environment(Path(__file__).parent)
        .get_template("mined.html.j2")
        .render(
            name=printable(folder.resolve().name),
            answer=_answer(seen, records),
            score=_score(records),
            steps=steps,
            hardest=_hardest(seen, gallery, loaded.model, loaded.config) if seen else [],
            skipped=skipped,
            legend=legend(gallery.names) if data.train.labels.dim() == 3 else [],
            made=f"minesweep {__version__}",
        )
    )
    write_atomically(folder / PAGE, page)
    return folder / PAGE


def _records(folder: Path) -> tuple[list[dict[str, Any]], int]:
    """The steps that are shown, and how many lines of ``mined.jsonl`` are damaged."""
    try:
        rows, skipped = read_journal(folder / "mined.jsonl")
    except UnreadableError as error:
        raise UserError(
            f"{folder}: {error}; it is written by runs with logger.mined above 0"
        ) from None
    whole = [row for row in rows if _is_whole(row)]
    skipped += len(rows) - len(whole)
    if not whole:
        raise UserError(f"{folder / 'mined.jsonl'} holds nothing that was mined")
    return [whole[i] for i in thin(len(whole), MOST_STEPS)], skipped


def _is_whole(row: dict[str, Any]) -> bool:
    """Whether a line has the form of a record: lists of one length."""
    rows, values, parts = (row.get(key) for key in ("rows", "values", "parts"))
    if not (isinstance(rows, dict) and isinstance(values, dict) and isinstance(parts, dict)):
        return False
    columns = [*rows.values(), *values.values(), *parts.values()]
    if not rows or not all(isinstance(c, list) and len(c) == len(columns[0]) for c in columns):
        return False
    whole = all(type(x) is int for part in (rows, parts) for c in part.values() for x in c)
    return whole and type(row.get("scored")) is int and {"score", "selected"} <= values.keys()


def _cards(record: dict[str, Any], gallery: Gallery, cfg: DictConfig) -> list[Card]:
    rows, values, parts = record["rows"], record["values"], record["parts"]
    masks, of_pixels = record.get("masks"), gallery.split.labels.dim() == 3
    pixels = (
        layers(gallery.split, cfg, next(iter(rows.values())), record["step"], masks)
        if of_pixels and isinstance(masks, dict)
        else []
    )
    flipped = gallery.split.flipped
    cards = []
    for place in range(len(values["score"])):
        value = {name: column[place] for name, column in values.items()}
        examples = [
            gallery.example(role, held[place], parts[role][place] if role in parts else None)
            for role, held in rows.items()
        ]
        if pixels and pixels[place]:
            examples = [(role, data_address(picture), "") for role, picture in pixels[place]]
        row = next(iter(rows.values()))[place]
        marks = [("selected", False) if value["selected"] else ("not selected", False)]
        if flipped is not None and "label" in value and 0 <= row < len(flipped) and flipped[row]:
            marks.append(("flipped label", True))
        if value.get("answers_the_query"):
            marks.append(("answers the query", True))
        lines = [f"{_score([record])} {_number(value['score'])}"]
        lines += _said(value, gallery) if len(rows) == 1 else []
        lines += [f"{words(n)} {_number(v)}" for n, v in value.items() if n not in TOLD]
        if "positive" in rows and "rank" in value:
            closer = value["rank"]
            lines.append(f"{closer} candidate{' is' if closer == 1 else 's are'} closer")
        cards.append(Card(f"{place + 1}", examples, lines, marks))
    return cards


def _said(value: dict[str, Any], gallery: Gallery) -> list[str]:
    if "label" not in value:
        return []
    label = f"label {gallery.name(value['label'])}"
    if "prediction" not in value:
        return [label]
    return [f"{label}, predicted {gallery.name(value['prediction'])}"]


def _score(records: list[dict[str, Any]]) -> str:
    triples = "negative" in records[0]["rows"] and "positive" in records[0]["rows"]
    return "similarity of the negative minus the positive" if triples else "loss"


def _number(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, int | float) else DASH


def read_seen(folder: Path, split: Split) -> Seen | None:
    """What the last checkpoint knows of each example; None where examples were not the candidates.

    Raises:
        UserError: The checkpoint was made with other data.
    """
    state = checkpoint.last_good(folder / "checkpoints")
    counts: Tensor | None = (state or {}).get("diagnostics", {}).get("examples")
    if counts is None or not counts[:, 0].any():
        return None
    if len(counts) != len(split):
        raise UserError(f"{folder} was trained on {len(counts)} examples, not on {len(split)}")
    scored, selected, total = counts.double().numpy().T
    with np.errstate(invalid="ignore", divide="ignore"):
        loss = total / scored
    flipped = None if split.flipped is None else split.flipped.cpu().numpy()
    return Seen(scored, selected, loss, flipped)


def _answer(seen: Seen | None, records: list[dict[str, Any]]) -> str:
    first, last = records[0], records[-1]
    values = last["values"]
    told = [f"{_number(row['values']['score'][0])} at step {row['step']}" for row in (first, last)]
    steps = (
        f"The hardest candidates at {len(records)} step{'s' if len(records) > 1 else ''}. "
        f"At step {last['step']} {sum(map(bool, values['selected']))} of the "
        f"{len(values['score'])} hardest were selected; {_score(records)} of the hardest: "
        f"{', '.join(dict.fromkeys(told))}."
    )
    if seen is None:
        return steps
    count, hits = seen.suspicion()
    if not count:
        return (
            f"{steps} The examples of the highest mean loss over the run may be labelled wrongly."
        )
    share = count / len(seen.loss)
    return (
        f"Of the {count:,} examples of the highest mean loss over the run, {hits:,} have a flipped "
        f"label: as a suspicion of wrong labels it has a precision and a recall of "
        f"{100 * hits / count:.1f} % at the true number of flips (by chance {100 * share:.1f} %)."
    )


def _hardest(seen: Seen, gallery: Gallery, model: torch.nn.Module, cfg: DictConfig) -> list[Card]:
    """Examples that were hard whenever they were scored, with what the trained model says."""
    rows = seen.hardest()[:MOST_HARD]
    gallery.fetch(rows.tolist())
    batch = gallery.split.fetch(torch.from_numpy(rows))
    objective, predicted = build(cfg, "objective"), None
    of_pixels = batch.labels.dim() == 3
    with torch.no_grad():
        if of_pixels:
            predicted = model(batch.inputs).argmax(1).cpu().numpy()
        elif isinstance(objective, RowObjective):
            predicted = objective.details(model(batch.inputs), batch.labels).get("prediction")
    images = pictures(batch.inputs) if of_pixels else None
    cards = []
    for place, row in enumerate(rows.tolist()):
        examples = [gallery.example(f"row {row}", row, None)]
        value: dict[str, Any] = {} if of_pixels else {"label": int(batch.labels[place])}
        if of_pixels:
            label = batch.labels[place].cpu().numpy()
            image = None if images is None else images[place]
            found = stack(image, label, None if predicted is None else predicted[place])
            examples = [(role, data_address(picture), "") for role, picture in found]
        elif predicted is not None:
            value["prediction"] = int(predicted[place])
        times = f"scored {seen.scored[row]:.0f} times"
        if of_pixels:  # of an image's pixels a share is counted
            chosen = f"{seen.selected[row] / seen.scored[row]:.0%} of its pixels selected"
        else:
            chosen = f"selected {seen.selected[row]:.0f} times"
        lines = [f"mean loss {seen.loss[row]:.4g}", *_said(value, gallery), f"{times}, {chosen}"]
        marks = []
        if seen.flipped is not None:
            marks.append(
                ("flipped label", True) if seen.flipped[row] else ("label not flipped", False)
            )
        cards.append(Card(f"{place + 1}", examples, lines, marks))
    return cards
