"""Batch norms at inference."""

from __future__ import annotations

from torch import Tensor
from torch.nn import BatchNorm1d


def affine(norm: BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Scale and shift, [C] each, that a batch norm with running statistics and weights comes to in eval mode."""
    scale_C = norm.weight * (norm.get_buffer("running_var") + norm.eps).rsqrt()
    return scale_C, norm.bias - norm.get_buffer("running_mean") * scale_C
