"""MobileNetV2 (width 1.0), the backbone for machines without a GPU, cut where the matcher reads.

Source: Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018. Layers and parameter names
are torchvision's.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from reid.backbones._base import Backbone
from reid.backbones._weights import RECORDS, STATISTICS, PretrainedConfig, load_pretrained, normalization_of
from reid.errors import ConfigError
from reid.progress import Progress, Silent
from reid.vision import models

_LAST_BLOCK = {4: 3, 8: 6, 16: 13, 32: 17}  # stride -> the last of torchvision's blocks with it
_NUM_BLOCKS = 19  # with the final 1x1 convolution to 1280 channels, which is never built


class Config(PretrainedConfig):
    """The ``[backbone]`` table of a MobileNetV2."""

    name: Literal["mobilenet"] = "mobilenet"
    strides: tuple[int, ...] = Field(
        (16,),
        description="of the maps to return: 4 (24 channels), 8 (32), 16 (96; the published matchers' stride), 32 (320, "
        "before the final 1x1 convolution). Blocks behind the deepest one are not built",
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        if not self.strides or not set(self.strides) <= set(_LAST_BLOCK):
            raise ConfigError(f"mobilenet: wanted strides out of {list(_LAST_BLOCK)}, found {list(self.strides)}.")
        return self


class MobileNet(Backbone):
    """MobileNetV2 up to a stride, as feature maps.

    Args:
        config: its table.
        progress: where a download of weights reports to.
        pretrained: False leaves the weights random (torchvision's initialisation), whatever ``config.weights`` says:
            the caller brings its own, such as a checkpoint's. The normalisation is the same either way.

    Attributes:
        config: as given, with ``auto`` normalisation replaced by what it came to.

    Raises:
        ConfigError, WeightsError, StorageError: see :func:`~reid.backbones._weights.load_pretrained`.
    """

    config: Config

    def __init__(self, config: Config, *, progress: Progress | None = None, pretrained: bool = True) -> None:
        imagenet = RECORDS["mobilenet_v2"]
        normalization = normalization_of(config, imagenet)
        super().__init__(*STATISTICS[normalization])
        self.config = config.model_copy(update={"normalization": normalization})
        self.strides = config.strides
        num_blocks = _LAST_BLOCK[max(config.strides)] + 1
        self.features = nn.Sequential(*list(models.mobilenetv2.MobileNetV2().features.children())[:num_blocks])
        self.cut_off = (*(f"features.{block_idx}." for block_idx in range(num_blocks, _NUM_BLOCKS)), "classifier.")
        if pretrained:
            load_pretrained(self, config, imagenet=imagenet, ignore=self.cut_off, progress=progress or Silent())

    def feature_maps(self, image_BCHW: Tensor) -> dict[int, Tensor]:
        """Stride -> map, taken behind the last block of that stride."""
        stride_at = {_LAST_BLOCK[stride]: stride for stride in self.strides}
        map_BCHW = image_BCHW
        maps = {}
        for block_idx, block in enumerate(self.features):
            map_BCHW = block(map_BCHW)
            if block_idx in stride_at:
                maps[stride_at[block_idx]] = map_BCHW
        return maps


COMPONENT = MobileNet
