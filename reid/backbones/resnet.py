"""ResNet-18 to ResNet-152, with or without instance normalisation (IBN-a, IBN-b), cut where the matcher reads.

Sources: He et al., Deep Residual Learning for Image Recognition, CVPR 2016 (torchvision's form: a bottleneck strides
in its 3x3 convolution); Pan et al., Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net,
ECCV 2018. Parameter names are those of torchvision's and IBN-Net's files.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from reid.backbones._base import Backbone
from reid.backbones._ibn import Ibn, residual_block
from reid.backbones._weights import RECORDS, STATISTICS, PretrainedConfig, load_pretrained, normalization_of
from reid.errors import ConfigError, ShapeError
from reid.nn.instance_norm import InstanceNorm
from reid.progress import Progress, Silent

_NUM_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
_LAYERS = ("layer1", "layer2", "layer3", "layer4")
_DEEPEST_IBN = {"none": 0, "a": 16, "b": 8}  # stride of the deepest map that an instance norm sees


class Config(PretrainedConfig):
    """The ``[backbone]`` table of a ResNet."""

    name: Literal["resnet"] = "resnet"
    depth: Literal[18, 34, 50, 101, 152] = Field(50, description="number of layers; 50 is the published TransMatcher's")
    ibn: Ibn = Field(
        "none",
        description="instance norm beside batch norm: 'a' in every block of layers 1 to 3, 'b' after the stem and the "
        "last blocks of layers 1 and 2, the published TransMatcher's. There are no IBN weights for 152",
    )
    cut: Literal["layer2", "layer3", "layer4"] = Field(
        "layer3", description="last layer that is built and run; layer3 (stride 16) is the published TransMatcher's"
    )
    last_stride: Literal[1, 2] = Field(
        2, description="of layer4; 1 keeps its map at stride 16 (strong baselines of re-identification)"
    )
    strides: tuple[int, ...] | None = Field(
        None, description="of the maps to return, the deepest of all among them; None: this one only"
    )

    @property
    def layer_strides(self) -> dict[str, int]:
        """Layer -> stride of its map, of the layers up to the cut."""
        strides = zip(_LAYERS, (4, 8, 16, 16 * self.last_stride), strict=True)
        return dict(list(strides)[: _LAYERS.index(self.cut) + 1])

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.depth == 152 and self.ibn != "none":
            raise ConfigError(f"resnet: wanted depth 18, 34, 50 or 101 with ibn = {self.ibn!r}, found depth = 152.")
        if self.last_stride == 1 and self.cut != "layer4":
            raise ConfigError(f"resnet: last_stride = 1 is layer4's, but cut = {self.cut!r}. Remove one of them.")
        known = set(self.layer_strides.values())
        if self.strides is not None and not {max(known)} <= set(self.strides) <= known:
            raise ConfigError(
                f"resnet: wanted strides out of {sorted(known)}, {max(known)} among them (cut = {self.cut!r}),"
                f" found {list(self.strides)}. Change strides or cut."
            )
        return self


class ResNet(Backbone):
    """ResNet up to a layer, as feature maps.

    Args:
        config: its table.
        progress: where a download of weights reports to.
        pretrained: False leaves the weights random (Kaiming's initialisation), whatever ``config.weights`` says: the
            caller brings its own, such as a checkpoint's. The normalisation is the same either way.

    Attributes:
        config: as given, with ``auto`` normalisation replaced by what it came to.

    Raises:
        ConfigError, WeightsError, StorageError: see :func:`~reid.backbones._weights.load_pretrained`.
    """

    config: Config

    def __init__(self, config: Config, *, progress: Progress | None = None, pretrained: bool = True) -> None:
        imagenet = RECORDS[f"resnet{config.depth}" + (f"_ibn_{config.ibn}" if config.ibn != "none" else "")]
        normalization = normalization_of(config, imagenet)
        super().__init__(*STATISTICS[normalization])
        self.config = config.model_copy(update={"normalization": normalization})
        self.strides = config.strides or (max(config.layer_strides.values()),)
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = InstanceNorm(64) if config.ibn == "b" else nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        for layer in config.layer_strides:
            self.add_module(layer, _layer(config, _LAYERS.index(layer)))
        _initialise(self)
        self.cut_off = (*(f"{layer}." for layer in _LAYERS if layer not in config.layer_strides), "fc.")
        if pretrained:
            load_pretrained(self, config, imagenet=imagenet, ignore=self.cut_off, progress=progress or Silent())

    def feature_maps(self, image_BCHW: Tensor) -> dict[int, Tensor]:
        """Stride -> map; where two layers share a stride, the deeper one's.

        Raises:
            ShapeError: the image is so small that an instance norm would see a single position.
        """
        smallest = min(_DEEPEST_IBN[self.config.ibn], max(self.strides))
        if max(image_BCHW.shape[2:]) <= smallest:
            raise ShapeError(
                f"resnet: wanted images larger than {smallest} pixels for ibn = {self.config.ibn!r},"
                f" found height and width {tuple(image_BCHW.shape[2:])}."
            )
        map_BCHW = self.maxpool(self.relu(self.bn1(self.conv1(image_BCHW))))
        maps = {}
        for layer, stride in self.config.layer_strides.items():
            map_BCHW = self.get_submodule(layer)(map_BCHW)
            maps[stride] = map_BCHW
        return {stride: maps[stride] for stride in self.strides}


def _layer(config: Config, layer_idx: int) -> nn.Sequential:
    """Blocks of layer ``layer_idx`` + 1; the first one strides and changes the number of channels."""
    is_bottleneck = config.depth >= 50
    planes = 64 * 2**layer_idx
    out_channels = planes * (4 if is_bottleneck else 1)
    in_channels = 64 if layer_idx == 0 else out_channels // 2
    stride = (1, 2, 2, config.last_stride)[layer_idx]
    num_blocks = _NUM_BLOCKS[config.depth][layer_idx]
    blocks = []
    for block_idx in range(num_blocks):
        is_last = block_idx == num_blocks - 1
        has_ibn = (config.ibn == "a" and layer_idx < 3) or (config.ibn == "b" and layer_idx < 2 and is_last)
        ibn = config.ibn if has_ibn else "none"
        blocks.append(residual_block(in_channels, planes, is_bottleneck=is_bottleneck, stride=stride, ibn=ibn))
        in_channels, stride = out_channels, 1
    return nn.Sequential(*blocks)


def _initialise(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")


COMPONENT = ResNet
