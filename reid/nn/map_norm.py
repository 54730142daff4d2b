"""Feature maps, standardised."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from reid.nn.dtype import at_least_float32


class MapNorm(nn.BatchNorm1d):
    """Each entry of a map, at its channel and position, centred and scaled over images: [B, C, H, W] to the same.

    Batch statistics in training mode, running ones in eval mode; it learns nothing else.

    Args:
        shape: (C, H, W) of the maps.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        channels, height, width = shape
        super().__init__(channels * height * width, affine=False)

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """Standardised maps, at least float32."""
        return super().forward(at_least_float32(map_BCHW).flatten(1)).view(map_BCHW.shape)


class MapNorms(nn.ModuleDict):
    """One :class:`MapNorm` for each map that is read.

    Args:
        shapes: stride -> (C, H, W).
    """

    def __init__(self, shapes: Mapping[int, tuple[int, int, int]]) -> None:
        super().__init__({str(stride): MapNorm(shape) for stride, shape in shapes.items()})

    def forward(self, maps: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """The maps that are read, standardised, by stride."""
        return {int(stride): norm(maps[int(stride)]) for stride, norm in self.items()}
