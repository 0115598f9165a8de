"""A multilayer perceptron whose outputs are embeddings."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from minesweep.models.mlp import MLP


class EmbeddingMLP(nn.Module):
    """Flatten, linear layers with an activation between them, and a linear output of ``dim``.

    With the defaults the network of yuhongsun96/Hard-Negative-Mining-with-LSH-KNN,
    ``code/train.py``: D-100-50-25-10-3 with ReLU, its outputs not normalised.

    Args:
        widths: Units of each hidden layer.
        dim: Of an embedding.
        activation: ``sigmoid``, ``relu``, ``tanh``, ``gelu`` or ``silu``.
        init: ``default`` or ``truncated_normal``, see :class:`~minesweep.models.mlp.MLP`.
        projection: Outputs of a linear projection head behind the embedding; None for no head.
            Loss and mining see the projection, while retrieval and pictures take the embedding
            before it (:meth:`embed`), as in SimCLR (arXiv 2002.05709, section 4.2).
        normalize: Whether outputs and embeddings have unit length.
        input_shape: Shape of one example, e.g. ``(1, 28, 28)``.
        num_classes: Not looked at.

    Raises:
        UserError: An unknown word, or a width below 1.

    Maps ``[n, *input_shape]`` to ``[n, projection or dim]``.
    """

    def __init__(
        self,
        widths: Sequence[int] = (100, 50, 25, 10),
        dim: int = 3,
        activation: str = "relu",
        init: str = "default",
        projection: int | None = None,
        normalize: bool = False,
        *,
        input_shape: Sequence[int],
        num_classes: int,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.body = MLP(widths, activation, init, input_shape=input_shape, num_classes=dim)
        self.head = nn.Identity() if projection is None else nn.Linear(dim, projection)

    def forward(self, inputs: Tensor) -> Tensor:
        return self._scaled(self.head(self.body(inputs)))

    def embed(self, inputs: Tensor) -> Tensor:
        """``[n, dim]`` embeddings, before the projection head."""
        return self._scaled(self.body(inputs))

    def _scaled(self, vectors: Tensor) -> Tensor:
        return functional.normalize(vectors, dim=1) if self.normalize else vectors
