"""Embeddings of the same examples at several steps of a run, one small file a step."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from minesweep.errors import UserError
from minesweep.files import write_atomically

FOLDER = "embeddings"
_POINTS = "points.npz"


@dataclass(frozen=True)
class Examples:
    """The examples whose embeddings are kept.

    Attributes:
        split: ``train`` or ``val``.
        rows: ``[m]`` rows of the split.
        labels: ``[m]`` int64.
        class_names: A name for each class; empty if classes have none.
        images: ``[m, height, width, 1 or 3]`` uint8; None if the examples are no images.
    """

    split: str
    rows: np.ndarray
    labels: np.ndarray
    class_names: list[str] = field(default_factory=list)
    images: np.ndarray | None = None

    def names(self) -> list[str]:
        """The class name of each example, or its number."""
        known = dict(enumerate(self.class_names))
        return [known.get(label, str(label)) for label in self.labels.tolist()]

    def packed(self) -> bytes:
        """The bytes of an npz file; equal for equal examples."""
        out = io.BytesIO()
        pictures = {} if self.images is None else {"images": self.images}
        np.savez(
            out,
            allow_pickle=False,
            split=np.array(self.split),
            rows=self.rows,
            labels=self.labels,
            class_names=np.array(self.class_names, dtype=np.str_),
            **pictures,
        )
        return out.getvalue()


class Snapshots:
    """The files in ``<run>/embeddings/``: ``points.npz`` and ``step-<step>.npy``."""

    def __init__(self, run: Path) -> None:
        self.folder = run / FOLDER

    @property
    def steps(self) -> list[int]:
        """The steps that have a file, rising."""
        return step_files(self.folder, "npy")

    def cut(self, step: int) -> None:
        """Removes the files of steps after ``step``: a resumed run computes them again."""
        cut(self.folder, "npy", step)

    def write(self, step: int, vectors: np.ndarray, examples: Examples) -> None:
        """Keeps ``[m, dim]`` embeddings. Removes those of other examples."""
        packed, points = examples.packed(), self.folder / _POINTS
        if not points.exists() or points.read_bytes() != packed:
            self.folder.mkdir(exist_ok=True)
            self.cut(-1)
            write_atomically(points, packed)
        out = io.BytesIO()
        np.save(out, vectors.astype(np.float32))
        write_atomically(self.folder / file_name(step, "npy"), out.getvalue())

    def read(self) -> tuple[Examples, list[int], np.ndarray]:
        """The examples, the steps, and ``[steps, m, dim]`` float32 embeddings.

        Raises:
            UserError: There are none, or a file is damaged.
        """
        steps = self.steps
        if not steps:
            raise UserError(
                f"{self.folder} holds no embeddings: train with logger.embeddings.every=100"
            )
        try:
            with np.load(self.folder / _POINTS) as arrays:
                examples = Examples(
                    str(arrays["split"]),
                    arrays["rows"],
                    arrays["labels"],
                    arrays["class_names"].tolist(),
                    arrays.get("images"),
                )
            vectors = np.stack([np.load(self.folder / file_name(s, "npy")) for s in steps])
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise UserError(f"{self.folder} cannot be read ({error})") from None
        if vectors.ndim != 3 or vectors.shape[1] != len(examples.labels):
            raise UserError(f"{self.folder} holds {vectors.shape} embeddings of other examples")
        return examples, steps, vectors


def file_name(step: int, kind: str) -> str:
    return f"step-{step:08d}.{kind}"


def step_files(folder: Path, kind: str) -> list[int]:
    """The steps of the files ``step-<step>.<kind>`` of a folder, rising."""
    found = (re.fullmatch(rf"step-(\d+)\.{kind}", path.name) for path in folder.glob("step-*"))
    return sorted(int(match[1]) for match in found if match)


def cut(folder: Path, kind: str, step: int) -> None:
    """Deletes the files of later steps than ``step``."""
    for later in step_files(folder, kind):
        if later > step:
            (folder / file_name(later, kind)).unlink()
