"""Feature map to vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reid.nn.dtype import at_least_float32


class AveragePooling(nn.Module):
    """Mean over all positions: [B, C, H, W] to [B, C]."""

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """Pool a map."""
        return map_BCHW.mean((2, 3))


class GemPooling(nn.Module):
    """Generalised mean over all positions, ``mean(max(x, floor)^p)^(1/p)`` with one learned p: [B, C, H, W] to [B, C].

    p = 1 is the mean of the positive part, a large p the maximum. Computed in at least float32: powers overflow
    half precision.

    Source: Radenovic, Tolias and Chum, TPAMI 2019, eq. 3; start p = 3 as there.
    """

    FLOOR = 1e-6  # the gradient of x^p needs x > 0

    def __init__(self, power: float = 3.0) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor(power))

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """Pool a map."""
        with torch.autocast(map_BCHW.device.type, enabled=False):
            positive_BCHW = at_least_float32(map_BCHW).clamp(min=self.FLOOR)
            power = self.power.to(positive_BCHW.dtype)
            return positive_BCHW.pow(power).mean((2, 3)).pow(1.0 / power)
