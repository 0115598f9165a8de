"""Small models of every kind that people build, as (model, inputs, logits)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from campaign_sequences import (
    CLASSES,
    TIME,
    TINY,
    WIDTH,
    Function,
    Made,
    block,
    cells,
    decoder,
    encoder,
    head,
    hugging,
    packed,
    pictures,
    recurrent,
    sequences,
    time_first,
    tokens,
    vectors,
)
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

# --- the batch reshaped, memory written to, chance, hooks -----------------------------------------


def transposed() -> Made:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.head(m.net(x.t().contiguous().t()).t().reshape(WIDTH, -1).t())

    return Function(forward, net=nn.Linear(WIDTH, WIDTH), head=head()), vectors


def moments_as_rows() -> Made:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.head(m.net(x.reshape(-1, WIDTH)).view(len(x), TIME, WIDTH).amax(1))

    return Function(forward, net=block(), head=head()), sequences


def views_as_batches() -> Made:
    def forward(m: Any, x: Tensor) -> Tensor:
        first, second = m.net(torch.cat([x, x.flip(1)])).chunk(2)
        return m.head(first * second)

    return Function(forward, net=block(), head=head()), vectors


def interleaved() -> Made:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.head(m.net(x.repeat_interleave(3, 0)).view(len(x), 3, -1).mean(1))

    return Function(forward, net=block(), head=head()), vectors


def products() -> Made:
    def forward(m: Any, x: Tensor) -> Tensor:
        hidden = torch.einsum("ntd,nsd->nts", m.net(x), x).softmax(-1)
        return m.head(torch.einsum("nts,nsd->td n".replace(" ", ""), hidden, x).mean(0).t())

    return Function(forward, net=block(), head=head()), sequences


def in_place() -> Made:
    def forward(m: Any, x: Tensor) -> Tensor:
        hidden = m.first(x)
        hidden += 1
        hidden[:, 0] = 0
        hidden = functional.relu(hidden.mul_(0.5), inplace=True)
        return m.head(hidden)

    return Function(forward, first=nn.Linear(WIDTH, WIDTH), head=head()), vectors


def tied() -> Made:
    embed = nn.Embedding(50, WIDTH)

    def forward(m: Any, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = m.net(m.embed(input_ids)) * attention_mask[..., None]
        return functional.linear(hidden, m.embed.weight).mean(1)[:, :CLASSES]

    return Function(forward, embed=embed, net=block()), tokens


def twice_the_same() -> Made:
    def forward(m: Any, x: Tensor) -> Tensor:
        for _ in range(3):
            x = x + m.net(x)
        return m.head(x)

    return Function(forward, net=block(), head=head()), vectors


def checkpointed(reentrant: bool, dropout: float) -> Callable[[], Made]:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.first(x)
        return m.head(checkpoint(m.net, x, use_reentrant=reentrant))

    def make() -> Made:
        layers = {"first": nn.Linear(WIDTH, WIDTH), "net": block(dropout=dropout)}
        return Function(forward, **layers, head=head()), vectors

    return make


def stochastic_depth() -> Made:
    def forward(m: Any, x: Tensor) -> Tensor:
        for name in ("a", "b", "c"):
            keep = torch.empty(len(x), 1, dtype=x.dtype).bernoulli_(0.5)
            x = x + m[name](x) * keep / 0.5
        return m.head(x)

    return Function(forward, a=block(), b=block(), c=block(), head=head()), vectors


def layer_drop() -> Made:
    """Whole layers are left out for all rows at once."""

    def forward(m: Any, x: Tensor) -> Tensor:
        for name in ("a", "b", "c"):
            if torch.rand(()) < 0.5:
                x = x + m[name](x)
        return m.head(x)

    return Function(forward, a=block(), b=block(), c=block(), head=head()), vectors


def gumbel() -> Made:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.head(functional.gumbel_softmax(m.net(x), hard=True) * x)

    return Function(forward, net=block(), head=head()), vectors


def reparameterised() -> Made:
    def forward(m: Any, x: Tensor) -> Tensor:
        mean, spread = m.net(x), m.spread(x)
        return m.head(mean + torch.randn_like(spread) * spread.exp())

    layers = {"net": block(), "spread": nn.Linear(WIDTH, WIDTH)}
    return Function(forward, **layers, head=head()), vectors


def hooked() -> Made:
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), head())
    model[0].register_forward_hook(lambda layer, args, output: output * 2)
    model[2].register_forward_pre_hook(lambda layer, args: (args[0] + 1,))
    model[0].weight.register_hook(lambda gradient: gradient * 3)
    model[2].register_full_backward_hook(lambda layer, inputs, outputs: (inputs[0] * 0.5,))
    return model, vectors


class Reversed(torch.autograd.Function):
    """The gradient turns round, as in domain adaptation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient


