"""Places on an image: the centre of its first pixel is (0.5, 0.5)."""

from __future__ import annotations

import torch
from torch import Tensor


def cell_centres(height: int, width: int, stride: float, like: Tensor) -> Tensor:
    """(x, y) of the centres of a grid's cells in pixels, [height, width, 2], dtype and device as ``like``."""
    y_H = (torch.arange(height, dtype=like.dtype, device=like.device) + 0.5) * stride
    x_W = (torch.arange(width, dtype=like.dtype, device=like.device) + 0.5) * stride
    return torch.stack((x_W.expand(height, width), y_H[:, None].expand(height, width)), dim=2)
