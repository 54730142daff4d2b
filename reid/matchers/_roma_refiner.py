"""RoMa's warp refiners: a small convolutional network at each of the finer strides."""

from __future__ import annotations

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from reid.config import Config
from reid.matchers._dense import DenseStep, local_correlation, sample
from reid.nn.dtype import at_least_float32

DELTA_STRIDES = 1 / 8
"""What an output of 1 moves a match by, in cells; as published."""


class RefinerConfig(Config):
    """One table for each stride, coarse to fine."""

    stride: PositiveInt = Field(description="1, 2, 4 or 8, or the coarse map's; pixels")
    dim: PositiveInt = Field(description="channels its features are projected to; at the coarse stride, matcher.dim")
    displacement: PositiveInt = Field(16, description="channels of the displacement's embedding")
    radius: NonNegativeInt = Field(2, description="cells, of the window of local correlation; 0: no correlation")
    num_blocks: PositiveInt = Field(3, description="convolutions, depth-wise 5 x 5 and 1 x 1, of all channels together")

    @property
    def num_channels(self) -> int:
        """Of each of its convolutions."""
        window = (2 * self.radius + 1) ** 2 if self.radius else 0
        return 2 * self.dim + self.displacement + window


class Refiner(nn.Module):
    """Correct a warp and its certainty.

    Each cell sees ``[phi_A ; phi_B where it lies ; embedding of how far that is ; local correlation around it]``.
    Blocks of depth-wise convolution, batch norm, ReLU and 1 x 1 convolution give a shift, and what is added to the
    certainty's logit.

    Args:
        config: see :class:`RefinerConfig`.
        unit_px: displacement, in pixels, that is 1 to the embedding.

    Source: RoMa, CVPR 2024, and its released code (MIT), after DKM, CVPR 2023. Differs: displacements in units of the
    coarse stride, not of 16 coarse cells, because a person's crop is only a few cells wide; batch norms follow their
    statistics at torch's pace, 0.1 a step, not 0.01, which suits 250,000 steps.
    """

    def __init__(self, config: RefinerConfig, unit_px: int) -> None:
        super().__init__()
        self.stride = config.stride
        self.radius = config.radius
        self.unit_px = unit_px
        channels = config.num_channels
        self.displacement = nn.Conv2d(2, config.displacement, 1)
        self.blocks = nn.Sequential(*(_block(channels) for _ in range(config.num_blocks)))
        self.out = nn.Conv2d(channels, 3, 1)

    def forward(self, own_NCHW: Tensor, other_NCHW: Tensor, start: DenseStep) -> DenseStep:
        """Refine.

        Args:
            own_NCHW: features of the cells, at least float32.
            other_NCHW: of the image where they lie.
            start: the warp to correct, on the same grid, without gradient.
        """
        shift_N3HW = self.out(self.blocks(self.inputs(own_NCHW, other_NCHW, start)))
        shift_N3HW = at_least_float32(shift_N3HW)
        delta_NHW2 = shift_N3HW[:, :2].permute(0, 2, 3, 1) * (self.stride * DELTA_STRIDES)
        certainty_NHW = start.certainty_NHW + shift_N3HW[:, 2]
        return DenseStep(self.stride, start.warp_NHW2 + delta_NHW2, certainty_NHW, start.warp_NHW2)

    def inputs(self, own_NCHW: Tensor, other_NCHW: Tensor, start: DenseStep) -> Tensor:
        """What each cell sees, [N, channels, H, W]."""
        there_NCHW = sample(other_NCHW, start.warp_NHW2, self.stride)
        far_N2HW = (start.warp_NHW2 - start.centres).permute(0, 3, 1, 2) / self.unit_px
        seen = [own_NCHW, there_NCHW, self.displacement(far_N2HW)]
        if self.radius:
            with torch.autocast(own_NCHW.device.type, enabled=False):
                seen.append(local_correlation(own_NCHW, other_NCHW, start, self.radius))
        return torch.cat([part.to(own_NCHW.dtype) for part in seen], dim=1)


def _block(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 5, padding=2, groups=channels),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 1),
    )
