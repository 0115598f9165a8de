"""What is told of decoded images: classes without any, copies in two splits, blank ones."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from minesweep.errors import UserError

log = logging.getLogger(__name__)


def drop_empty_classes(
    path: Path, labels: Mapping[str, Tensor], class_names: Sequence[str]
) -> tuple[dict[str, Tensor], list[str]]:
    """Takes classes without an image out, and says so; says which classes are never learned.

    Returns:
        The labels of each split, renumbered, and the names of the classes that are left.

    Raises:
        UserError: Fewer than two classes are left.
    """
    there = torch.cat(list(labels.values())).unique()
    numbers = torch.full((len(class_names),), -1)
    numbers[there] = torch.arange(len(there))
    gone = [name for name, number in zip(class_names, numbers.tolist(), strict=True) if number < 0]
    kept = [class_names[number] for number in there.tolist()]
    if gone:
        log.warning("%s: no image of %s can be decoded: no class", path, some(gone, "classes"))
    if len(kept) < 2:
        raise UserError(
            f"{path} holds images of {len(kept)} class(es) that can be decoded: there must be two"
        )
    found = {part: numbers[values] for part, values in labels.items()}
    trained = set(found["train"].unique().tolist())
    unseen = [name for number, name in enumerate(kept) if number not in trained]
    if unseen:
        log.warning("%s: %s without a training image", path, some(unseen, "classes"))
    return found, kept


def tell_of_images(
    path: Path,
    images: Mapping[str, Tensor],
    names: Mapping[str, Sequence[str]],
    labels: Mapping[str, Tensor],
    class_names: Sequence[str],
) -> None:
    """Warns of blank images by class, and of images that are in two splits.

    Args:
        path: Where they lie.
        images: Of each split ``[N, 3, S, S]`` uint8.
        names: Of each split its files.
        labels: Of each split ``[N]``.
        class_names: A name for each label.
    """
    places: dict[bytes, tuple[str, str]] = {}
    blank: Counter[int] = Counter()
    copies: Counter[tuple[str, str]] = Counter()
    first = ""
    for part, pixels in images.items():
        flat = pixels.flatten(2)
        one_colour = (flat == flat[:, :, :1]).all(2).all(1)
        blank.update(labels[part][one_colour].tolist())
        seen = {}
        for row in (~one_colour).nonzero().flatten().tolist():
            mark = hashlib.blake2b(flat[row].contiguous().numpy().data, digest_size=16).digest()
            seen[mark] = (part, names[part][row])
            if mark in places:
                copies[places[mark][0], part] += 1
                first = first or f"{places[mark][1]} and {names[part][row]}"
        places |= {mark: place for mark, place in seen.items() if mark not in places}
    if blank:
        totals = torch.cat(list(labels.values())).bincount(minlength=len(class_names))
        told = [f"{n} of {totals[c]} in {class_names[c]}" for c, n in blank.most_common(3)]
        log.warning(
            "%s: %d images are of one colour alone: %s%s",
            *(path, blank.total(), ", ".join(told), " ..." if len(blank) > 3 else ""),
        )
    for (one, other), count in copies.items():
        log.warning(
            "%s: %d images of the %s split are in the %s split too, e.g. %s",
            *(path, count, other, one, first),
        )


def some(names: Sequence[str], kind: str) -> str:
    """``3 classes (a, b, c)``: how many, and the first of them."""
    return f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
