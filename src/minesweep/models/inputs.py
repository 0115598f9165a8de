"""Whether a model can take the data: images, or texts."""

from __future__ import annotations

from collections.abc import Sequence

from minesweep.errors import UserError


def check_images(model: str, input_shape: Sequence[int]) -> None:
    """Checks that the data is images, ``(channels, height, width)``.

    Args:
        model: What was chosen, as a message names it: ``model=unet``.
        input_shape: Shape of one example.

    Raises:
        UserError: It is something else.
    """
    _check(model, "images", 3, input_shape)


def check_texts(model: str, input_shape: Sequence[int]) -> None:
    """Checks that the data may be texts, ``(number of different tokens,)``. See `check_images`."""
    _check(model, "texts", 1, input_shape)


def _check(model: str, what: str, dimensions: int, input_shape: Sequence[int]) -> None:
    if len(input_shape) != dimensions:
        raise UserError(
            f"{model} takes {what}, not data of shape {list(input_shape)}: choose another model, "
            "e.g. model=mlp"
        )
