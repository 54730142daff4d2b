"""Self-attention over the positions of one feature map."""

from __future__ import annotations

import copy
from typing import Literal

from torch import Tensor, nn

Init = Literal["released", "independent"]
"""released: every layer starts as a copy of the first, as in the TransMatcher code. independent: its own draw each."""


class EncoderStack(nn.Module):
    """Transformer encoder layers of which every output is wanted, not only the last.

    Each layer is post-norm with one head, ReLU, layer norm epsilon 1e-5 and no dropout; there is no positional
    embedding and no final norm.

    Args:
        num_layers: number of layers; 0 is allowed and gives no outputs.
        dim: channels, D.
        feedforward: hidden units of each layer's perceptron.
        init: see :data:`Init`.

    Source: Vaswani et al., NIPS 2017, as used by TransMatcher (Liao and Shao, NeurIPS 2021) and its released code.
    """

    def __init__(self, num_layers: int, dim: int, feedforward: int, *, init: Init) -> None:
        super().__init__()

        def fresh() -> nn.TransformerEncoderLayer:
            return nn.TransformerEncoderLayer(dim, nhead=1, dim_feedforward=feedforward, dropout=0.0, batch_first=True)

        first = fresh()
        others = (copy.deepcopy(first) if init == "released" else fresh() for _ in range(num_layers - 1))
        self.layers = nn.ModuleList([first, *others][:num_layers])

    def forward(self, tokens_BSD: Tensor) -> list[Tensor]:
        """Outputs of the first to the last layer, [B, S, D] each."""
        outputs: list[Tensor] = []
        for layer in self.layers:
            tokens_BSD = layer(tokens_BSD)
            outputs.append(tokens_BSD)
        return outputs
