"""Splits of images, held in memory or read from files, and the datasets that are made of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minesweep.datasets.base import Batch, Data, Dataset, Split
from minesweep.datasets.decode import Decoder
from minesweep.datasets.image_checks import drop_empty_classes, tell_of_images
from minesweep.datasets.image_files import Listing
from minesweep.datasets.layout import PARTS
from minesweep.datasets.options import Options, check_shares
from minesweep.datasets.prepare import channel_moments, deal_rows, flip_labels, training_order
from minesweep.datasets.views import WHOLE, Views
from minesweep.errors import UserError

log = logging.getLogger(__name__)

AHEAD = 2
"""Steps before its own that a batch of files begins to be decoded."""
MANY = 10_000
"""Fewer images are decoded in this process before workers would have started."""
MOST_WORKERS = 16
CHUNK = 256
"""Images that are augmented at a time: memory that stays warm is reused faster."""
MOMENTS = 1024
"""Training images that the mean and deviation of the colours are taken from, at most."""


class Files:
    """Images that stay on disk, indexed like a tensor ``[N, 3, S, S]`` of uint8.

    What is expected is decoded by worker processes while the step before it runs.
    """

    def __init__(self, decoder: Decoder, names: Sequence[str]) -> None:
        self.decoder, self.names = decoder, names
        self._begun: dict[int, tuple[list[int], list[Future[list[np.ndarray | str]]]]] = {}

    @property
    def ahead(self) -> int:
        return AHEAD if self.decoder.workers else 0

    def expect(self, rows: Tensor, step: int) -> None:
        if step in self._begun:
            return
        wanted = rows.tolist()
        while len(self._begun) >= AHEAD:
            self._begun.pop(min(self._begun))
        self._begun[step] = wanted, self.decoder.submit([self.names[row] for row in wanted])

    def take(self, rows: Tensor, step: int | None = None) -> Tensor:
        """The images at ``rows``, from the workers if they began them for this step."""
        wanted = rows.tolist()
        begun, futures = self._begun.pop(step, ([], [])) if step is not None else ([], [])
        if begun == wanted and futures:
            return self._tensor(wanted, self.decoder.results(futures), rows.device)
        return self[rows]

    def __getitem__(self, rows: Tensor) -> Tensor:
        wanted = rows.tolist()
        found = self.decoder([self.names[row] for row in wanted])
        return self._tensor(wanted, found, rows.device)

    def close(self) -> None:
        """Ends the workers, and forgets what they have begun."""
        self._begun.clear()
        self.decoder.close()

    def _tensor(
        self, rows: Sequence[int], found: Sequence[np.ndarray | str], device: torch.device
    ) -> Tensor:
        for row, image in zip(rows, found, strict=True):
            if isinstance(image, str):
                raise UserError(
                    f"{self.decoder.place.path}: {self.names[row]} cannot be decoded ({image}): "
                    "remove it, or raise dataset.memory, so that damaged files are left out"
                )
        return torch.from_numpy(np.stack(found)).to(device)


@dataclass
class ImageSplit(Split):
    """Images as uint8 squares, and what is made of them for the model.

    Attributes:
        inputs: ``[N, 3, S, S]`` uint8, held on the split's device; or :class:`Files`.
        size: Side of what the model sees.
        views: How the training's views are augmented.
        offset: ``[3, 1, 1]``; the model sees ``(image in [0, 1] - offset) * scale``.
        scale: ``[3, 1, 1]``.
        seed: Of the run that draws.
        count: Views of each image that it draws.
    """

    inputs: Tensor | Files  # type: ignore[assignment]
    size: int = 0
    views: Views = WHOLE
    offset: Tensor = field(default_factory=lambda: torch.zeros(3, 1, 1))
    scale: Tensor = field(default_factory=lambda: torch.ones(3, 1, 1))
    seed: int = 0
    count: int = 1

    def to(self, device: torch.device | str) -> ImageSplit:
        return replace(
            self,
            inputs=self.inputs.to(device) if isinstance(self.inputs, Tensor) else self.inputs,
            labels=self.labels.to(device),
            flipped=None if self.flipped is None else self.flipped.to(device),
            offset=self.offset.to(device),
            scale=self.scale.to(device),
        )

    def for_run(self, seed: int, views: int) -> ImageSplit:
        return replace(self, seed=seed, count=views)

    def fetch(self, rows: Tensor) -> Batch:
        """The whole images at ``rows``, not augmented: ``[n, 3, size, size]``."""
        images = self._view(WHOLE, self._pixels(rows), rows, "whole")
        return Batch(images, self.labels[rows], rows)

    def draw(self, rows: Tensor, step: int) -> Batch:
        """Augmented views, ``[n, 3, size, size]``, or ``[count, n, ...]`` of more than one."""
        pixels = self._pixels(rows, step)
        views = [
            self._view(self.views, pixels, rows, f"views/{step}/{number}")
            for number in range(self.count)
        ]
        inputs = views[0] if self.count == 1 else torch.stack(views)
        return Batch(inputs, self.labels[rows], rows)

    def _pixels(self, rows: Tensor, step: int | None = None) -> Tensor:
        if isinstance(self.inputs, Files):
            return self.inputs.take(rows, step)
        # Many times as fast as indexing: an image is copied as a whole.
        return self.inputs.index_select(0, rows)

    @torch.no_grad()
    def _view(self, views: Views, pixels: Tensor, rows: Tensor, purpose: str) -> Tensor:
        parts = zip(pixels.split(CHUNK), rows.split(CHUNK), strict=True)
        # Under autocast the products that resize would be of 16 bits.
        with torch.autocast(pixels.device.type, enabled=False):
            images = torch.cat([views(*part, self.size, self.seed, purpose) for part in parts])
        return images.sub_(self.offset).mul_(self.scale)

    @property
    def ahead(self) -> int:
        return self.inputs.ahead if isinstance(self.inputs, Files) else 0

    def expect(self, rows: Tensor, step: int) -> None:
        if isinstance(self.inputs, Files):
            self.inputs.expect(rows, step)

    def close(self) -> None:
        if isinstance(self.inputs, Files):
            self.inputs.close()


class ImageDataset(Dataset):
    """What datasets of colour images share.

    Args:
        image_size: Side in pixels of what the model sees.
        views: How the training's images are augmented; None for not at all.
        normalize: ``zscore`` with the mean and deviation of each colour in (up to 1,024)
            training images, ``unit`` for [0, 1], ``none`` for 0..255.
        label_noise: Share in [0, 1].
        limit: Training images at most.
        split_seed: Fixes splits and noise.
    """

    def __init__(
        self,
        *,
        image_size: int,
        views: Views | None = None,
        normalize: str = "zscore",
        label_noise: float = 0.0,
        limit: int | None = None,
        split_seed: int = 0,
    ) -> None:
        self.image_size, self.views = image_size, views or WHOLE
        self.options = Options(normalize, label_noise, limit, split_seed)

    def data(
        self,
        inputs: Mapping[str, Tensor | Files],
        labels: Mapping[str, Tensor],
        class_names: Sequence[str],
        file: str = "",
        contents: str = "",
    ) -> Data:
        """Splits of these images, by the options. The training split is limited already."""
        offset, scale = self._affine(inputs["train"], len(labels["train"]))

        def split(part: str, seen: Tensor, flipped: Tensor | None = None) -> ImageSplit:
            return ImageSplit(
                inputs=inputs[part],
                labels=seen,
                flipped=flipped,
                size=self.image_size,
                views=self.views,
                offset=offset,
                scale=scale,
            )

        trained, flipped = labels["train"], None
        if self.options.label_noise:
            trained, flipped = flip_labels(
                trained, self.options.label_noise, len(class_names), self.options.split_seed
            )
        return Data(
            train=split("train", trained, flipped),
            val=split("val", labels["val"]),
            test=split("test", labels["test"]),
            num_classes=len(class_names),
            input_shape=(3, self.image_size, self.image_size),
            class_names=list(class_names),
            file=file,
            contents=contents,
        )

    def _affine(self, images: Tensor | Files, count: int) -> tuple[Tensor, Tensor]:
        mean, deviation = torch.zeros(3, dtype=torch.double), torch.ones(3, dtype=torch.double)
        if self.options.normalize == "none":
            deviation /= 255
        if self.options.normalize == "zscore":
            rows = torch.linspace(0, count - 1, min(count, MOMENTS)).long()
            mean, deviation = (moment / 255 for moment in channel_moments(images[rows]))
            deviation[deviation == 0] = 1.0
        return mean.float().view(3, 1, 1), (1 / deviation).float().view(3, 1, 1)


class DealtDataset(ImageDataset):
    """Images of any size, of which a square is kept, and whose splits may have to be dealt.

    Args:
        stored_size: Side in pixels of the central square that is kept of each image, and that
            views are cropped from; None for one and a half times ``image_size``.
        val_share: Share of each class for validation, where nothing says it.
        test_share: The same for the test.
        memory: MiB that the kept squares may need.
        **image: See :class:`ImageDataset`.
    """

    def __init__(
        self,
        *,
        stored_size: int | None = None,
        val_share: float = 0.1,
        test_share: float = 0.2,
        memory: float = 4096,
        **image: object,
    ) -> None:
        super().__init__(**image)  # type: ignore[arg-type]
        self.stored_size = stored_size or round(1.5 * self.image_size)
        check_shares(val_share, test_share)
        self.val_share, self.test_share, self.memory = val_share, test_share, memory

    def fits(self, count: int) -> bool:
        """Whether so many squares fit into ``memory``."""
        return count * 3 * self.stored_size**2 <= self.memory * 2**20

    def deal(
        self, where: object, classes: Sequence[str], given: Sequence[str]
    ) -> dict[str, Tensor]:
        """The rows of each split, by the settings; see :func:`deal_rows`."""
        return deal_rows(
            where,
            classes,
            given,
            val_share=self.val_share,
            test_share=self.test_share,
            split_seed=self.options.split_seed,
            limit=self.options.limit,
        )


class FileDataset(DealtDataset):
    """A dataset of image files, folder by class; see :mod:`minesweep.datasets.image_files`.

    Images that need no more than ``memory`` are decoded once and held; those that need more are
    read for each batch.

    Args:
        workers: Processes that decode; None for one for each core. A few thousand images that
            are held are decoded without them.
        **image: See :class:`DealtDataset`.
    """

    def __init__(self, *, workers: int | None = None, **image: Any) -> None:
        super().__init__(**image)
        self.workers = cores() if workers is None else workers

    def read(self, listing: Listing) -> Data:
        """Decodes a listing, or leaves it on disk if it is too large for ``memory``."""
        names, labels = dict(listing.names), {k: torch.tensor(v) for k, v in listing.labels.items()}
        order = training_order(len(names["train"]), self.options.split_seed)
        order = order[: self.options.limit]
        labels["train"] = labels["train"][order]
        names["train"] = [names["train"][row] for row in order.tolist()]
        count = sum(map(len, names.values()))
        fits = self.fits(count)
        workers = self.workers if count >= MANY or not fits else 0
        decoder = Decoder(listing.place, self.stored_size, workers)
        inputs: dict[str, Tensor | Files] = {part: Files(decoder, names[part]) for part in PARTS}
        if fits:
            held, labels = self._held(decoder, names, labels)
            decoder.close()
            inputs = dict(held)
        path = listing.place.path
        labels, class_names = drop_empty_classes(path, labels, listing.class_names)
        if fits:
            tell_of_images(path, held, names, labels, class_names)
        return self.data(inputs, labels, class_names, path.name, listing.contents)

    def _held(
        self, decoder: Decoder, names: dict[str, list[str]], labels: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """All images, and the labels of those that could be decoded; the names are cut to those."""
        side, path = self.stored_size, decoder.place.path
        inputs: dict[str, Tensor] = {}
        kept: dict[str, Tensor] = {}
        damaged: list[str] = []
        for part in PARTS:
            pixels = np.empty((len(names[part]), 3, side, side), dtype=np.uint8)
            whole = np.ones(len(names[part]), dtype=bool)
            for row, image in enumerate(decoder.all(names[part], f"{path.name}: {part}")):
                if isinstance(image, str):
                    whole[row] = False
                    damaged.append(f"{names[part][row]} ({image})")
                else:
                    pixels[row] = image
            if not whole.any():
                raise UserError(f"{path}: no image of the {part} split can be decoded")
            inputs[part] = torch.from_numpy(pixels if whole.all() else pixels[whole])
            kept[part] = labels[part][torch.from_numpy(whole)]
            names[part] = [name for name, good in zip(names[part], whole, strict=True) if good]
        if damaged:
            log.warning(
                "%s: left out %d images that cannot be decoded, e.g. %s",
                *(path, len(damaged), damaged[0]),
            )
        return inputs, kept


def cores() -> int:
    """How many this process may use, at most :data:`MOST_WORKERS`."""
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(count, MOST_WORKERS)
