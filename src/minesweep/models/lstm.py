"""An LSTM over packed sentences whose backward pass is written out, for the CPU."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import PackedSequence


class PackedLSTM(nn.LSTM):
    """``nn.LSTM`` of one layer and one direction: same parameters, same outputs, faster on a CPU.

    There torch goes back through each step's small operations one by one. Here what does not
    depend on the steps' order is one operation over all tokens, the gradients of the weights
    among it; ``benchmarks/`` has the numbers. On other devices torch's own kernels run.

    Args:
        input_size: Of a token's vector.
        hidden_size: Of the output.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)

    def outputs(self, tokens: PackedSequence) -> Tensor:
        """``[total, hidden_size]`` outputs of all tokens, packed as ``tokens.data`` is."""
        if tokens.data.device.type != "cpu":
            return self(tokens)[0].data
        w_in, w_hidden, b_in, b_hidden = (weight for _, weight in self.named_parameters())
        sizes = tokens.batch_sizes.tolist()
        return _Steps.apply(tokens.data, w_in, w_hidden, b_in + b_hidden, sizes)


class _Steps(torch.autograd.Function):
    """Hochreiter and Schmidhuber 1997 with a forget gate; gates in torch's order i, f, g, o."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w_in: Tensor, w_hidden: Tensor, bias: Tensor, sizes: list[int]
    ) -> Tensor:
        hidden = w_hidden.shape[1]
        gates = torch.addmm(bias.to(x.dtype), x, w_in.T)
        outputs, cells = x.new_empty(len(x), hidden), x.new_empty(len(x), hidden)
        h = c = x.new_zeros(sizes[0], hidden)
        for start, size in zip(accumulate(sizes, initial=0), sizes, strict=False):
            step = slice(start, start + size)
            if start:
                gates[step].addmm_(h[:size], w_hidden.T)
            gates[step, : 2 * hidden].sigmoid_()
            gates[step, 2 * hidden : 3 * hidden].tanh_()
            gates[step, 3 * hidden :].sigmoid_()
            i, f, g, o = gates[step].chunk(4, 1)
            c = torch.mul(f, c[:size], out=cells[step]).addcmul_(i, g)
            h = torch.tanh(c, out=outputs[step]).mul_(o)
        ctx.save_for_backward(x, w_in, w_hidden, gates, outputs, cells)
        ctx.sizes = sizes
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor) -> tuple[Tensor | None, ...]:
        x, w_in, w_hidden, gates, outputs, cells = ctx.saved_tensors
        hidden, sizes = w_hidden.shape[1], ctx.sizes
        starts = list(accumulate(sizes, initial=0))
        i, f, g, o = gates.chunk(4, 1)
        h_before, c_before = _step_before(outputs, sizes), _step_before(cells, sizes)
        tanh_c = cells.tanh()
        c_of_h = o * (1 - tanh_c * tanh_c)  # d h / d c
        # d (c or h) / d (what goes into each gate); below, times d loss / d (c or h), in place.
        d_gates = torch.cat(
            [g * i * (1 - i), c_before * f * (1 - f), i * (1 - g * g), tanh_c * o * (1 - o)], 1
        )
        d_h, d_c = x.new_zeros(sizes[0], hidden), x.new_zeros(sizes[0], hidden)
        for start, size in zip(reversed(starts[:-1]), reversed(sizes), strict=True):
            step = slice(start, start + size)
            # Sentences that end at this step have no later one: their rows still hold zeros.
            dh, dc = d_h[:size], d_c[:size]
            dh += d_outputs[step]
            dc.addcmul_(dh, c_of_h[step])
            parts = d_gates[step].view(size, 4, hidden)
            parts[:, :3] *= dc[:, None]
            parts[:, 3] *= dh
            dc *= f[step]
            torch.mm(d_gates[step], w_hidden, out=dh)
        d_x = d_gates @ w_in if ctx.needs_input_grad[0] else None
        return d_x, d_gates.T @ x, d_gates.T @ h_before, d_gates.sum(0), None


def _step_before(packed: Tensor, sizes: list[int]) -> Tensor:
    """For each token, the row of ``packed`` of the token before it; zeros for first tokens."""
    before = torch.zeros_like(packed)
    start = 0
    for size, following in pairwise(sizes):
        there = start + size
        before[there : there + following] = packed[start : start + following]
        start = there
    return before
