"""Batch norms without the tensor they normalise."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import BatchNorm1d


def affine(norm: BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Scale and shift, [C] each, that a batch norm with running statistics and weights comes to in eval mode."""
    scale_C = norm.weight * (norm.get_buffer("running_var") + norm.eps).rsqrt()
    return scale_C, norm.bias - norm.get_buffer("running_mean") * scale_C


def normalised_linear(linear: nn.Linear, norm: BatchNorm1d, row_XS: Tensor) -> tuple[Tensor, Tensor]:
    """Weight, [F, S], and bias, [F], of the linear layer that ``norm(linear(rows))`` comes to.

    In training mode with the statistics of these rows, with exact gradients, and ``norm``'s running statistics follow.
    Mean and variance of the outputs come from mean and covariance of the inputs, ``W mean + b`` and
    ``diag(W cov W^T)``: the outputs themselves, many times as large, need not exist.

    Args:
        linear: S to F features.
        norm: over the F features.
        row_XS: its inputs, [X, S]; at least 2 in training mode.
    """
    if not norm.training:
        scale_F, shift_F = affine(norm)
        return scale_F[:, None] * linear.weight, scale_F * linear.bias + shift_F
    mean_S = row_XS.mean(0)
    centred_XS = row_XS - mean_S
    covariance_SS = centred_XS.T @ centred_XS / len(row_XS)
    variance_F = ((linear.weight @ covariance_SS) * linear.weight).sum(1)
    _follow(norm, linear(mean_S), variance_F * (len(row_XS) / (len(row_XS) - 1)))
    weight_FS = (norm.weight * (variance_F + norm.eps).rsqrt())[:, None] * linear.weight
    # The layer's own bias cancels; its gradient is zero, not missing, so that weight decay reaches it.
    return weight_FS, norm.bias - weight_FS @ mean_S + 0 * linear.bias


@torch.no_grad()
def _follow(norm: BatchNorm1d, mean_F: Tensor, variance_F: Tensor) -> None:
    """Update running statistics as the module itself does; ``variance_F`` is the unbiased one."""
    num_batches = norm.get_buffer("num_batches_tracked").add_(1)
    momentum = 1 / int(num_batches) if norm.momentum is None else norm.momentum
    norm.get_buffer("running_mean").lerp_(mean_F, momentum)
    norm.get_buffer("running_var").lerp_(variance_F, momentum)
