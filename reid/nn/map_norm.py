"""Feature maps, centred."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from reid.nn.dtype import at_least_float32

_MOMENTUM = 0.1
_EPS = 1e-5


class MapNorm(nn.Module):
    """Maps without their mean over images, all entries divided by one number: [B, C, H, W] to the same.

    The mean of each channel at each position, and the variance around it of all entries together: of the batch in
    training mode, running ones in eval mode. It learns nothing else. Scaling each entry by itself would lift the many
    in which images hardly differ to the level of those that tell people apart; matchers then learn the training people
    as well and others worse.

    Args:
        shape: (C, H, W) of the maps.
    """

    mean_CHW: Tensor
    variance: Tensor

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.register_buffer("mean_CHW", torch.zeros(shape))
        self.register_buffer("variance", torch.ones(()))

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """Centred maps, at least float32."""
        map_BCHW = at_least_float32(map_BCHW)
        mean_CHW, variance = self.mean_CHW, self.variance
        if self.training:
            variance_CHW, mean_CHW = torch.var_mean(map_BCHW, dim=0, correction=0)
            variance = variance_CHW.mean()
            with torch.no_grad():
                self.mean_CHW.lerp_(mean_CHW, _MOMENTUM)
                self.variance.lerp_(variance, _MOMENTUM)
        return (map_BCHW - mean_CHW) / (variance + _EPS).sqrt()


class MapNorms(nn.ModuleDict):
    """One :class:`MapNorm` for each map that is read.

    Args:
        shapes: stride -> (C, H, W).
    """

    def __init__(self, shapes: Mapping[int, tuple[int, int, int]]) -> None:
        super().__init__({str(stride): MapNorm(shape) for stride, shape in shapes.items()})

    def forward(self, maps: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """The maps that are read, centred, by stride."""
        return {int(stride): norm(maps[int(stride)]) for stride, norm in self.items()}