def own_derivative() -> Made:
    net = Function(lambda m, x: m.head(Reversed.apply(m.net(x))), net=block(), head=head())
    return net, vectors


def experts() -> Made:
    """Each row goes through the one of three that its gate chooses."""

    def forward(m: Any, x: Tensor) -> Tensor:
        gates = m.gate(x).softmax(1)
        out = torch.zeros_like(x)
        for number, name in enumerate("abc"):
            rows = (gates.argmax(1) == number).nonzero().squeeze(1)
            out = out.index_add(0, rows, m[name](x[rows]) * gates[rows, number, None])
        return m.head(out)

    layers = {name: block() for name in "abc"}
    return Function(forward, gate=nn.Linear(WIDTH, 3), **layers, head=head()), vectors


def norms(*layers: nn.Module) -> Made:
    convolve = nn.Conv2d(3, 6, 3, padding=1)
    return nn.Sequential(convolve, *layers, nn.Flatten(), nn.Linear(6 * 256, CLASSES)), pictures


def weight_norm() -> Made:
    first = nn.utils.parametrizations.weight_norm(nn.Linear(WIDTH, WIDTH))
    return nn.Sequential(first, nn.Tanh(), head()), vectors


def spectral_norm() -> Made:
    first = nn.utils.parametrizations.spectral_norm(nn.Linear(WIDTH, WIDTH))
    return nn.Sequential(first, nn.Tanh(), head()), vectors


def sized(width: int) -> Callable[[], Made]:
    """A width of n, of k, or of k + 1."""

    def make() -> Made:
        layers = [nn.Linear(WIDTH, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(width, CLASSES)), vectors

    return make


def gram(m: Any, x: Tensor) -> Tensor:
    """Of each sequence of n moments with itself: three dimensions of one size."""
    return m.head(m.net(x @ x.transpose(1, 2)).flatten(1))


def gram_of_n() -> Made:
    def inputs(n: int, draws: torch.Generator) -> Tensor:
        return torch.randn(n, 6, 6, generator=draws, dtype=torch.float64)

    return Function(gram, net=nn.Linear(6, 6), head=nn.Linear(36, CLASSES)), inputs


def grouped() -> Made:
    layers = [nn.Conv2d(3, 6, 3, groups=3), nn.ReLU(), nn.ConvTranspose2d(6, 3, 3), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(768, CLASSES)), pictures


def images_as_channels() -> Made:
    """Kernels of each row's own, by one grouped convolution over all rows."""

    def forward(m: Any, x: Tensor) -> Tensor:
        n = len(x)
        kernels = m.kernels(x.mean((2, 3))).view(n * 4, 3, 3, 3)
        out = functional.conv2d(x.reshape(1, n * 3, 16, 16), kernels, groups=n, padding=1)
        return m.head(out.view(n, 4, -1).mean(2))

    return Function(forward, kernels=nn.Linear(3, 108), head=head(4)), pictures


def frozen_part() -> Made:
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), head())
    model[0].requires_grad_(False)
    return model, vectors


def batch_mean() -> Made:
    return Function(lambda m, x: m.head(x - x.mean(0)), head=head()), vectors


def batch_attention() -> Made:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.head(x + (m.net(x) @ x.t()).softmax(1) @ x)

    return Function(forward, net=block(), head=head()), vectors


def shut_gate() -> Made:
    model = Function(lambda m, x: m.head(x + m.gate(x.mean(0))), gate=block(), head=head())
    nn.init.zeros_(model.layers["gate"][-1].weight)
    nn.init.zeros_(model.layers["gate"][-1].bias)
    return model, vectors


