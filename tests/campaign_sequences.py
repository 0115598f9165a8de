"""Small models of sequences, as (model, inputs, logits); and what all small models share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from minesweep.compat import import_torchvision

CLASSES, WIDTH, TIME = 5, 12, 7
Made = tuple[nn.Module, Callable[[int, torch.Generator], Any]] | tuple[Any, ...]


def vectors(n: int, draws: torch.Generator) -> Tensor:
    return torch.randn(n, WIDTH, generator=draws, dtype=torch.float64)


def sequences(n: int, draws: torch.Generator) -> Tensor:
    return torch.randn(n, TIME, WIDTH, generator=draws, dtype=torch.float64)


def pictures(n: int, draws: torch.Generator) -> Tensor:
    return torch.randn(n, 3, 16, 16, generator=draws, dtype=torch.float64)


def tokens(n: int, draws: torch.Generator) -> dict[str, Tensor]:
    """Sentences of several lengths, padded with 0."""
    ids = torch.randint(2, 50, (n, TIME), generator=draws)
    lengths = torch.randint(2, TIME + 1, (n,), generator=draws)
    mask = (torch.arange(TIME) < lengths[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


class Function(nn.Module):
    """Layers, and a function of them and of the input."""

    def __init__(self, forward: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.layers, self.function = nn.ModuleDict(layers), forward

    def forward(self, *inputs: Any, **more: Any) -> Any:
        return self.function(self.layers, *inputs, **more)


def block(width: int = WIDTH, *, dropout: float = 0.0) -> nn.Module:
    return nn.Sequential(
        nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
    )


def head(width: int = WIDTH) -> nn.Module:
    return nn.Linear(width, CLASSES)


# --- recurrent ------------------------------------------------------------------------------------


def recurrent(kind: type[nn.RNNBase], **settings: Any) -> Made:
    net = kind(WIDTH, 8, batch_first=True, **settings)
    width = 8 * (2 if settings.get("bidirectional") else 1)
    return Function(lambda m, x: m.head(m.net(x)[0][:, -1]), net=net, head=head(width)), sequences


def cells() -> Made:
    def forward(m: Any, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 8)
        for moment in x.unbind(1):
            state = m.cell(moment, state)
        return m.head(state)

    return Function(forward, cell=nn.GRUCell(WIDTH, 8), head=head(8)), sequences


def packed() -> Made:
    def forward(m: Any, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        lengths = attention_mask.sum(1).cpu()
        pack = nn.utils.rnn.pack_padded_sequence(
            m.embed(input_ids), lengths, batch_first=True, enforce_sorted=False
        )
        return m.head(m.net(pack)[1][0][-1])

    layers = {"embed": nn.Embedding(50, WIDTH), "net": nn.LSTM(WIDTH, 8, batch_first=True)}
    return Function(forward, **layers, head=head(8)), tokens


# --- attention ------------------------------------------------------------------------------------


def encoder(**settings: Any) -> Made:
    layer = nn.TransformerEncoderLayer(WIDTH, 3, 16, batch_first=True, **settings)

    def forward(m: Any, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = m.net(m.embed(input_ids), src_key_padding_mask=attention_mask == 0)
        return m.head((hidden * attention_mask[..., None]).sum(1) / attention_mask.sum(1)[:, None])

    net = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return Function(forward, embed=nn.Embedding(50, WIDTH), net=net, head=head()), tokens


def decoder() -> Made:
    def forward(m: Any, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(TIME, dtype=x.dtype)
        return m.head(m.net(x, x.flip(1), tgt_mask=mask).mean(1))

    net = nn.TransformerDecoderLayer(WIDTH, 3, 16, batch_first=True)
    return Function(forward, net=net, head=head()), sequences


def time_first() -> Made:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        return m.head(m.net(x, x, x, need_weights=True)[0].mean(0))

    return Function(forward, net=nn.MultiheadAttention(WIDTH, 3), head=head()), sequences


def hugging(config: str, model: str, **settings: Any) -> Callable[[], Made]:
    """Of the package transformers, random, with dropout, masks and padding."""

    def make() -> Made:
        import_torchvision()
        import transformers

        chosen = {"vocab_size": 50, "num_labels": CLASSES, "pad_token_id": 0, **settings}
        net = getattr(transformers, model)(getattr(transformers, config)(**chosen))
        return net, tokens, lambda outputs: outputs.logits

    return make


TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
}
