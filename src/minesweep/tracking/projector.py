"""Files for TensorBoard's embedding projector: tables of vectors, labels, a sheet of images."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np

from minesweep.files import write_atomically
from minesweep.tracking.embeddings import Examples, cut, file_name, step_files

LARGEST_SHEET, LARGEST_IMAGE = 8192, 64
"""Pixels: of the sheet's side, which TensorBoard limits; of an image's, enough to recognise it."""


class Projector:
    """One projector a run, with one tensor a step, in ``<folder>/projector/``."""

    def __init__(self, folder: Path, step: int = 0) -> None:
        self._folder, self._files = folder, folder / "projector"
        cut(self._files, "tsv", step)

    def write(self, step: int, vectors: np.ndarray, examples: Examples) -> None:
        """Adds the tensor of one step, with labels and images, which all steps share."""
        self._files.mkdir(parents=True, exist_ok=True)
        table = io.StringIO()
        np.savetxt(table, vectors, fmt="%.6g", delimiter="\t")
        write_atomically(self._files / file_name(step, "tsv"), table.getvalue())
        labels = zip(examples.names(), examples.rows.tolist(), strict=True)
        lines = [f"{' '.join(name.split())}\t{row}" for name, row in labels]
        write_atomically(self._files / "labels.tsv", "\n".join(["class\trow", *lines]) + "\n")
        images = None if examples.images is None else smaller(examples.images)
        if images is not None:
            write_atomically(self._files / "images.png", sheet(images))
        self._describe(images)

    def _describe(self, images: np.ndarray | None) -> None:
        from google.protobuf import text_format
        from tensorboard.plugins.projector import ProjectorConfig

        config = ProjectorConfig()
        # The first is what the projector opens with: the newest.
        for step in reversed(step_files(self._files, "tsv")):
            tensor = config.embeddings.add()
            tensor.tensor_name = f"step {step}"
            tensor.tensor_path = f"projector/{file_name(step, 'tsv')}"
            tensor.metadata_path = "projector/labels.tsv"
            if images is not None:
                tensor.sprite.image_path = "projector/images.png"
                tensor.sprite.single_image_dim.extend([images.shape[2], images.shape[1]])
        path = self._folder / "projector_config.pbtxt"
        write_atomically(path, text_format.MessageToString(config))


def smaller(images: np.ndarray) -> np.ndarray:
    """``[m, height, width, channels]`` images, thinned out to every s-th pixel so that they fit."""
    columns = math.ceil(math.sqrt(len(images)))
    most = min(LARGEST_IMAGE, LARGEST_SHEET // columns)
    stride = math.ceil(max(images.shape[1:3]) / most)
    return images[:, ::stride, ::stride]


def sheet(images: np.ndarray) -> bytes:
    """A PNG of images in a square of rows. Places without an image are white."""
    from PIL import Image

    count, height, width, channels = images.shape
    side = math.ceil(math.sqrt(count))
    places = np.full((side * side, height, width, channels), 255, dtype=np.uint8)
    places[:count] = images
    whole = places.reshape(side, side, height, width, channels).swapaxes(1, 2)
    pixels = whole.reshape(side * height, side * width, channels)
    out = io.BytesIO()
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(out, format="png")
    return out.getvalue()