SMALL: dict[str, Callable[[], Made]] = {
    "rnn": lambda: recurrent(nn.RNN),
    "lstm": lambda: recurrent(nn.LSTM, num_layers=2, dropout=0.2),
    "lstm_bidirectional": lambda: recurrent(nn.LSTM, bidirectional=True),
    "gru": lambda: recurrent(nn.GRU),
    "gru_cells": cells,
    "lstm_packed": packed,
    "encoder_masked": encoder,
    "encoder_norm_first": lambda: encoder(norm_first=True, dropout=0.0),
    "decoder_causal": decoder,
    "attention_time_first": time_first,
    "hf_bert": hugging("BertConfig", "BertForSequenceClassification", **TINY),
    "hf_bert_eager": hugging(
        "BertConfig", "BertForSequenceClassification", **TINY, attn_implementation="eager"
    ),
    "hf_roberta": hugging("RobertaConfig", "RobertaForSequenceClassification", **TINY),
    "hf_electra": hugging(
        "ElectraConfig", "ElectraForSequenceClassification", **TINY, embedding_size=16
    ),
    "hf_albert": hugging(
        "AlbertConfig", "AlbertForSequenceClassification", **TINY, embedding_size=8
    ),
    "hf_distilbert": hugging(
        "DistilBertConfig",
        "DistilBertForSequenceClassification",
        dim=16,
        n_layers=2,
        n_heads=2,
        hidden_dim=24,
    ),
    "hf_deberta": hugging("DebertaV2Config", "DebertaV2ForSequenceClassification", **TINY),
    "hf_gpt2": hugging(
        *("GPT2Config", "GPT2ForSequenceClassification"),
        n_embd=16,
        n_layer=2,
        n_head=2,
        bos_token_id=1,
        eos_token_id=1,
    ),
    "hf_llama": hugging("LlamaConfig", "LlamaForSequenceClassification", **TINY),
    "hf_qwen2": hugging(
        "Qwen2Config", "Qwen2ForSequenceClassification", **TINY, num_key_value_heads=1
    ),
    "hf_fnet": hugging("FNetConfig", "FNetForSequenceClassification", **TINY),
    "hf_mixtral": hugging(
        *("MixtralConfig", "MixtralForSequenceClassification"),
        **{**TINY, "num_key_value_heads": 1, "num_local_experts": 3},
        experts_implementation="eager",
    ),
    "hf_convbert": hugging(
        "ConvBertConfig", "ConvBertForSequenceClassification", **TINY, embedding_size=16
    ),
    "hf_squeezebert": hugging(
        "SqueezeBertConfig",
        "SqueezeBertForSequenceClassification",
        **{**TINY, "embedding_size": 16},
        **{f"{part}_groups": 2 for part in ("q", "k", "v", "intermediate", "output")},
    ),
    "hf_xlnet": hugging(
        "XLNetConfig", "XLNetForSequenceClassification", d_model=16, n_layer=2, n_head=2, d_inner=24
    ),
    "transposed": transposed,
    "moments_as_rows": moments_as_rows,
    "views_as_batches": views_as_batches,
    "interleaved": interleaved,
    "products": products,
    "in_place": in_place,
    "tied": tied,
    "layer_used_three_times": twice_the_same,
    "checkpoint": checkpointed(False, 0.0),
    "checkpoint_dropout": checkpointed(False, 0.3),
    "checkpoint_reentrant": checkpointed(True, 0.0),
    "checkpoint_reentrant_dropout": checkpointed(True, 0.3),
    "stochastic_depth": stochastic_depth,
    "layer_drop": layer_drop,
    "gumbel": gumbel,
    "reparameterised": reparameterised,
    "hooks": hooked,
    "own_derivative": own_derivative,
    "experts": experts,
    "batchnorm": lambda: norms(nn.BatchNorm2d(6), nn.ReLU()),
    "batchnorm_1d": lambda: (
        nn.Sequential(nn.Linear(WIDTH, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES)),
        vectors,
    ),
    "groupnorm": lambda: norms(nn.GroupNorm(2, 6), nn.ReLU()),
    "instancenorm": lambda: norms(nn.InstanceNorm2d(6, affine=True), nn.ReLU()),
    "instancenorm_tracking": lambda: norms(nn.InstanceNorm2d(6, track_running_stats=True)),
    "local_response_norm": lambda: norms(nn.LocalResponseNorm(3)),
    "weight_norm": weight_norm,
    "spectral_norm": spectral_norm,
    "width_of_n": sized(6),
    "width_of_k": sized(2),
    "width_of_k_and_one": sized(3),
    "width_of_one": sized(1),
    "gram_of_n": gram_of_n,
    "convolutions_grouped": grouped,
    "kernels_of_each_row": images_as_channels,
    "frozen_part": frozen_part,
    "batch_mean": batch_mean,
    "batch_attention": batch_attention,
    "shut_gate": shut_gate,
}
