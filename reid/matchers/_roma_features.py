"""RoMa's fine features: a small network of its own on the pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

FINE_STRIDES = (1, 2, 4, 8)
"""Of the maps a VGG network has before each of its first four poolings."""


class FineFeatures(nn.Module):
    """A VGG-style network on the pixels; its maps before each pooling, projected.

    Args:
        channels: of the maps of stride 1, 2, 4 and 8.
        num_convs: 3 x 3 convolutions, each with batch norm and ReLU, at each of these strides.
        dims: stride -> channels after the projection, of the maps that are wanted; at least one.

    Source: Simonyan and Zisserman, ICLR 2015, with batch norm, as RoMa uses it. Differs: trained from scratch.
    """

    def __init__(self, channels: Sequence[int], num_convs: Sequence[int], dims: Mapping[int, int]) -> None:
        super().__init__()
        before = (3, *channels)
        self.levels = nn.ModuleDict(
            {
                str(stride): _level(before[n], channels[n], num_convs[n])
                for n, stride in enumerate(FINE_STRIDES)
                if stride <= max(dims)
            }
        )
        self.project = nn.ModuleDict(
            {str(stride): projection(channels[FINE_STRIDES.index(stride)], dim) for stride, dim in dims.items()}
        )
        self.pool = nn.MaxPool2d(2)

    def forward(self, image_BCHW: Tensor) -> dict[int, Tensor]:
        """Compute the maps.

        Args:
            image_BCHW: RGB in [0, 1], [B, 3, H, W]; H and W multiples of the strides.

        Returns:
            stride -> [B, dim, H / stride, W / stride], in the order of ``dims``.
        """
        maps = {}
        x_BCHW = 2 * image_BCHW - 1
        for stride, level in self.levels.items():
            x_BCHW = level(x_BCHW if stride == "1" else self.pool(x_BCHW))
            maps[stride] = x_BCHW
        return {int(stride): project(maps[stride]) for stride, project in self.project.items()}


def projection(channels: int, dim: int) -> nn.Sequential:
    """1 x 1 convolution and batch norm, which RoMa puts before every comparison."""
    return nn.Sequential(nn.Conv2d(channels, dim, 1), nn.BatchNorm2d(dim))


def _level(before: int, channels: int, num_convs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n in range(num_convs):
        layers += [nn.Conv2d(channels if n else before, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*layers)
