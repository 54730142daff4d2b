"""What a dense match of two images says about whether they show the same person."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from reid.matchers._base import LOGIT_SCALE
from reid.matchers._dense import DenseDirection, DenseStep, sample
from reid.matchers._evidence import Evidence


class EvidenceHead(nn.Module):
    """Logit of "same person" from the evidence, by a linear layer.

    Weights start with the signs that evidence must have, so that an untrained layer does not rank backwards, and the
    bias so that pairs of one person, which matching is trained on, are not far from an even chance.

    Args:
        has_entropy: whether there are anchors, and so their entropy.
    """

    def __init__(self, *, has_entropy: bool) -> None:
        super().__init__()
        signs = (1.0, -1.0, 1.0, 1.0, -1.0) if has_entropy else (1.0, -1.0, 1.0, 1.0)
        self.linear = nn.Linear(len(signs), 1)
        self.linear.weight.data.copy_(torch.tensor([signs]))
        nn.init.constant_(self.linear.bias, -1.5)

    def forward(self, found: Evidence) -> Tensor:
        """Logits, [N]."""
        with torch.autocast(found.certainty_N.device.type, enabled=False):
            logit_N: Tensor = LOGIT_SCALE * self.linear(found.stacked()).squeeze(1)
        return logit_N


def evidence(both: DenseDirection, own_NCHW: Tensor, other_NCHW: Tensor, stride: int, cycle_px: float) -> Evidence:
    """Weigh the matches of N / 2 pairs.

    Args:
        both: N matches: those of each pair's query in its gallery image, then those of its gallery in its query image.
        own_NCHW: features to compare, of the matched images, [N, C, h, w].
        other_NCHW: of the images they were matched with.
        stride: of these features, pixels.
        cycle_px: a cell that comes back within this distance counts as come back.
    """
    with torch.autocast(own_NCHW.device.type, enabled=False):
        finest = both.finest
        there, back = finest.certainty_NHW.sigmoid().mean((1, 2)).chunk(2)
        entropy_N = None if both.anchor_logit_NAHW is None else _of_pairs(_entropy(both.anchor_logit_NAHW))
        return Evidence(
            certainty_N=(there + back) / 2,
            gap_N=(there - back).abs(),
            similarity_N=_of_pairs(_similarity(finest, own_NCHW, other_NCHW, stride)),
            cycle_N=_of_pairs(_returning(finest, cycle_px)),
            entropy_N=entropy_N,
        )


def _of_pairs(value_N: Tensor) -> Tensor:
    there, back = value_N.chunk(2)
    return (there + back) / 2


def _entropy(logit_NAHW: Tensor) -> Tensor:
    log_share_NAHW = logit_NAHW.log_softmax(1)
    entropy_NHW = -(log_share_NAHW.exp() * log_share_NAHW).sum(1)
    return entropy_NHW.mean((1, 2)) / math.log(max(2, logit_NAHW.shape[1]))


def _similarity(finest: DenseStep, own_NCHW: Tensor, other_NCHW: Tensor, stride: int) -> Tensor:
    """By the mean warp and certainty of each coarse cell. What lies outside the other image is similar to nothing."""
    size = (own_NCHW.shape[2], own_NCHW.shape[3])
    certainty_NHW = functional.adaptive_avg_pool2d(finest.certainty_NHW.sigmoid(), size)
    warp_N2HW = functional.adaptive_avg_pool2d(finest.warp_NHW2.permute(0, 3, 1, 2), size)
    there_NCHW = sample(other_NCHW, warp_N2HW.permute(0, 2, 3, 1), stride)
    cosine_NHW = (functional.normalize(own_NCHW, dim=1) * functional.normalize(there_NCHW, dim=1)).sum(1)
    total_N = certainty_NHW.sum((1, 2)).clamp(min=torch.finfo(certainty_NHW.dtype).tiny)
    return (certainty_NHW * cosine_NHW).sum((1, 2)) / total_N


def _returning(finest: DenseStep, cycle_px: float) -> Tensor:
    """A soft share: it has a gradient, and no cell near the limit turns a score over."""
    warp_NHW2 = finest.warp_NHW2
    back_NHW2 = torch.cat(warp_NHW2.chunk(2)[::-1]) - finest.centres  # displacements, which a border goes on with
    found_N2HW = sample(back_NHW2.permute(0, 3, 1, 2), warp_NHW2, finest.stride, beyond="border")
    miss_NHW2 = warp_NHW2 + found_N2HW.permute(0, 2, 3, 1) - finest.centres
    distance_NHW = (miss_NHW2.square().sum(3) + 1e-6).sqrt()
    return (4 * (1 - distance_NHW / cycle_px)).sigmoid().mean((1, 2))
