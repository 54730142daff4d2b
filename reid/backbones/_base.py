"""What every backbone offers: images in, feature maps by stride out."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from reid.config import Config
from reid.errors import ShapeError
from reid.types import FeatureSpec


class BackboneConfig(Config):
    """Base of the backbones' tables."""


class Backbone(nn.Module, ABC):
    """Images to feature maps. A child implements :meth:`feature_maps` and sets :attr:`strides`.

    Normalisation belongs to the weights (mean and standard deviation, or none) and happens here, so that
    everything outside deals with RGB in [0, 1].

    Args:
        mean, std: per channel, of images in [0, 1]; None: the weights were made without normalisation.

    Attributes:
        config: its table.
        strides: of the maps it returns.
        cut_off: key prefixes of layers that files of the full network have, and this one was built without.
    """

    config: BackboneConfig
    strides: tuple[int, ...]
    cut_off: tuple[str, ...] = ()
    mean: Tensor | None
    std: Tensor | None

    def __init__(self, mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None) -> None:
        super().__init__()
        self.register_buffer("mean", _channels(mean), persistent=False)
        self.register_buffer("std", _channels(std), persistent=False)

    def forward(self, image_BCHW: Tensor) -> dict[int, Tensor]:
        """Compute feature maps.

        Args:
            image_BCHW: RGB in [0, 1], [B, 3, H, W], float.

        Returns:
            stride -> feature map, [B, C, ceil(H / stride), ceil(W / stride)], for each of :attr:`strides`.

        Raises:
            ShapeError: the images are not [B, 3, H, W] or not of a floating-point type.
        """
        if image_BCHW.ndim != 4 or image_BCHW.shape[1] != 3 or not image_BCHW.is_floating_point():
            raise ShapeError(
                "backbone: wanted images [B, 3, H, W], floating-point in [0, 1],"
                f" found {list(image_BCHW.shape)}, {image_BCHW.dtype}."
            )
        if self.mean is not None and self.std is not None:
            image_BCHW = (image_BCHW - self.mean) / self.std
        return self.feature_maps(image_BCHW)

    @abstractmethod
    def feature_maps(self, image_BCHW: Tensor) -> dict[int, Tensor]:
        """The same on a normalised image."""

    def spec(self, image_size: tuple[int, int]) -> FeatureSpec:
        """Shapes of the maps for images of ``image_size`` (height, width), measured on one blank image."""
        training = self.training
        parameter = next(self.parameters())
        self.eval()
        with torch.no_grad():
            maps = self.feature_maps(torch.zeros(1, 3, *image_size, device=parameter.device, dtype=parameter.dtype))
        self.train(training)
        return FeatureSpec(image_size, {stride: (m.shape[1], m.shape[2], m.shape[3]) for stride, m in maps.items()})


def _channels(values: tuple[float, ...] | None) -> Tensor | None:
    return None if values is None else torch.tensor(values).reshape(1, -1, 1, 1)
