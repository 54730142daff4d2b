"""Instance norm that leaves maps in the memory order they come in.

Source: Ulyanov et al., Instance Normalization: The Missing Ingredient for Fast Stylization, 2016.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class InstanceNorm(nn.InstanceNorm2d):
    """Instance norm with weights and without running statistics, over each channel of each map.

    torch's own turns a channels-last map into a channels-first one, and all that follows up to the next convolution
    works on that order: on a CPU, max pooling then takes four times as long.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__(num_channels, affine=True)

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """Normalise [B, C, H, W] to the same shape, dtype and memory order."""
        out_BCHW: Tensor = super().forward(map_BCHW)
        channels_last = map_BCHW.is_contiguous(memory_format=torch.channels_last)
        return out_BCHW.contiguous(memory_format=torch.channels_last) if channels_last else out_BCHW
