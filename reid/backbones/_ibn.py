"""Residual blocks with or without instance normalisation: plain, IBN-a and IBN-b.

Instance norm removes what is particular to one image's style (light, colour, contrast), which helps on domains
never seen in training. It has no running statistics, so it acts in the same way in training and evaluation.

Source: Pan et al., Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net, ECCV 2018. Module names
are those of the released weights.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from reid.nn.instance_norm import InstanceNorm
from reid.vision import models

BasicBlock = models.resnet.BasicBlock
Bottleneck = models.resnet.Bottleneck
Ibn = Literal["none", "a", "b"]


def residual_block(
    in_channels: int, planes: int, *, is_bottleneck: bool, stride: int = 1, ibn: Ibn = "none"
) -> BasicBlock | Bottleneck:
    """Build one block; its shortcut has a 1x1 convolution where stride or number of channels change.

    Args:
        in_channels: of the incoming map.
        planes: channels inside the block; outside they are 4 times as many in a bottleneck.
        is_bottleneck: three convolutions instead of two.
        stride: of the outgoing map relative to the incoming one.
        ibn: ``a`` puts instance norm on half of the first convolution's channels, ``b`` on the residual sum.
    """
    plain, summed = (Bottleneck, BottleneckIBNb) if is_bottleneck else (BasicBlock, BasicBlockIBNb)
    out_channels = planes * plain.expansion
    shortcut = None
    if stride != 1 or in_channels != out_channels:
        conv = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
        shortcut = nn.Sequential(conv, nn.BatchNorm2d(out_channels))
    block = (summed if ibn == "b" else plain)(in_channels, planes, stride, shortcut)
    if ibn == "a":
        block.bn1 = IBN(planes)
    return block


class IBN(nn.Module):
    """The IBN-a layer: instance norm on the first half of the channels, batch norm on the others.

    Args:
        num_channels: even in every ResNet. Of an odd number, batch norm takes one more; the released layer fails.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.num_instance = num_channels // 2
        self.IN = InstanceNorm(self.num_instance)
        self.BN = nn.BatchNorm2d(num_channels - self.num_instance)

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """Normalise [B, C, H, W] to the same shape."""
        first, second = map_BCHW.tensor_split([self.num_instance], dim=1)
        return torch.cat([self.IN(first), self.BN(second)], dim=1)


class BasicBlockIBNb(BasicBlock):
    """A two-convolution block with an instance norm between the residual sum and the last ReLU."""

    def __init__(self, in_channels: int, planes: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__(in_channels, planes, stride, downsample)
        self.IN = InstanceNorm(planes)

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """Compute [B, planes, ceil(H / stride), ceil(W / stride)]."""
        shortcut = map_BCHW if self.downsample is None else self.downsample(map_BCHW)
        out = self.relu(self.bn1(self.conv1(map_BCHW)))
        out = self.bn2(self.conv2(out))
        out_BCHW: Tensor = self.relu(self.IN(out + shortcut))
        return out_BCHW


class BottleneckIBNb(Bottleneck):
    """A three-convolution block with an instance norm between the residual sum and the last ReLU."""

    def __init__(self, in_channels: int, planes: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__(in_channels, planes, stride, downsample)
        self.IN = InstanceNorm(planes * self.expansion)

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """Compute [B, 4 * planes, ceil(H / stride), ceil(W / stride)]."""
        shortcut = map_BCHW if self.downsample is None else self.downsample(map_BCHW)
        out = self.relu(self.bn1(self.conv1(map_BCHW)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out_BCHW: Tensor = self.relu(self.IN(out + shortcut))
        return out_BCHW
