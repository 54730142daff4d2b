"""Feature maps, standardised."""

from __future__ import annotations

from torch import Tensor, nn

from reid.nn.dtype import at_least_float32


class MapNorm(nn.BatchNorm1d):
    """Each entry of a map, at its channel and position, centred and scaled over images: [B, C, H, W] to the same.

    For a frozen backbone whose cells differ far more between places of an image than between people: what a layer then
    sees first is where a cell lies, which is the same for all images. Batch statistics in training mode, running ones
    in eval mode; it learns nothing else.

    Args:
        shape: (C, H, W) of the maps.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        channels, height, width = shape
        super().__init__(channels * height * width, affine=False)

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """Standardised maps, at least float32."""
        return super().forward(at_least_float32(map_BCHW).flatten(1)).view(map_BCHW.shape)
