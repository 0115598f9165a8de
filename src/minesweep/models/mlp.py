"""A multilayer perceptron."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from torch import nn

from minesweep.errors import UserError
from minesweep.words import check_word

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}
INITS = ("default", "truncated_normal")


class MLP(nn.Sequential):
    """Flatten, then a linear layer and an activation per width, then a linear layer.

    Args:
        widths: Units of each hidden layer; none of them makes a linear classifier.
        activation: ``sigmoid``, ``relu``, ``tanh``, ``gelu`` or ``silu``.
        init: ``default`` is torch's; ``truncated_normal`` is that of Simsso/ML-Playground,
            ``ohem/model.py``: weights normal with standard deviation 1 / (the layer's number
            of outputs), cut at two standard deviations, biases zero.
        input_shape: Shape of one example, e.g. ``(1, 28, 28)``.
        num_classes: Number of outputs.

    Raises:
        UserError: An unknown word, or a width below 1.

    Maps ``[n, *input_shape]`` to ``[n, num_classes]``.
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: str = "relu",
        init: str = "default",
        *,
        input_shape: Sequence[int],
        num_classes: int,
    ) -> None:
        check_word("model.activation", activation, ACTIVATIONS)
        check_word("model.init", init, INITS)
        if not isinstance(widths, Sequence) or not all(
            isinstance(w, int) and w > 0 for w in widths
        ):
            raise UserError(
                f"model.widths={widths} must be a list of whole numbers of at least 1, "
                "e.g. [1024] or [512,256]"
            )
        sizes = [math.prod(input_shape), *widths]
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, fan_out in itertools.pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[activation]()]
        layers.append(nn.Linear(sizes[-1], num_classes))
        super().__init__(*layers)
        if init == "truncated_normal":
            self.apply(_truncated_normal)


def _truncated_normal(layer: nn.Module) -> None:
    if isinstance(layer, nn.Linear):
        std = 1 / layer.out_features
        nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
        nn.init.zeros_(layer.bias)
